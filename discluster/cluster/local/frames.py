# SPDX-License-Identifier: Apache-2.0
"""WebSocket frames as a server reads and writes them (RFC 6455, section 5). No I/O.

What clients send is short and rare, so it is read strictly rather than fast: the fast way is the
other one, where frames lie ready in the log.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from discluster.cluster.local.framing import header
from discluster.errors import ProtocolError
from discluster.gateway.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, masked

_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_KNOWN: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_LONGEST_CONTROL: Final = 125
PROTOCOL_ERROR: Final = 1002
TOO_BIG: Final = 1009


class ClientFrameError(ProtocolError):
    """These are not the frames of a WebSocket client. ``close``: the code to close with."""

    code = "frame"

    def __init__(self, message: str, *, close: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.close = close


class Frame(msgspec.Struct, frozen=True):
    """A whole message (TEXT or BINARY) or a control frame."""

    opcode: int
    data: bytes


class ClientFrames:
    """Bytes in, messages and control frames out."""

    __slots__ = ("_buffer", "_limit", "_opcode", "_parts")

    def __init__(self, *, limit: int) -> None:
        """``limit``: bytes of one message; a longer one is refused by its header."""
        self._buffer = bytearray()
        self._limit = limit
        self._opcode = 0  # of a message in several frames, 0 for none
        self._parts = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """What ``data`` completes; to be read to its end.

        Raises:
            ClientFrameError: nothing more can be read.
        """
        self._buffer += data
        while (read := self._next()) is not None:
            first, payload = read
            if first & 0x0F >= CLOSE:
                yield Frame(first & 0x0F, payload)
            elif (whole := self._complete(first, payload)) is not None:
                yield whole

    def _next(self) -> tuple[int, bytes] | None:
        """First byte and unmasked data of the next frame, once all of it is there."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        if not second & _MASKED:
            raise ClientFrameError("a frame from the client is not masked")
        length = second & 0x7F
        start = 2 + (2 if length == 126 else 8 if length == 127 else 0)
        if len(buffer) < start:
            return None
        if length >= 126:
            length = int.from_bytes(buffer[2:start])
        self._check(first, length)
        stop = start + 4 + length
        if len(buffer) < stop:
            return None
        mask = bytes(buffer[start : start + 4])
        payload = masked(bytes(buffer[start + 4 : stop]), mask)
        del buffer[:stop]
        return first, payload

    def _check(self, first: int, length: int) -> None:
        opcode = first & 0x0F
        if first & _RESERVED:
            raise ClientFrameError("a frame uses an extension that was not agreed on")
        if opcode not in _KNOWN:
            raise ClientFrameError(f"a frame has the unknown opcode {opcode}")
        if opcode >= CLOSE:
            if length > _LONGEST_CONTROL or not first & _FINAL:
                raise ClientFrameError(f"a control frame of opcode {opcode} is malformed")
        elif bool(self._opcode) != (opcode == CONTINUATION):
            raise ClientFrameError("the frames of two messages are mixed")
        elif len(self._parts) + length > self._limit:
            raise ClientFrameError(f"a message is larger than {self._limit} bytes", close=TOO_BIG)

    def _complete(self, first: int, payload: bytes) -> Frame | None:
        self._opcode = first & 0x0F or self._opcode
        self._parts += payload
        if not first & _FINAL:
            return None
        whole = Frame(self._opcode, bytes(self._parts))
        self._opcode = 0
        self._parts.clear()
        return whole


def encode(opcode: int, data: bytes) -> bytes:
    """One final frame from a server."""
    return header(opcode, len(data)) + data


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; of ``reason`` what fits."""
    room = _LONGEST_CONTROL - 2
    text = reason.encode()[:room].decode(errors="ignore").encode()
    return encode(CLOSE, code.to_bytes(2) + text)
