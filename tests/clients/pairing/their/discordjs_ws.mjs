// SPDX-License-Identifier: Apache-2.0
// A bot of @discordjs/ws. It has no cache.
import { Record } from "./record.mjs";

export function listen(manager) {
  const record = new Record();
  const guilds = new Set();
  manager.on("dispatch", ({ t, d }, shard) => {
    record.packet(t, d);
    if (t === "MESSAGE_CREATE") record.line("message");
    if (t === "MESSAGE_CREATE" && d.content === "!ping") {
      manager.options.rest.post(`/channels/${d.channel_id}/messages`, { body: { content: "pong" } });
    }
    if (t === "GUILD_MEMBERS_CHUNK") record.line("members", d.members.length);
    if (t !== "GUILD_CREATE" || guilds.has(d.id)) return;
    guilds.add(d.id);
    record.line("cached", guilds.size);
    if (!record.asks || guilds.size > 1) return;
    const asked = { guild_id: d.id, query: "member", limit: 5 };
    manager.send(shard, { op: 8, d: asked });
  });
  manager.on("ready", (_, shard) => {
    const presence = { since: null, activities: [{ name: "paired", type: 0 }], status: "online", afk: false };
    if (record.asks) manager.send(shard, { op: 3, d: presence });
  });
  manager.on("debug", (text, shard) => console.error(`shard ${shard}: ${text}`));
  manager.on("error", (error, shard) => console.error(`shard ${shard}:`, error));
}
