// SPDX-License-Identifier: Apache-2.0
// A bot of discord.js.
import { Record } from "./record.mjs";

export function listen(client) {
  const record = new Record();
  client.on("raw", ({ t, d }) => record.packet(t, d));
  client.on("messageCreate", (message) => {
    record.line("message");
    if (message.content === "!ping") message.channel.send("pong");
  });
  client.on("debug", (text) => console.error(text));
  client.on("error", (error) => console.error(error));
  client.on("shardError", (error, shard) => console.error(`shard ${shard}:`, error));
  client.on("clientReady", async () => {
    const guilds = client.guilds.cache.filter((guild) => guild.available);
    record.line("cached", guilds.size);
    if (!record.asks) return;
    client.user.setPresence({ activities: [{ name: "paired" }] });
    const found = await guilds.first().members.fetch({ query: "member", limit: 5 });
    record.line("members", found.size);
  });
}
