// SPDX-License-Identifier: Apache-2.0
// @discordjs/ws: its WebSocketManager with its own REST client.
import { installed, obey, say, Seen, settings } from "./report.mjs";

const { CompressionMethod, WebSocketManager, WebSocketShardEvents } = installed("@discordjs/ws");
const { REST } = installed("@discordjs/rest");

const seen = new Seen();
const rest = new REST({ api: settings.api.replace(/\/v10$/, "") }).setToken(settings.token);
const manager = new WebSocketManager({
  token: settings.token,
  intents: settings.intents,
  shardCount: settings.shards,
  rest,
  compression: settings.compress === "zlib" ? CompressionMethod.ZlibNative : null,
  useIdentifyCompression: settings.compress === "payload",
});
manager.on(WebSocketShardEvents.Ready, (_, shard) => say({ event: "ready", shard }));
manager.on(WebSocketShardEvents.Resumed, (shard) => say({ event: "resumed", shard }));
manager.on(WebSocketShardEvents.Dispatch, ({ t, d }) => seen.packet(t, d));
manager.on(WebSocketShardEvents.Debug, (text, shard) => console.error(`shard ${shard}: ${text}`));
manager.on(WebSocketShardEvents.Error, (error, shard) => console.error(`shard ${shard}:`, error));
manager.connect().catch((error) => {
  console.error(error);
  process.exit(1);
});
await obey(seen, { end: () => manager.destroy() });
