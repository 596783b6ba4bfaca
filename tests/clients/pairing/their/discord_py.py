# SPDX-License-Identifier: Apache-2.0
"""A bot of discord.py."""

import json
from typing import Any

import discord

from tests.clients.pairing.their.record import Record


def listen(bot: Any) -> None:
    """Write down what it gets."""
    record = Record()
    # As enable_debug_events=True does, which the documented lines have no need of.
    bot._enable_debug_events = True

    dispatch = bot.dispatch

    def at_once(name: str, *arguments: Any, **named: Any) -> None:
        """Where discord.py reads an event: it starts tasks for its listeners then, and acknowledges
        at once.
        """
        if name == "socket_raw_receive":
            packet = json.loads(arguments[0])
            if packet["op"] == 0:
                record.packet(packet["t"], packet["d"])
        dispatch(name, *arguments, **named)

    bot.dispatch = at_once

    async def on_message(message: object) -> None:
        record.line("message")

    @bot.command()  # type: ignore[untyped-decorator]
    async def ping(context: Any) -> None:
        await context.send("pong")

    async def on_ready() -> None:
        record.line("cached", len([guild for guild in bot.guilds if not guild.unavailable]))
        if record.asks:
            await bot.change_presence(activity=discord.Game("paired"))
            found = await bot.guilds[0].query_members(query="member", limit=5)
            record.line("members", len(found))

    async def on_error(interaction: object, error: object) -> None:
        """Of the commands that the simulator's users type, this bot has none."""

    bot.tree.on_error = on_error
    for listener in (on_message, on_ready):
        bot.add_listener(listener)
