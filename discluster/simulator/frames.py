# SPDX-License-Identifier: Apache-2.0
"""WebSocket as a strict server sees it (RFC 6455): handshake and frames, no I/O.

Written here rather than taken from a library for two reasons: the programs under test use a
library, and the judge must not share its misreadings; and faults (half a message, a socket that
falls silent, a close frame without a code) need every byte in hand.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from urllib.parse import parse_qsl, urlsplit

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_HANDSHAKE_BYTES = 16_384


class Opcode(IntEnum):
    """Frame opcodes, RFC 6455 section 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class FrameError(Exception):
    """The peer broke the framing; `code` is the close code that answers it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class HandshakeError(Exception):
    """The peer's upgrade request is refused with HTTP `status`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message: fragments joined, mask removed."""

    opcode: Opcode
    payload: bytes


@dataclass(frozen=True, slots=True)
class Handshake:
    """An accepted upgrade request."""

    path: str
    query: dict[str, str]
    key: str
    user_agent: str


def parse_handshake(head: bytes) -> Handshake:
    """Read an upgrade request, everything before the empty line. Raises HandshakeError."""
    try:
        request, *lines = head.decode("ascii").split("\r\n")
        method, target, version = request.split(" ")
    except ValueError:
        raise HandshakeError(400, "malformed request") from None
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if method != "GET" or version != "HTTP/1.1":
        raise HandshakeError(405, "a WebSocket upgrade is a GET over HTTP/1.1")
    _check_upgrade(headers)
    parts = urlsplit(target)
    return Handshake(
        path=parts.path or "/",
        query=dict(parse_qsl(parts.query, keep_blank_values=True)),
        key=headers["sec-websocket-key"],
        user_agent=headers.get("user-agent", ""),
    )


def _check_upgrade(headers: dict[str, str]) -> None:
    connection = [token.strip().lower() for token in headers.get("connection", "").split(",")]
    if "host" not in headers:
        raise HandshakeError(400, "no Host header")
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in connection:
        raise HandshakeError(426, "this port speaks WebSocket only")
    if headers.get("sec-websocket-version") != "13":
        raise HandshakeError(426, "Sec-WebSocket-Version is not 13")
    try:
        key = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise HandshakeError(400, "Sec-WebSocket-Key is not 16 bytes in base64")


def accept_handshake(key: str) -> bytes:
    """The answer to a good upgrade request. No extension is ever negotiated."""
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def refuse_handshake(
    status: int, body: bytes, headers: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """The answer to an upgrade request that is turned down."""
    lines = {"Content-Type": "text/plain", **headers, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Refused\r\n{head}Connection: close\r\n\r\n".encode() + body


def frame(opcode: Opcode, payload: bytes) -> bytes:
    """One unfragmented, unmasked frame."""
    length = len(payload)
    first = 0x80 | opcode
    if length < 126:
        return struct.pack("!BB", first, length) + payload
    if length < 1 << 16:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


def close_frame(code: int | None, reason: str = "") -> bytes:
    """A close frame; without a code its body is empty (the peer reports 1005)."""
    if code is None:
        return frame(Opcode.CLOSE, b"")
    return frame(Opcode.CLOSE, struct.pack("!H", code) + reason.encode()[:123])


def close_code(payload: bytes) -> int | None:
    """The code in a close frame's body; None when it has none. Raises FrameError."""
    if not payload:
        return None
    if len(payload) == 1:
        raise FrameError(1002, "close frame with a body of one byte")
    return int(struct.unpack_from("!H", payload)[0])


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Remove (or apply) a client's four-byte mask."""
    length = len(payload)
    pad = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(length, "big")


class FrameReader:
    """Turns a client's bytes into messages. Raises FrameError and is of no use afterwards."""

    def __init__(self, *, max_message: int, too_large: int) -> None:
        """`too_large` is the close code for messages of more than `max_message` bytes."""
        self._max_message = max_message
        self._too_large = too_large
        self._buffer = bytearray()
        self._opcode: Opcode | None = None  # of the fragmented message that is under way
        self._fragments = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Messages that `data` completes, in order; those before a fault come before the error."""
        self._buffer += data
        while (parsed := self._next_frame()) is not None:
            message = self._assemble(*parsed)
            if message is not None:
                yield message

    def _next_frame(self) -> tuple[bool, Opcode, bytes] | None:
        """(final, opcode, payload) of the first frame in the buffer, which is consumed."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode = self._check_head(buffer[0], buffer[1])
        length, start = buffer[1] & 0x7F, 2
        if length >= 126:
            size, code = (2, "!H") if length == 126 else (8, "!Q")
            if len(buffer) < 2 + size:
                return None
            length, start = struct.unpack_from(code, buffer, 2)[0], 2 + size
        if length + len(self._fragments) > self._max_message:
            raise FrameError(self._too_large, "payload too large")
        end = start + 4 + length
        if len(buffer) < end:
            return None
        payload = unmask(bytes(buffer[start + 4 : end]), bytes(buffer[start : start + 4]))
        final = bool(buffer[0] & 0x80)
        del buffer[:end]
        return final, opcode, payload

    def _check_head(self, first: int, second: int) -> Opcode:
        if first & 0x70:
            raise FrameError(1002, "reserved bits set: no extension was negotiated")
        if not second & 0x80:
            raise FrameError(1002, "a client's frames must be masked")
        try:
            opcode = Opcode(first & 0x0F)
        except ValueError:
            raise FrameError(1002, "unknown frame opcode") from None
        if opcode >= Opcode.CLOSE and (not first & 0x80 or second & 0x7F > 125):
            raise FrameError(1002, "control frames are whole and at most 125 bytes")
        return opcode

    def _assemble(self, final: bool, opcode: Opcode, payload: bytes) -> Message | None:
        if opcode >= Opcode.CLOSE:
            return Message(opcode, payload)
        if (opcode is Opcode.CONTINUATION) != (self._opcode is not None):
            raise FrameError(1002, "fragments out of order")
        if self._opcode is None:
            if final:
                return Message(opcode, payload)
            self._opcode = opcode
        self._fragments += payload
        if not final:
            return None
        message = Message(self._opcode, bytes(self._fragments))
        self._opcode = None
        self._fragments.clear()
        return message
