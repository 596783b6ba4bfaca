# SPDX-License-Identifier: Apache-2.0
"""discord.py's AutoShardedClient, told where the simulator is by its public attributes."""

import asyncio
import json
import logging
import sys
from typing import Any

from tests.clients.drivers.report import Seen, obey, say, settings

SETTINGS = settings()
if SETTINGS["compress"] == "zlib":
    # It takes zstd-stream wherever one of these can be imported, and zlib-stream elsewhere.
    sys.modules["zstandard"] = None  # type: ignore[assignment]
    sys.modules["compression.zstd"] = None  # type: ignore[assignment]  # of Python 3.14

import discord  # noqa: E402
import yarl  # noqa: E402


async def at_once(shard_id: int | None, *, initial: bool = False) -> None:
    """Replaces the hook that waits 5 s; its documentation says to override it."""


async def main() -> None:
    discord.http.Route.BASE = SETTINGS["api"]
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(SETTINGS["gateway"])
    seen = Seen()
    client = discord.AutoShardedClient(
        intents=discord.Intents(SETTINGS["intents"]),
        shard_count=SETTINGS["shards"],
        enable_debug_events=True,
        chunk_guilds_at_startup=False,
    )
    if not SETTINGS["paced"]:
        client.before_identify_hook = at_once
    _listen(client, seen)
    async with client:
        running = asyncio.create_task(client.start(SETTINGS["token"]))
        await obey(seen, running, end=client.close, more=lambda: {"guilds": len(client.guilds)})


def _listen(client: Any, seen: Seen) -> None:
    async def on_shard_ready(shard_id: int) -> None:
        say(event="ready", shard=shard_id)

    async def on_shard_resumed(shard_id: int) -> None:
        say(event="resumed", shard=shard_id)

    async def on_socket_raw_receive(text: str) -> None:
        packet = json.loads(text)
        if packet["op"] == 0:
            seen.packet(packet["t"], packet["d"])

    async def on_message(message: object) -> None:
        seen.message()

    for listener in (on_shard_ready, on_shard_resumed, on_socket_raw_receive, on_message):
        client.event(listener)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(main())
