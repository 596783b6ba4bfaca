# SPDX-License-Identifier: Apache-2.0
"""A GUILD_CREATE taken apart as far as it is about to be changed, and no further."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from discluster.cluster.images.shapes import (
    Fields,
    HasId,
    HasSoundId,
    HasUser,
    HasUserId,
    Keyed,
    encoded,
    read_fields,
    read_raws,
)

Items = dict[str, msgspec.Raw]
"""What a list holds, by id, in its order."""


class _ListOf:
    """A list of GUILD_CREATE whose items are told apart by an id."""

    def __init__(self, shape: type[Keyed]) -> None:
        self.one: msgspec.json.Decoder[Keyed] = msgspec.json.Decoder(shape)
        self.all: msgspec.json.Decoder[list[Keyed]] = msgspec.json.Decoder(
            list[shape]  # type: ignore[valid-type]
        )


LISTS: Final[Mapping[str, _ListOf]] = {
    "channels": _ListOf(HasId),
    "guild_scheduled_events": _ListOf(HasId),
    "members": _ListOf(HasUser),
    "presences": _ListOf(HasUser),
    "roles": _ListOf(HasId),
    "soundboard_sounds": _ListOf(HasSoundId),
    "stage_instances": _ListOf(HasId),
    "threads": _ListOf(HasId),
    "voice_states": _ListOf(HasUserId),
}
"""The lists in which events change single items (Discord: Gateway Events, Guild Create)."""

_count: Final = msgspec.json.Decoder(int)


def key_of(name: str, item: bytes | msgspec.Raw) -> str:
    """The id of what belongs into the list ``name``.

    Raises:
        DECODE_ERRORS: it has none.
    """
    return LISTS[name].one.decode(item).key


class Draft:
    """One guild, to be changed. ``me``: the bot's own user id.

    What is not an object, or a list without ids, raises DECODE_ERRORS where it is looked at, before
    anything was changed.
    """

    def __init__(self, body: bytes, me: str) -> None:
        self.me = me
        self._fields: Fields = read_fields(body)
        self._items: dict[str, Items] = {}

    def items(self, name: str) -> Items:
        """The items of one of LISTS, to be changed in place; none if the guild has no such list."""
        if (known := self._items.get(name)) is not None:
            return known
        raw = self._fields.get(name)
        items: Items = {}
        if raw is not None:
            keys = (item.key for item in LISTS[name].all.decode(raw))
            items = dict(zip(keys, read_raws(raw), strict=True))
        self._items[name] = items
        return items

    def replace(self, fields: Mapping[str, Any]) -> None:
        """Sets whole fields."""
        for name, value in fields.items():
            self._items.pop(name, None)
            self._fields[name] = value if isinstance(value, msgspec.Raw) else encoded(value)

    @property
    def member_count(self) -> int | None:
        """Of all members, listed or not; None if the guild does not tell."""
        raw = self._fields.get("member_count")
        return None if raw is None else _count.decode(raw)

    def count_members(self, change: int) -> None:
        """``change`` members more."""
        if (count := self.member_count) is not None:
            self._fields["member_count"] = encoded(max(0, count + change))

    def finished(self) -> bytes:
        """The guild as it is now."""
        lists = {name: list(items.values()) for name, items in self._items.items()}
        return msgspec.json.encode(self._fields | lists)
