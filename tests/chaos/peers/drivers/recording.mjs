// SPDX-License-Identifier: Apache-2.0
// Notes counted events as recording.py does, which says what a record is.
import { openSync, writeSync } from "node:fs";

const SIZE = 72;

export class Recording {
  #file;
  #shards;
  #sessions = new Map();

  constructor(directory, { first, shards }) {
    const name = `${first}-${process.pid}-${process.hrtime.bigint()}.events`;
    this.#file = openSync(`${directory}/${name}`, "ax", 0o640);
    this.#shards = BigInt(shards);
  }

  dispatch(name, body, seq) {
    if (name === "READY") this.#sessions.set(body.shard[0], body.session_id);
    else if (body?._count !== undefined) this.#note(BigInt(body.guild_id), body._count, seq);
  }

  #note(guild, count, seq) {
    const shard = Number((guild >> 22n) % this.#shards);
    const record = Buffer.alloc(SIZE);
    record.writeBigUInt64LE(guild, 0);
    record.writeBigUInt64LE(BigInt(count), 8);
    record.writeBigUInt64LE(BigInt(seq), 16);
    record.writeBigUInt64LE(process.hrtime.bigint(), 24);
    record.writeUInt32LE(shard, 32);
    record.write(this.#sessions.get(shard) ?? "", 40, 32, "latin1");
    writeSync(this.#file, record);
  }
}
