# SPDX-License-Identifier: Apache-2.0
"""WebSocket frames as a client reads and writes them (RFC 6455, section 5). No I/O.

This is the outermost loop of the event path: a frame of one whole message, as Discord sends them
all, costs a few operations and one copy if it is binary, none if it is text.
"""

import os
import struct
from typing import Final

import msgspec

from discluster.errors import ProtocolError
from discluster.gateway.sockets import Message, Messages

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_FINAL: Final = 0x80
_WHOLE_TEXT: Final = _FINAL | TEXT
_WHOLE_BINARY: Final = _FINAL | BINARY
_MASKED: Final = 0x80
# The first four bytes of most frames: whole, binary, and their length in the second or, if that
# is 126, in the two that follow.
_HEADER: Final = struct.Struct(">HH").unpack_from
_BINARY_FROM: Final = _WHOLE_BINARY << 8
_BINARY_OF_16_BITS: Final = _BINARY_FROM | 126
_TEXT_OF_16_BITS: Final = _WHOLE_TEXT << 8 | 126
_OF_16_BITS: Final = (_BINARY_OF_16_BITS, _TEXT_OF_16_BITS)


class FrameError(ProtocolError):
    """These are not the frames of a WebSocket server."""

    code = "frame"


class Control(msgspec.Struct, frozen=True):
    """A control frame. ``opcode``: CLOSE, PING or PONG."""

    opcode: int
    data: bytes


class FrameReader:
    """Bytes in, messages out. Messages come as bytes or, of text frames, as views of what was fed;
    whether that is UTF-8 is for whoever reads the text.

    ``controls``: control frames that came since it was emptied by whoever looks after them.
    """

    __slots__ = ("_begun", "_limit", "_missing", "_opcode", "_parts", "_start", "controls")

    def __init__(self, *, limit: int) -> None:
        """``limit``: bytes of one message on the wire; a longer one is refused by its header."""
        self.controls: list[Control] = []
        self._limit = limit
        self._start = b""  # of a header
        self._begun = bytearray()  # a frame that is not whole yet
        self._missing = 0  # bytes of it that are still to come
        self._opcode = 0  # of a message in several frames, 0 for none
        self._parts = bytearray()

    def feed(self, data: bytes) -> Messages:
        """The messages that ``data`` completes.

        Raises:
            FrameError: what was completed before is lost too; only a new connection helps.
        """
        found: Messages = []
        if missing := self._missing:
            self._begun += data[:missing]
            self._missing = max(0, missing - len(data))
            if self._missing:
                return found
            whole, self._begun = bytes(self._begun), bytearray()
            self._read(whole, 0, found)
            self._read(data, missing, found)  # not a copy of what follows, which is most of it
        else:
            self._read(self._start + data if self._start else data, 0, found)
        return found

    def _read(self, data: bytes, position: int, found: Messages) -> None:
        """Reads frames from ``position`` on, and remembers the one that is not whole."""
        append, view = found.append, memoryview(data)
        end, limit = len(data), self._limit
        while True:
            parted = self._opcode
            while end - position >= 4:
                head, length = _HEADER(data, position)
                if head in _OF_16_BITS:
                    start = position + 4
                elif _BINARY_FROM <= head < _BINARY_OF_16_BITS:
                    start, length = position + 2, head - _BINARY_FROM
                else:
                    break
                stop = start + length
                if stop > end or parted or length > limit:
                    break
                append(view[start:stop] if head == _TEXT_OF_16_BITS else data[start:stop])
                position = stop
            after = self._frame(data, position, found)
            if after is None:
                break
            position = after
        self._start = b"" if self._missing else data[position:]

    def _frame(self, data: bytes, position: int, found: Messages) -> int | None:
        """Reads any frame. Returns where it ends, or None if it is not whole yet."""
        end = len(data)
        if end - position < 2:
            return None
        first, length = data[position], data[position + 1]
        if length & _MASKED:
            raise FrameError("a frame from the server is masked")
        start = position + 2 + (2 if length == 126 else 8 if length == 127 else 0)
        if start > end:
            return None
        if length >= 126:
            length = int.from_bytes(data[position + 2 : start])
        self._check(first, length)
        stop = start + length
        if stop > end:
            self._begun += data[position:]
            self._missing = stop - end
            return None
        if first & 0x0F >= CLOSE:
            self.controls.append(Control(first & 0x0F, data[start:stop]))
        elif (message := self._complete(first, data[start:stop])) is not None:
            found.append(message)
        return stop

    def _check(self, first: int, length: int) -> None:
        """Refuses a frame by its header, before its data is waited for."""
        opcode = first & 0x0F
        if first & 0x70:
            raise FrameError("a frame uses an extension that was not agreed on")
        if opcode >= CLOSE:
            if opcode > PONG or length > 125 or not first & _FINAL:
                raise FrameError(f"a control frame of opcode {opcode} is malformed")
        elif opcode > BINARY:
            raise FrameError(f"a frame has the unknown opcode {opcode}")
        elif bool(self._opcode) != (opcode == CONTINUATION):
            raise FrameError("the frames of two messages are mixed")
        elif len(self._parts) + length > self._limit:
            raise FrameError(f"a message is larger than {self._limit >> 20} MiB")

    def _complete(self, first: int, payload: bytes) -> Message | None:
        """The message that a frame completes, if it does."""
        if first == _WHOLE_TEXT:
            return memoryview(payload)
        if first == _WHOLE_BINARY:
            return payload
        self._opcode = first & 0x0F or self._opcode
        # Not a list: of frames with a byte or none that would take many times what was sent.
        self._parts += payload
        if not first & _FINAL:
            return None
        whole, opcode = bytes(self._parts), self._opcode
        self._opcode, self._parts = 0, bytearray()
        return whole if opcode == BINARY else memoryview(whole)


def encode(opcode: int, data: bytes) -> bytes:
    """One final frame from a client: masked, as RFC 6455 section 5.3 demands."""
    size = len(data)
    if size < 126:
        header = bytes((_FINAL | opcode, _MASKED | size))
    elif size < 1 << 16:
        header = struct.pack(">BBH", _FINAL | opcode, _MASKED | 126, size)
    else:
        header = struct.pack(">BBQ", _FINAL | opcode, _MASKED | 127, size)
    mask = os.urandom(4)
    return header + mask + masked(data, mask)


def masked(data: bytes, mask: bytes) -> bytes:
    """RFC 6455, section 5.3: masks, and takes a mask off again."""
    size = len(data)
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(pattern)).to_bytes(size)


def close_data(code: int) -> bytes:
    """The data of a close frame."""
    return code.to_bytes(2)


def close_code(data: bytes) -> tuple[int | None, str]:
    """Code and reason of a close frame; no code if it has none (RFC 6455, section 5.5.1)."""
    if len(data) < 2:
        return None, ""
    return int.from_bytes(data[:2]), data[2:].decode(errors="replace")
