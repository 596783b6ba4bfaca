// SPDX-License-Identifier: Apache-2.0
// discord.js: its Client, with its cache.
import { installed, obey, say, Seen, settings } from "./report.mjs";

const { Client, Events } = installed("discord.js");

const seen = new Seen();
const client = new Client({
  intents: settings.intents,
  rest: { api: settings.api.replace(/\/v10$/, "") },
  shards: [...Array(settings.shards).keys()],
  shardCount: settings.shards,
});
client.on(Events.ShardReady, (shard) => say({ event: "ready", shard }));
client.on(Events.ShardResume, (shard) => say({ event: "resumed", shard }));
client.on(Events.Raw, ({ t, d }) => seen.packet(t, d));
client.on(Events.MessageCreate, () => seen.message());
client.on(Events.Debug, (text) => console.error(text));
client.on(Events.ShardError, (error, shard) => console.error(`shard ${shard}:`, error));
client.login(settings.token).catch((error) => {
  console.error(error);
  process.exit(1);
});
await obey(seen, {
  end: () => client.destroy(),
  more: () => ({ guilds: client.guilds.cache.filter((guild) => guild.available).size }),
});
