# SPDX-License-Identifier: Apache-2.0
"""The handler of an example's bot, whose library takes the simulator for Discord's HTTP API.

It is told so by a public attribute of the library. To the bot come two listeners: one notes every
counted event, so that SIGKILL cannot take it back; one tells what the caches hold.
"""

import importlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

API = "TEST_DISCORD_API"
LIBRARY = "TEST_LIBRARY"
NOTES = "TEST_NOTES"
MODULE = "TEST_BOT"
STATE = "!state"
LEAVE = "!leave-voice"


def handler() -> Any:
    """For `handler` of cluster.yaml."""
    watch = {"discord.py": _discord_py, "hikari": _hikari}[os.environ[LIBRARY]](os.environ[API])
    module = importlib.import_module(os.environ[MODULE])
    made = module.handler()
    watch(module.bot, Notes(Path(os.environ[NOTES])))
    return made


class Notes:
    """One file for each process; one write(2) for each event."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        path = directory / f"{os.getpid()}-{time.monotonic_ns()}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)

    def event(self, body: object) -> None:
        """A body as the library decoded it."""
        if isinstance(body, Mapping) and "_count" in body:
            os.write(self._file, f"{body['guild_id']} {body['_count']}\n".encode())


def read(directory: Path) -> set[tuple[int, int]]:
    """Guild and count of all events that were noted by any process."""
    lines = [line.split() for file in directory.iterdir() for line in file.read_text().splitlines()]
    return {(int(guild), int(count)) for guild, count in lines}


Watch = Callable[[Any, Notes], None]


def _discord_py(api: str) -> Watch:
    import discord

    discord.http.Route.BASE = api
    return _watch_discord_py


def _watch_discord_py(bot: Any, notes: Notes) -> None:
    # As by the arguments enable_debug_events and guild_ready_timeout where the bot is made.
    bot._enable_debug_events = True
    bot._connection.guild_ready_timeout = 0.2

    async def on_socket_raw_receive(text: str) -> None:
        notes.event(json.loads(text)["d"])

    async def on_message(message: Any) -> None:
        if message.content == STATE:
            state = {
                "guilds": sum(not guild.unavailable for guild in bot.guilds),
                "channels": sum(len(guild.text_channels) for guild in bot.guilds),
                "shards": sorted(getattr(bot, "shards", ())),
                "ready": bot.is_ready(),
                "latency": bot.latency,
                "me": message.guild.me is not None,
            }
            await message.channel.send(json.dumps(state))
        if message.content == LEAVE:
            await message.guild.change_voice_state(channel=None)
            await message.channel.send("left")

    bot.add_listener(on_socket_raw_receive)
    bot.add_listener(on_message)


def _hikari(api: str) -> Watch:
    import hikari

    hikari.urls.REST_API_URL = api
    return _watch_hikari


def _watch_hikari(bot: Any, notes: Notes) -> None:
    import hikari

    started: list[str] = []

    async def on_payload(event: Any) -> None:
        notes.event(event.payload)

    async def on_started(event: Any) -> None:
        started.append(type(event).__name__)

    async def on_message(event: Any) -> None:
        if event.content == STATE:
            state = {
                "guilds": len(bot.cache.get_available_guilds_view()),
                "channels": len(bot.cache.get_guild_channels_view()),
                "shards": sorted(bot.shards),
                "ready": started == ["StartingEvent", "StartedEvent"],
                "latency": bot.heartbeat_latency,
                "me": bot.cache.get_member(event.guild_id, bot.get_me()) is not None,
            }
            await event.message.respond(json.dumps(state))
        if event.content == LEAVE:
            await bot.update_voice_state(event.guild_id, None)
            await event.message.respond("left")

    bot.subscribe(hikari.ShardPayloadEvent, on_payload)
    bot.subscribe(hikari.GuildMessageCreateEvent, on_message)
    bot.subscribe(hikari.StartingEvent, on_started)
    bot.subscribe(hikari.StartedEvent, on_started)
