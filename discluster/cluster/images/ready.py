# SPDX-License-Identifier: Apache-2.0
"""READY without its guilds, which are kept by themselves (Discord: Gateway Events, Ready)."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from discluster.cluster.images.shapes import HasId, merged, read_fields


class _Ready(msgspec.Struct):
    user: HasId
    guilds: list[HasId]


_ready: Final = msgspec.json.Decoder(_Ready)


class Ready:
    """What a READY says. ``me``: the bot's user id. ``guilds``: the ids that it lists."""

    def __init__(self, body: bytes | msgspec.Raw) -> None:
        """
        Raises:
            DECODE_ERRORS: there is no user or no list of guilds in it.
        """
        read = _ready.decode(body)
        self.me = read.user.key
        self.guilds = [guild.key for guild in read.guilds]
        # Copies: a part would hold on to the whole, that is, to the list of guilds.
        self._fields = {name: value.copy() for name, value in read_fields(body).items()}
        del self._fields["guilds"]

    def user_updated(self, body: bytes) -> None:
        """USER_UPDATE: the bot's own user.

        Raises:
            DECODE_ERRORS: it is no object.
        """
        self._fields["user"] = merged(self._fields["user"], msgspec.Raw(body))

    def body(self, guilds: Iterable[str], **others: Any) -> bytes:
        """As READY would be now, with ``guilds``, all unavailable, and with ``others`` instead of
        what fields of these names came in.
        """
        listed = [{"unavailable": True, "id": guild} for guild in guilds]
        return msgspec.json.encode({**self._fields, **others, "guilds": listed})
