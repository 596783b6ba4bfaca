// SPDX-License-Identifier: Apache-2.0
// @discordjs/ws with its simple strategy, which hands over parsed payloads.
import { EVENT, INTENTS, count, orders, require, say } from "./orders.mjs";

const { CompressionMethod, WebSocketManager, WebSocketShardEvents } = require("@discordjs/ws");

const information = {
  url: orders.gateway,
  shards: orders.shards,
  session_start_limit: { total: 1000, remaining: 1000, reset_after: 0, max_concurrency: 64 },
};
const manager = new WebSocketManager({
  token: orders.token,
  intents: INTENTS,
  shardCount: orders.shards,
  rest: { get: async () => information },
  compression: orders.compression === "zlib" ? CompressionMethod.ZlibNative : null,
});
manager.on(WebSocketShardEvents.Dispatch, (payload) => {
  if (payload.t === EVENT) count();
});
await manager.connect();
say("ready");
