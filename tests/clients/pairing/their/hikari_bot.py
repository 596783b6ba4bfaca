# SPDX-License-Identifier: Apache-2.0
"""A bot of hikari."""

from typing import Any

import hikari

from tests.clients.pairing.their.record import Record


def listen(bot: hikari.GatewayBot) -> None:
    """Write down what it gets."""
    record = Record()

    # Where hikari reads an event: it starts tasks for its listeners then, and acknowledges at once.
    manager = type(bot.event_manager)
    consume = manager.consume_raw_event

    def consume_raw_event(self: Any, name: str, shard: Any, payload: Any) -> None:
        record.packet(name, payload)
        consume(self, name, shard, payload)

    manager.consume_raw_event = consume_raw_event

    async def on_message(event: hikari.GuildMessageCreateEvent) -> None:
        record.line("message")
        if event.content == "!ping":
            await event.message.respond("pong")

    async def on_started(event: hikari.StartedEvent) -> None:
        if record.asks:
            await bot.update_presence(activity=hikari.Activity(name="paired"))
            cache = bot.cache
            known = (*cache.get_available_guilds_view(), *cache.get_unavailable_guilds_view())
            await bot.request_guild_members(known[0], query="member", limit=5)

    async def on_payload(event: hikari.ShardPayloadEvent) -> None:
        # MemberChunkEvent needs the intent GUILD_MEMBERS.
        if event.name == "GUILD_MEMBERS_CHUNK":
            record.line("members", len(event.payload["members"]))

    async def on_available(event: hikari.GuildAvailableEvent) -> None:
        record.line("cached", len(bot.cache.get_available_guilds_view()))

    bot.subscribe(hikari.ShardPayloadEvent, on_payload)
    bot.subscribe(hikari.GuildMessageCreateEvent, on_message)
    bot.subscribe(hikari.StartedEvent, on_started)
    bot.subscribe(hikari.GuildAvailableEvent, on_available)
