# SPDX-License-Identifier: Apache-2.0
"""WebSocket frames as a server writes them (RFC 6455, section 5.2): unmasked and whole, so one copy
of a frame serves every client that asked for no compression. Pure.
"""

import struct
from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from discluster.gateway.frames import TEXT

_FINAL: Final = 0x80
_OF_16_BITS: Final = 126
_OF_64_BITS: Final = 127


def header(opcode: int, size: int) -> bytes:
    """Of a frame with ``size`` bytes of payload."""
    if size < _OF_16_BITS:
        return bytes((_FINAL | opcode, size))
    if size < 1 << 16:
        return struct.pack(">BBH", _FINAL | opcode, _OF_16_BITS, size)
    return struct.pack(">BBQ", _FINAL | opcode, _OF_64_BITS, size)


TEXT_HEADERS: Final = tuple(header(TEXT, size) for size in range(4096))
"""By size: those of most events."""

THOUSAND: Final = 1000
_KEYS: Final = b',"op":0,"d":'
_AFTER_THOUSANDS: Final = tuple(b"%03d%b" % (number, _KEYS) for number in range(THOUSAND))
_BELOW: Final = tuple(b"%d%b" % (number, _KEYS) for number in range(THOUSAND))


def thousand(number: int) -> tuple[int, bytes, tuple[bytes, ...]]:
    """How the thousand numbers around ``number`` are written between the head of a dispatch and its
    body: the first of them, the digits that all have in front, and what follows these, by distance
    from the first. To format each number takes four times as long.
    """
    thousands = number // THOUSAND
    first = thousands * THOUSAND
    return (first, b"%d" % thousands, _AFTER_THOUSANDS) if thousands else (first, b"", _BELOW)


def payload(frame: bytes | memoryview) -> memoryview:
    """What a whole frame of ours carries; not a copy."""
    size = frame[1]
    return memoryview(frame)[2 if size < _OF_16_BITS else 4 if size == _OF_16_BITS else 10 :]


class Head(NamedTuple):
    """How the payload of a dispatch begins. ``name``: its type, the same object for all events of
    that type. ``text``: up to the number. ``size``: bytes of it and of the closing bracket; 0 for a
    type of which no frames are made.
    """

    name: str
    text: bytes
    size: int


class Heads:
    """Remembers the heads of the types that came."""

    _MOST: Final = 256  # Discord has some eighty; whoever sends others shall not fill the memory

    def __init__(self, *, unkept: Collection[str]) -> None:
        """``unkept``: the types of which no frames are made."""
        self._unkept = unkept
        self.known: dict[str, Head] = {}

    def make(self, name: str) -> Head:
        """The head for ``name``, which may need escapes."""
        if len(self.known) >= self._MOST:
            self.known.clear()
        text = b'{"t":%b,"s":' % msgspec.json.encode(name)
        size = 0 if name in self._unkept else len(text) + len(b"}")
        head = self.known[name] = Head(name, text, size)
        return head
