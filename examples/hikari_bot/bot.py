# SPDX-License-Identifier: Apache-2.0
"""A bot with hikari, run by Discluster's clusters. See README.md."""

import hikari

from discluster.cluster.handlers.hikari import Hikari, bot_token

bot = hikari.GatewayBot(
    bot_token(),
    intents=hikari.Intents.GUILDS
    | hikari.Intents.GUILD_MEMBERS
    | hikari.Intents.GUILD_MESSAGES
    | hikari.Intents.MESSAGE_CONTENT,
    auto_chunk_members=False,
    banner=None,
    logs=None,
)


@bot.listen()
async def on_message(event: hikari.GuildMessageCreateEvent) -> None:
    """The bot's commands."""
    if event.is_bot:
        return
    match (event.content or "").split():
        case ["!ping"]:
            await event.message.respond(f"pong from shard {event.shard.id}")
        case ["!members"]:
            nonce = str(event.message_id)
            with bot.stream(hikari.MemberChunkEvent, timeout=30).filter(("nonce", nonce)) as chunks:
                await bot.request_guild_members(event.guild_id, nonce=nonce)
                found = 0
                async for chunk in chunks:
                    found += len(chunk.members)
                    if chunk.chunk_index == chunk.chunk_count - 1:
                        break
            await event.message.respond(f"{found} members")
        case ["!look", status]:
            await bot.update_presence(status=hikari.Status(status))
            await event.message.respond(f"looks {status}")


@bot.listen()
async def on_shard_ready(event: hikari.ShardReadyEvent) -> None:
    """Shard 0 is in one cluster of the fleet, so the commands are told once."""
    if event.shard.id == 0:
        hello = bot.rest.slash_command_builder("hello", "Says hello")
        await bot.rest.set_application_commands(event.application_id, [hello])


@bot.listen()
async def on_hello(event: hikari.CommandInteractionCreateEvent) -> None:
    if event.interaction.command_name == "hello":
        await event.interaction.create_initial_response(
            hikari.ResponseType.MESSAGE_CREATE, f"Hello, {event.interaction.user.display_name}!"
        )


def handler() -> Hikari:
    """What `handler: bot:handler` in cluster.yaml names."""
    activity = hikari.Activity(name="on many shards")
    return Hikari(bot, activity=activity)
