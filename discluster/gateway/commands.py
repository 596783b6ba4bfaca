# SPDX-License-Identifier: Apache-2.0
"""What a bot may ask of Discord over the gateway (Discord: Gateway Events, Send Events).

A command is judged before it is queued: Discord answers one that is too long by ending the
connection (4002), and ignores without a word one that breaks another of its bounds.
"""

from typing import Final, Literal

import msgspec

from discluster.errors import CommandError

MAXIMUM_PAYLOAD: Final = 4096  # bytes (Discord: Gateway, Sending Events)
MAXIMUM_NONCE: Final = 32  # bytes
MAXIMUM_USERS: Final = 100
MAXIMUM_FOUND: Final = 100  # members that a prefix search gives
_SNOWFLAKES: Final = range(1, 2**64)

PresenceStatus = Literal["online", "dnd", "idle", "invisible", "offline"]
ChannelField = Literal["status", "voice_start_time"]


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a presence (Discord: Gateway Events, Activity Object).

    ``type``: 0 playing, 1 streaming, 2 listening, 3 watching, 4 custom, 5 competing. ``state``:
    the text of a custom status. ``url``: of a stream.
    """

    name: str
    type: int = 0
    state: str | msgspec.UnsetType = msgspec.UNSET
    url: str | msgspec.UnsetType = msgspec.UNSET


class UpdatePresence(msgspec.Struct, frozen=True, kw_only=True):
    """Op 3: what the bot shows itself as, on the guilds of one shard.

    At most five in 20 seconds. It outlives a RESUME; a new session (READY) begins without it.
    ``since``: when it went idle, milliseconds since 1970 UTC.
    """

    status: PresenceStatus = "online"
    activities: tuple[Activity, ...] = ()
    since: int | None = None
    afk: bool = False


class RequestGuildMembers(msgspec.Struct, frozen=True, kw_only=True):
    """Op 8: members of one guild, answered by GUILD_MEMBERS_CHUNK events.

    Either ``query``, a prefix of the name, with ``limit``, or ``user_ids``, at most 100. ``query``
    "" with ``limit`` 0 asks for all members: that needs the intent GUILD_MEMBERS, and a guild is
    asked at most once in 30 seconds. ``nonce``: at most 32 bytes, comes back with the answer.
    """

    guild_id: int
    query: str | None = None
    limit: int = 0
    user_ids: tuple[int, ...] = ()
    presences: bool = False
    nonce: str | None = None

    @property
    def everybody(self) -> bool:
        """Whether it asks for all members."""
        return self.query == "" and self.limit == 0


class UpdateVoiceState(msgspec.Struct, frozen=True, kw_only=True):
    """Op 4: joins or moves to a voice channel; ``channel_id`` None: leaves."""

    guild_id: int
    channel_id: int | None = None
    self_mute: bool = False
    self_deaf: bool = False


class RequestSoundboardSounds(msgspec.Struct, frozen=True, kw_only=True):
    """Op 31: answered by one SOUNDBOARD_SOUNDS event for each guild."""

    guild_ids: tuple[int, ...]


class RequestChannelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Op 43: what is set for the voice channels of a guild, answered by CHANNEL_INFO."""

    guild_id: int
    fields: tuple[ChannelField, ...] = ("status", "voice_start_time")


Command = (
    UpdatePresence
    | RequestGuildMembers
    | UpdateVoiceState
    | RequestSoundboardSounds
    | RequestChannelInfo
)


def shard_of(guild_id: int, shard_count: int) -> int:
    """The shard that a guild belongs to (Discord: Gateway, Sharding)."""
    return (guild_id >> 22) % shard_count


def payload(command: Command, *, shard: int, shard_count: int) -> bytes:
    """The command as ``shard`` sends it.

    Raises:
        CommandError: Discord would not take it, or not from this shard.
    """
    for guild in _guilds(command):
        _check_guild(guild, shard, shard_count)
    op, data = _body(command)
    encoded = msgspec.json.encode({"op": op, "d": data})
    if len(encoded) > MAXIMUM_PAYLOAD:
        raise CommandError(
            f"{type(command).__name__} has {len(encoded)} bytes",
            hint=f"Discord takes at most {MAXIMUM_PAYLOAD}: split it into several commands",
        )
    return encoded


def _guilds(command: Command) -> tuple[int, ...]:
    if isinstance(command, UpdatePresence):
        return ()
    if isinstance(command, RequestSoundboardSounds):
        return command.guild_ids
    return (command.guild_id,)


def _check_guild(guild: int, shard: int, shard_count: int) -> None:
    if guild not in _SNOWFLAKES:
        raise CommandError(f"{guild} is no guild's id", hint="ids are positive 64-bit numbers")
    if (owner := shard_of(guild, shard_count)) != shard:
        raise CommandError(
            f"guild {guild} belongs to shard {owner}, not to shard {shard}",
            hint="shard_of(guild_id, shard_count) gives the shard; an event names its own",
        )


def _body(command: Command) -> tuple[int, object]:
    match command:
        case UpdatePresence():
            return 3, command
        case UpdateVoiceState():
            channel = command.channel_id
            return 4, {
                "guild_id": str(command.guild_id),
                "channel_id": None if channel is None else str(channel),
                "self_mute": command.self_mute,
                "self_deaf": command.self_deaf,
            }
        case RequestGuildMembers():
            return 8, _members(command)
        case RequestSoundboardSounds():
            if not command.guild_ids:
                raise CommandError("no guild is asked about", hint="give at least one guild id")
            return 31, {"guild_ids": [str(guild) for guild in command.guild_ids]}
        case RequestChannelInfo():
            if not command.fields:
                raise CommandError("no field is asked for", hint="status or voice_start_time")
            return 43, {"guild_id": str(command.guild_id), "fields": command.fields}


def _members(command: RequestGuildMembers) -> dict[str, object]:
    data: dict[str, object] = {"guild_id": str(command.guild_id)}
    if (command.query is None) == (not command.user_ids):
        raise CommandError(
            "members are asked for either by query or by user_ids",
            hint='query="" with limit=0 asks for all of them',
        )
    if command.query is None:
        data["user_ids"] = _users(command.user_ids)
    else:
        data |= {"query": command.query, "limit": _limit(command.query, command.limit)}
    if command.presences:
        data["presences"] = True
    if command.nonce is not None:
        if len(command.nonce.encode()) > MAXIMUM_NONCE:
            raise CommandError(
                f"the nonce has {len(command.nonce.encode())} bytes",
                hint=f"Discord ignores one of more than {MAXIMUM_NONCE}",
            )
        data["nonce"] = command.nonce
    return data


def _users(users: tuple[int, ...]) -> list[str]:
    if len(users) > MAXIMUM_USERS:
        raise CommandError(
            f"{len(users)} members are asked for by id",
            hint=f"Discord takes at most {MAXIMUM_USERS}: send several requests",
        )
    return [str(user) for user in users]


def _limit(query: str, limit: int) -> int:
    lowest = 0 if query == "" else 1
    if not lowest <= limit <= MAXIMUM_FOUND:
        raise CommandError(
            f"limit is {limit}",
            hint=f"with a query it is {lowest} to {MAXIMUM_FOUND}; 0 asks for all members and"
            ' goes with query="" only',
        )
    return limit
