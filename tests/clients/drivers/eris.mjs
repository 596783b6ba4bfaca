// SPDX-License-Identifier: Apache-2.0
// eris: its Client, with GET /gateway/bot asked for here, since its own REST client is HTTPS only.
import { installed, obey, say, Seen, settings } from "./report.mjs";

const Eris = installed("eris");

const seen = new Seen();
const client = new Eris.Client(`Bot ${settings.token}`, {
  intents: settings.intents,
  maxShards: settings.shards,
  shardConcurrency: "auto",
});
client.getBotGateway = async () => {
  const response = await fetch(`${settings.api}/gateway/bot`, {
    headers: {
      Authorization: `Bot ${settings.token}`,
      "User-Agent": client.requestHandler.userAgent,
    },
  });
  return response.json();
};
client.on("shardReady", (shard) => say({ event: "ready", shard }));
client.on("shardResume", (shard) => say({ event: "resumed", shard }));
client.on("rawWS", ({ t, d }) => seen.packet(t, d));
client.on("messageCreate", () => seen.message());
client.on("debug", (text, shard) => console.error(`shard ${shard}: ${text}`));
client.on("error", (error, shard) => console.error(`shard ${shard}:`, error));
client.connect();
await obey(seen, {
  end: () => client.disconnect({ reconnect: false }),
  more: () => ({ guilds: client.guilds.size }),
});
