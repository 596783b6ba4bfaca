// SPDX-License-Identifier: Apache-2.0
// A bot of eris. Its own REST client is HTTPS only, so that it answers nobody here.
import { Record } from "./record.mjs";

export function listen(client) {
  const record = new Record();
  client.on("rawWS", ({ op, t, d }) => op === 0 && record.packet(t, d));
  client.on("messageCreate", () => record.line("message"));
  client.on("debug", (text, shard) => console.error(`shard ${shard}: ${text}`));
  client.on("error", (error, shard) => console.error(`shard ${shard}:`, error));
  client.on("ready", async () => {
    record.line("cached", client.guilds.size);
    if (!record.asks) return;
    client.editStatus("online", [{ name: "paired", type: 0 }]);
    const [guild] = client.guilds.values();
    const found = await guild.fetchMembers({ query: "member", limit: 5 });
    record.line("members", found.length);
  });
}
