# SPDX-License-Identifier: Apache-2.0
"""WebSocket frames as a server writes them (RFC 6455, section 5.2): unmasked and whole, so one copy
of a frame serves every client that asked for no compression. Pure.
"""

import struct
from typing import Final, NamedTuple

import msgspec

from discluster.gateway.frames import TEXT

_FINAL: Final = 0x80
_OF_16_BITS: Final = 126
_OF_64_BITS: Final = 127

NUMBER_AND_KEYS: Final = b'%d,"op":0,"d":'
"""What stands between the head of a dispatch and its body, with the number in front."""

TEXT_OF_16_BITS: Final = (_FINAL | TEXT) << 8 | _OF_16_BITS
short_header: Final = struct.Struct(">HH").pack
"""Of ``TEXT_OF_16_BITS`` and a size of 126 to 65,535 bytes: the header of most events."""


def header(opcode: int, size: int) -> bytes:
    """Of a frame with ``size`` bytes of payload."""
    if size < _OF_16_BITS:
        return bytes((_FINAL | opcode, size))
    if size < 1 << 16:
        return struct.pack(">BBH", _FINAL | opcode, _OF_16_BITS, size)
    return struct.pack(">BBQ", _FINAL | opcode, _OF_64_BITS, size)


def payload(frame: bytes) -> memoryview:
    """What a whole frame of ours carries; not a copy."""
    size = frame[1]
    return memoryview(frame)[2 if size < _OF_16_BITS else 4 if size == _OF_16_BITS else 10 :]


class Head(NamedTuple):
    """How the payload of a dispatch begins. ``name``: its type, the same object for all events of
    that type. ``text``: up to the number. ``size``: bytes of it and of the closing bracket.
    """

    name: str
    text: bytes
    size: int


class Heads:
    """Remembers the heads of the types that came."""

    _MOST: Final = 256  # Discord has some eighty; whoever sends others shall not fill the memory

    def __init__(self) -> None:
        self.known: dict[str, Head] = {}

    def make(self, name: str) -> Head:
        """The head for ``name``, which may need escapes."""
        if len(self.known) >= self._MOST:
            self.known.clear()
        text = b'{"t":%b,"s":' % msgspec.json.encode(name)
        head = self.known[name] = Head(name, text, len(text) + len(b"}"))
        return head
