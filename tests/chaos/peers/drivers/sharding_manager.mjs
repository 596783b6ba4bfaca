// SPDX-License-Identifier: Apache-2.0
// discord.js: a ShardingManager. A line "respawn SHARD" on standard input is Shard.respawn().
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { installed, settings } from "../../../clients/drivers/report.mjs";

const { ShardingManager } = installed("discord.js");

const child = fileURLToPath(new URL("sharding_child.mjs", import.meta.url));
const manager = new ShardingManager(child, {
  totalShards: settings.shards,
  token: settings.token,
  shardArgs: process.argv.slice(2),
});
// Without a listener the manager would end with the first error of a child.
manager.on("shardCreate", (shard) => shard.on("error", (error) => console.error(error)));
// Its default is 5.5 s, where Discord asks for 5.
const delay = settings.identify_interval * 1100;
manager.spawn({ delay }).catch((error) => console.error(error));

for await (const line of createInterface({ input: process.stdin })) {
  const shard = Number(line.split(" ")[1]);
  manager.shards.get(shard).respawn().catch((error) => console.error(error));
}
