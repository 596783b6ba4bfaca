// SPDX-License-Identifier: Apache-2.0
// record.py says what this is.
import { openSync, writeSync } from "node:fs";
import { settings } from "../../drivers/report.mjs";

export class Record {
  asks = settings.asks;
  #file = openSync(settings.record, "a");

  line(...words) {
    writeSync(this.#file, `${words.join(" ")}\n`);
  }

  // A dispatch as the library decoded it.
  packet(name, body) {
    if (name === "RESUMED") this.line("resumed");
    else if (name === "READY") this.line("ready", body.shard[0]);
    else if (name === "GUILD_CREATE") this.line("guild", body.id);
    else if (body?._count !== undefined) this.line("event", body.guild_id, body._count);
  }
}
