// SPDX-License-Identifier: Apache-2.0
// discord.js: what a ShardingManager runs for each shard; the Client finds its shard by itself.
import { installed, settings } from "../../../clients/drivers/report.mjs";
import { Recording } from "./recording.mjs";

const { Client, Events } = installed("discord.js");

const recording = new Recording(settings.recordings, {
  first: Number(process.env.SHARDS),
  shards: settings.shards,
});
const client = new Client({
  intents: settings.intents,
  rest: { api: settings.api.replace(/\/v10$/, "") },
});
client.on(Events.Raw, ({ t, d, s }) => recording.dispatch(t, d, s ?? 0));
client.on(Events.ShardError, (error, shard) => console.error(`shard ${shard}:`, error));
client.login();
