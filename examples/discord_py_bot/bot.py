# SPDX-License-Identifier: Apache-2.0
"""A bot with discord.py, run by Discluster's clusters. See README.md."""

import discord
from discord.ext import commands

from discluster.cluster.handlers.discord_py import DiscordPy

bot = commands.AutoShardedBot(
    "!",
    intents=discord.Intents(guilds=True, members=True, guild_messages=True, message_content=True),
    activity=discord.Game("on many shards"),
    chunk_guilds_at_startup=False,
)


@bot.command()
async def ping(context: commands.Context) -> None:
    """Tells which shard the guild is on."""
    await context.send(f"pong from shard {context.guild.shard_id}")


@bot.command()
async def members(context: commands.Context) -> None:
    """Asks Discord for all members, through the shard."""
    found = await context.guild.chunk()
    await context.send(f"{len(found)} members")


@bot.command()
async def look(context: commands.Context, status: str) -> None:
    """Changes what the bot looks like, in the guilds of this cluster."""
    await bot.change_presence(status=discord.Status(status))
    await context.send(f"looks {status}")


@bot.tree.command(description="Says hello")
async def hello(interaction: discord.Interaction) -> None:
    await interaction.response.send_message(f"Hello, {interaction.user.display_name}!")


@bot.event
async def on_shard_ready(shard: int) -> None:
    """Shard 0 is in one cluster of the fleet, so the commands are told once."""
    if shard == 0:
        await bot.tree.sync()


def handler() -> DiscordPy:
    """What `handler: bot:handler` in cluster.yaml names."""
    return DiscordPy(bot)
