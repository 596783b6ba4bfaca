# SPDX-License-Identifier: Apache-2.0
"""hikari's GatewayBot, which makes a typed event of each."""

import asyncio
from typing import Any

import hikari
from hikari.api.shard import GatewayCompression
from hikari.impl import shard

from tests.bench.orders import INTENTS, READY, Orders, Teller, read_orders, say

_COMPRESSION = {
    "none": None,
    "zlib": GatewayCompression.TRANSPORT_ZLIB_STREAM,
    "zstd": GatewayCompression.TRANSPORT_ZSTD_STREAM,
}


async def run(orders: Orders) -> None:
    """Until it is killed."""
    # The bot does not hand this option of its shards on.
    shard.GatewayShardImpl.__init__.__kwdefaults__["compression"] = _COMPRESSION[orders.compression]
    bot = hikari.GatewayBot(
        orders.token,
        rest_url=orders.api,
        intents=hikari.Intents(INTENTS),
        banner=None,
        logs="WARNING",
        suppress_optimization_warning=True,
    )
    teller = Teller(orders.marks)

    async def on_message(event: Any) -> None:
        teller.count()

    bot.subscribe(hikari.MessageCreateEvent, on_message)
    await bot.start(
        shard_count=orders.shards, ignore_session_start_limit=True, check_for_updates=False
    )
    say(READY)
    await bot.join()


if __name__ == "__main__":
    asyncio.run(run(read_orders()))
