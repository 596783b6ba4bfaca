# SPDX-License-Identifier: Apache-2.0
"""discord.py's AutoShardedClient, which makes a Message object of each event."""

import asyncio
import sys
from typing import Any

from tests.bench.orders import READY, Orders, Teller, read_orders, say

ORDERS = read_orders()
if ORDERS.compression == "zlib":
    # It asks for zstd-stream wherever zstandard can be imported, and for zlib-stream elsewhere.
    sys.modules["zstandard"] = None  # type: ignore[assignment]

import discord  # noqa: E402
import yarl  # noqa: E402


def point_at(orders: Orders) -> None:
    """The class attributes that hold its addresses; without compression, an argument of its own."""
    gateway = discord.gateway.DiscordWebSocket
    discord.http.Route.BASE = orders.api
    gateway.DEFAULT_GATEWAY = yarl.URL(orders.gateway)
    if orders.compression == "none":
        original = gateway.from_client.__func__

        async def uncompressed(cls: Any, /, client: Any, **options: Any) -> Any:
            return await original(cls, client, **options, compress=False)

        gateway.from_client = classmethod(uncompressed)


def client(orders: Orders) -> Any:
    """Counts in ``on_message``."""
    intents = discord.Intents(guilds=True, guild_messages=True, message_content=True)
    made = discord.AutoShardedClient(intents=intents, shard_count=orders.shards)
    teller = Teller(orders.marks)

    async def on_ready() -> None:
        say(READY)

    async def on_message(message: Any) -> None:
        teller.count()

    async def before_identify_hook(shard_id: int, *, initial: bool = False) -> None:
        """By default it waits 5 s; the simulator asks for no pause."""

    made.event(on_ready)
    made.event(on_message)
    made.before_identify_hook = before_identify_hook
    return made


async def run(orders: Orders) -> None:
    """Until it is killed."""
    point_at(orders)
    async with client(orders) as bot:
        await bot.start(orders.token)


if __name__ == "__main__":
    asyncio.run(run(ORDERS))
