# SPDX-License-Identifier: Apache-2.0
"""Dispatches as byte templates: the body is serialised once, each event only fills in numbers.

The order on the wire is `t, s, op, d`, compact, as captures of the real gateway show.
"""

from __future__ import annotations

import json
from typing import Any, Final

from discluster.simulator.guilds import MAX_GUILDS

# Stand-ins in a body; each becomes a %d. JSON strings keep their quotes, the count loses them.
# GUILD also stands for the guild's first channel, which has its guild's id as in Discord's older
# guilds: clients drop messages of channels that GUILD_CREATE did not name.
IDENT: Final = "\x00ident\x00"
GUILD: Final = "\x00guild\x00"
COUNT: Final = "\x00count\x00"

_FIRST_IDENT: Final = 1_505_000_000_000_000_000 >> 22


def dump(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def reverse_sorted(value: Any) -> Any:
    """Keys in reverse alphabetical order at every level, as captured objects have them."""
    if isinstance(value, dict):
        return {key: reverse_sorted(value[key]) for key in sorted(value, reverse=True)}
    if isinstance(value, list):
        return [reverse_sorted(item) for item in value]
    return value


def ident(guild: int, count: int) -> int:
    """A snowflake that no other event of any guild has."""
    return (_FIRST_IDENT + count) << 22 | guild & (MAX_GUILDS - 1)


def _text(name: str, body: dict[str, Any]) -> tuple[bytes, bool, int]:
    """A %-template with slots for s, ident (if it has one), guilds and count, in this order.

    Also whether it has an ident, and how many guilds.
    """
    template = b'{"t":' + dump(name) + b',"s":\x00,"op":0,"d":' + dump(body) + b"}"
    template = template.replace(b"%", b"%%").replace(b'"s":\x00', b'"s":%d', 1)
    has_ident = dump(IDENT)[1:-1] in template
    guilds = template.count(dump(GUILD)[1:-1])
    for slot in (dump(IDENT)[1:-1], dump(GUILD)[1:-1], dump(COUNT)):
        template = template.replace(slot, b"%d")
    return template, has_ident, guilds


class Template:
    """One event type in one variant; `plain` is the form without MESSAGE_CONTENT."""

    __slots__ = ("_guilds", "_has_ident", "_plain", "_text", "counted", "name")

    def __init__(
        self, name: str, body: dict[str, Any], plain: dict[str, Any] | None = None
    ) -> None:
        """`body` holds IDENT at most once, then GUILD at least once, then COUNT once."""
        self.name = name
        self.counted = True
        self._text, self._has_ident, self._guilds = _text(name, body)
        self._plain = self._text if plain is None else _text(name, plain)[0]

    def render(self, seq: int, guild: int, count: int, content: bool) -> bytes:
        """The payload. `content`: the session has the MESSAGE_CONTENT intent."""
        text = self._text if content else self._plain
        guilds = (guild,) * self._guilds
        if self._has_ident:
            return text % (seq, ident(guild, count), *guilds, count)
        return text % (seq, *guilds, count)


class Literal:
    """A dispatch without slots but `s`; not part of the counted stream unless it says so."""

    __slots__ = ("_head", "_tail", "counted", "name")

    def __init__(self, name: str, body: bytes, *, counted: bool = False) -> None:
        self.name = name
        self.counted = counted
        self._head = b'{"t":' + dump(name) + b',"s":'
        self._tail = b',"op":0,"d":' + body + b"}"

    def render(self, seq: int, guild: int, count: int, content: bool) -> bytes:
        """The payload; only `seq` is used."""
        return b"%b%d%b" % (self._head, seq, self._tail)


class GuildTemplate:
    """A dispatch about a guild whose id stands in several places, as in GUILD_CREATE."""

    __slots__ = ("_head", "_parts", "counted", "name")

    def __init__(self, name: str, body: dict[str, Any]) -> None:
        self.name = name
        self.counted = False
        self._head = b'{"t":' + dump(name) + b',"s":'
        self._parts = (b',"op":0,"d":' + dump(body) + b"}").split(dump(GUILD)[1:-1])

    def render(self, seq: int, guild: int, count: int, content: bool) -> bytes:
        """The payload with the guild's id in all places."""
        return b"%b%d%b" % (self._head, seq, (b"%d" % guild).join(self._parts))


class Verbatim:
    """A payload as a tester wrote it; `$S` stands for its sequence. Nothing at all is not sent."""

    __slots__ = ("_text", "counted", "name")

    def __init__(self, text: bytes) -> None:
        self.name = "verbatim"
        self.counted = False
        self._text = text

    def render(self, seq: int, guild: int, count: int, content: bool) -> bytes:
        """The payload; only `seq` is used."""
        return self._text.replace(b"$S", b"%d" % seq)


NOTHING: Final = Verbatim(b"")

AnyTemplate = Template | Literal | GuildTemplate | Verbatim
