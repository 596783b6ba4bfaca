# SPDX-License-Identifier: Apache-2.0
"""READY, and how many guilds a shard has. Only ids are parsed out of bodies."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from discluster.decoding import DECODE_ERRORS
from discluster.gateway.envelope import Envelope


class Ready(msgspec.Struct):
    """The fields of READY that a session is made of, of whatever type they came in."""

    session_id: Any = None
    resume_gateway_url: Any = None


class _Guild(msgspec.Struct):
    id: int | str
    unavailable: Any = None


class _Guilds(msgspec.Struct):
    guilds: list[_Guild]


_ready: Final = msgspec.json.Decoder(Ready)
_guilds: Final = msgspec.json.Decoder(_Guilds)
_guild: Final = msgspec.json.Decoder(_Guild)


def parse_ready(envelope: Envelope) -> Ready:
    """What READY says of the session; all None if it cannot be read."""
    try:
        return _ready.decode(envelope.d)
    except DECODE_ERRORS:
        return Ready()


class GuildCount:
    """Follows the number of guilds through READY, GUILD_CREATE and GUILD_DELETE.

    After a RESUME in a new process the ids are not known, so that a GUILD_CREATE may as well be a
    guild that comes back from an outage: then only departures are counted.
    """

    __slots__ = ("_ids", "count")

    def __init__(self, count: int | None = None) -> None:
        self.count = count
        self._ids: set[int | str] | None = None

    def ready(self, envelope: Envelope) -> None:
        """A new session: all guilds are listed in it (Discord: Gateway Events, Ready)."""
        try:
            guilds: Iterable[_Guild] = _guilds.decode(envelope.d).guilds
        except DECODE_ERRORS:
            self._ids = self.count = None
            return
        self._ids = {_key(guild) for guild in guilds}
        self.count = len(self._ids)

    def created(self, envelope: Envelope) -> None:
        """GUILD_CREATE: a guild that became available, or one that the bot joined."""
        if self._ids is None or (guild := _decode_guild(envelope)) is None:
            return
        self._ids.add(_key(guild))
        self.count = len(self._ids)

    def deleted(self, envelope: Envelope) -> None:
        """GUILD_DELETE: with ``unavailable`` it is an outage, without it the bot was removed."""
        guild = _decode_guild(envelope)
        if guild is None or guild.unavailable:
            return
        if self._ids is not None:
            self._ids.discard(_key(guild))
            self.count = len(self._ids)
        elif self.count:
            self.count -= 1


def _decode_guild(envelope: Envelope) -> _Guild | None:
    try:
        return _guild.decode(envelope.d)
    except DECODE_ERRORS:
        return None


def _key(guild: _Guild) -> int | str:
    """Ids come as decimal strings; as integers they take a third of the memory."""
    text = str(guild.id)
    return int(text) if text.isascii() and text.isdecimal() else text
