# SPDX-License-Identifier: Apache-2.0
"""discord.py: one AutoShardedClient with all shards, run by ``Client.run``."""

import asyncio
import json
import logging
import sys

import discord
import yarl

from tests.chaos.peers.drivers.recording import Recording
from tests.clients.drivers.report import settings


def main() -> None:
    wanted = settings()
    discord.http.Route.BASE = wanted["api"]
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(wanted["gateway"])
    recording = Recording(wanted["recordings"], first=0, shards=wanted["shards"])
    client = discord.AutoShardedClient(
        intents=discord.Intents(wanted["intents"]),
        shard_count=wanted["shards"],
        enable_debug_events=True,
        chunk_guilds_at_startup=False,
    )

    async def before_identify_hook(shard_id: int | None, *, initial: bool = False) -> None:
        """As its own, which waits 5 s: the interval between two IDENTIFYs at Discord."""
        if not initial:
            await asyncio.sleep(wanted["identify_interval"])

    async def on_socket_raw_receive(text: str) -> None:
        packet = json.loads(text)
        if packet["op"] == 0:
            recording.dispatch(packet["t"], packet["d"], packet["s"])

    client.before_identify_hook = before_identify_hook
    client.event(on_socket_raw_receive)
    client.run(wanted["token"], log_handler=logging.StreamHandler(sys.stderr))


if __name__ == "__main__":
    main()
