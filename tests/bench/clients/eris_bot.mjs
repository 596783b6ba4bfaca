// SPDX-License-Identifier: Apache-2.0
// eris' Client, which makes a Message object of each event.
import { INTENTS, count, orders, require, say } from "./orders.mjs";

const Eris = require("eris");

const client = new Eris.Client(`Bot ${orders.token}`, {
  intents: INTENTS,
  maxShards: orders.shards,
  shardConcurrency: 64,
});
// Its HTTP client speaks TLS only; these two are where it asks for addresses.
client.getGateway = async () => ({ url: orders.gateway });
client.getBotGateway = async () => ({ url: orders.gateway, shards: orders.shards });
client.on("messageCreate", () => count());
client.once("ready", () => say("ready"));
client.on("error", (error) => console.error(error));
await client.connect();
