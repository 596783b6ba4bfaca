# SPDX-License-Identifier: Apache-2.0
"""The few fields of Discord's objects that an image looks at. All else stays raw."""

from typing import Annotated, Any, Final

import msgspec

# Ids are text; now and then one comes as a number (Discord: Reference, ID Serialization).
Id = str | Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

Fields = dict[str, msgspec.Raw]

read_fields: Final = msgspec.json.Decoder(Fields).decode
"""An object split at its own fields. They refer to what was read."""

read_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
read_ids: Final = msgspec.json.Decoder(list[Id]).decode


class HasId(msgspec.Struct):
    """A channel, a thread, a role, a user, …"""

    id: Id

    @property
    def key(self) -> str:
        return str(self.id)


class HasUser(msgspec.Struct):
    """A member or a presence: known by the id of its user."""

    user: HasId

    @property
    def key(self) -> str:
        return self.user.key


class HasUserId(msgspec.Struct):
    """A voice state."""

    user_id: Id

    @property
    def key(self) -> str:
        return str(self.user_id)


class HasSoundId(msgspec.Struct):
    """A sound of the soundboard."""

    sound_id: Id

    @property
    def key(self) -> str:
        return str(self.sound_id)


Keyed = HasId | HasUser | HasUserId | HasSoundId


class OfGuild(msgspec.Struct):
    """What most events have that are about a guild."""

    guild_id: Id


class MaybeUnavailable(msgspec.Struct):
    """GUILD_CREATE, GUILD_UPDATE, GUILD_DELETE."""

    id: Id
    unavailable: Any = None

    @property
    def key(self) -> str:
        return str(self.id)


def encoded(value: object) -> msgspec.Raw:
    """``value``, which may hold raw parts, as JSON."""
    return msgspec.Raw(msgspec.json.encode(value))


def without(body: bytes | msgspec.Raw, *names: str) -> msgspec.Raw:
    """An object without some of its fields.

    Raises:
        DECODE_ERRORS: it is no object.
    """
    fields = read_fields(body)
    for name in names:
        fields.pop(name, None)
    return encoded(fields)


def merged(old: msgspec.Raw | None, new: msgspec.Raw) -> msgspec.Raw:
    """The fields of ``old`` with those of ``new`` over them.

    Raises:
        DECODE_ERRORS: one is no object.
    """
    return new if old is None else encoded({**read_fields(old), **read_fields(new)})
