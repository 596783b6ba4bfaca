# SPDX-License-Identifier: Apache-2.0
"""What a library sends, read as a command (Discord: Gateway Events, Send Events).

Lenient where Discord is: ids are text or numbers, and fields that it ignores are left out. What
Discord would not take is refused when the command is judged (:mod:`discluster.gateway.commands`).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Final, TypeVar

import msgspec

from discluster.errors import CommandError
from discluster.gateway.commands import (
    Activity,
    ChannelField,
    Command,
    PresenceStatus,
    RequestChannelInfo,
    RequestGuildMembers,
    RequestSoundboardSounds,
    UpdatePresence,
    UpdateVoiceState,
)

_T = TypeVar("_T")
_Id = Annotated[int, msgspec.Meta(ge=0)]


class _Activity(msgspec.Struct):
    name: str = ""
    type: int = 0
    state: str | None = None
    url: str | None = None


class _Presence(msgspec.Struct):
    """``game``: what libraries of old send in place of ``activities``. A ``status`` of null is
    what discord.py has in IDENTIFY where the bot set none.
    """

    status: PresenceStatus | None = None
    activities: list[_Activity] | None = None
    game: _Activity | None = None
    since: float | None = None
    afk: bool | None = None


class _VoiceState(msgspec.Struct):
    guild_id: _Id
    channel_id: _Id | None = None
    self_mute: bool = False
    self_deaf: bool = False


class _Members(msgspec.Struct):
    guild_id: _Id
    query: str | None = None
    limit: int = 0
    user_ids: _Id | list[_Id] | None = None
    presences: bool | None = None
    nonce: str | None = None


class _Sounds(msgspec.Struct):
    guild_ids: list[_Id]


class _ChannelInfo(msgspec.Struct):
    guild_id: _Id
    fields: list[ChannelField]


def command_of(op: int, data: bytes | msgspec.Raw) -> Command:
    """The command that a payload with this ``op`` and this ``d``, as JSON, asks for.

    Raises:
        CommandError: it is none of :data:`COMMANDS`, or ``d`` does not fit it.
    """
    read = COMMANDS.get(op)
    if read is None:
        raise CommandError(
            f"op {op} is no command",
            hint=f"what can be sent through a shard is op {', '.join(map(str, COMMANDS))}",
        )
    try:
        return read(data)
    except msgspec.DecodeError as error:
        raise CommandError(
            f"op {op} cannot be read: {error}", hint="see Discord: Gateway Events, Send Events"
        ) from None


def _presence(data: bytes | msgspec.Raw) -> Command:
    asked = _decoded(data, _Presence)
    shown = asked.activities if asked.activities is not None else [asked.game]
    return UpdatePresence(
        status=asked.status or "online",
        activities=tuple(_activity(one) for one in shown if one is not None),
        since=None if asked.since is None else int(asked.since),
        afk=bool(asked.afk),
    )


def _activity(asked: _Activity) -> Activity:
    return Activity(
        name=asked.name,
        type=asked.type,
        state=msgspec.UNSET if asked.state is None else asked.state,
        url=msgspec.UNSET if asked.url is None else asked.url,
    )


def _voice_state(data: bytes | msgspec.Raw) -> Command:
    asked = _decoded(data, _VoiceState)
    return UpdateVoiceState(
        guild_id=asked.guild_id,
        channel_id=asked.channel_id,
        self_mute=asked.self_mute,
        self_deaf=asked.self_deaf,
    )


def _members(data: bytes | msgspec.Raw) -> Command:
    """Of ids and a query Discord takes the ids: hikari always sends an empty query, too."""
    asked = _decoded(data, _Members)
    users = asked.user_ids if isinstance(asked.user_ids, list) else [asked.user_ids]
    ids = tuple(user for user in users if user is not None)
    return RequestGuildMembers(
        guild_id=asked.guild_id,
        query=None if ids else asked.query,
        limit=0 if ids else asked.limit,
        user_ids=ids,
        presences=bool(asked.presences),
        nonce=asked.nonce,
    )


def _sounds(data: bytes | msgspec.Raw) -> Command:
    return RequestSoundboardSounds(guild_ids=tuple(_decoded(data, _Sounds).guild_ids))


def _channel_info(data: bytes | msgspec.Raw) -> Command:
    asked = _decoded(data, _ChannelInfo)
    return RequestChannelInfo(guild_id=asked.guild_id, fields=tuple(asked.fields))


def _decoded(data: bytes | msgspec.Raw, shape: type[_T]) -> _T:
    return msgspec.json.decode(data, type=shape, strict=False)


COMMANDS: Final[Mapping[int, Callable[[bytes | msgspec.Raw], Command]]] = MappingProxyType(
    {3: _presence, 4: _voice_state, 8: _members, 31: _sounds, 43: _channel_info}
)
"""By op: what reads the ``d`` of each command that a bot may send."""
