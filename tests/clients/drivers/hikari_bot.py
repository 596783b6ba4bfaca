# SPDX-License-Identifier: Apache-2.0
"""hikari's GatewayBot, told where the simulator is by its `rest_url`."""

import asyncio

import hikari

from tests.clients.drivers.report import Seen, obey, say, settings


async def main() -> None:
    wanted = settings()
    seen = Seen()
    bot = hikari.GatewayBot(
        wanted["token"],
        rest_url=wanted["api"],
        intents=hikari.Intents(wanted["intents"]),
        auto_chunk_members=False,
        banner=None,
    )
    _listen(bot, seen)
    await bot.start(shard_count=wanted["shards"], check_for_updates=False)
    running = asyncio.create_task(bot.join())
    cached = bot.cache.get_guilds_view
    await obey(seen, running, end=bot.close, more=lambda: {"guilds": len(cached())})


def _listen(bot: hikari.GatewayBot, seen: Seen) -> None:
    async def on_ready(event: hikari.ShardReadyEvent) -> None:
        say(event="ready", shard=event.shard.id)

    async def on_resumed(event: hikari.ShardResumedEvent) -> None:
        say(event="resumed", shard=event.shard.id)

    async def on_payload(event: hikari.ShardPayloadEvent) -> None:
        seen.packet(event.name, event.payload)

    async def on_message(event: hikari.GuildMessageCreateEvent) -> None:
        seen.message()

    bot.subscribe(hikari.ShardReadyEvent, on_ready)
    bot.subscribe(hikari.ShardResumedEvent, on_resumed)
    bot.subscribe(hikari.ShardPayloadEvent, on_payload)
    bot.subscribe(hikari.GuildMessageCreateEvent, on_message)


if __name__ == "__main__":
    asyncio.run(main())
