# SPDX-License-Identifier: Apache-2.0
"""A bot whose client does not shard by itself."""

from typing import Any

import discord
from discord.ext import commands

from discluster.cluster.handlers.discord_py import DiscordPy

bot = commands.Bot(
    "!",
    intents=discord.Intents(guilds=True, members=True, guild_messages=True, message_content=True),
    chunk_guilds_at_startup=False,
)


@bot.command()  # type: ignore[untyped-decorator]
async def members(context: Any) -> None:
    await context.send(f"{len(await context.guild.chunk())} members")


@bot.command()  # type: ignore[untyped-decorator]
async def look(context: Any) -> None:
    await bot.change_presence(status=discord.Status.dnd)
    await context.send("looks dnd")


def handler() -> DiscordPy:
    return DiscordPy(bot)
