// SPDX-License-Identifier: Apache-2.0
// discord.js' Client; its raw event is counted, its objects are made beside that.
import { EVENT, INTENTS, count, orders, require, say } from "./orders.mjs";

const { Client, Events } = require("discord.js");

const client = new Client({
  intents: INTENTS,
  rest: { api: orders.api.replace(/\/v\d+$/, "") },
  shards: Array.from({ length: orders.shards }, (_, shard) => shard),
  shardCount: orders.shards,
});
client.on("raw", (payload) => {
  if (payload.t === EVENT) count();
});
client.once(Events.ClientReady, () => say("ready"));
await client.login(orders.token);
