# SPDX-License-Identifier: Apache-2.0
"""One WebSocket connection: bytes in, messages out to its owner, and back.

It knows frames, not Discord. Every record of a connection's end comes from here, once.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import Literal, Protocol, cast

from discluster.simulator.frames import (
    MAX_HANDSHAKE_BYTES,
    FrameError,
    FrameReader,
    Handshake,
    HandshakeError,
    Message,
    Opcode,
    accept_handshake,
    close_code,
    close_frame,
    frame,
    parse_handshake,
    refuse_handshake,
)

Closer = Literal["client", "server", "tcp"]

# How long a client may take to answer a close frame, and to send its upgrade request; in real
# seconds, since it is about TCP and not about Discord.
_LINGER = 5.0
_HANDSHAKE_TIME = 10.0


class Owner(Protocol):
    """Who is told what happens on a connection."""

    def admit(self, handshake: Handshake) -> None:
        """Look at the upgrade request; raises HandshakeError to refuse it."""

    def arrived(self, connection: Connection) -> None:
        """A socket was accepted (with TLS: after its handshake); `gone` will follow."""

    def opened(self, connection: Connection, handshake: Handshake) -> None:
        """The upgrade is done."""

    def received(self, connection: Connection, message: Message) -> None:
        """A text or binary message came."""

    def writable(self, connection: Connection) -> None:
        """After being full, the socket takes bytes again (or a mute has ended)."""

    def closed(self, connection: Connection, by: Closer, code: int | None, reason: str) -> None:
        """The connection has ended; nothing more comes from it."""

    def gone(self, connection: Connection) -> None:
        """Its socket is closed, too."""


class Connection(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, owner: Owner, *, loop: asyncio.AbstractEventLoop, max_message: int) -> None:
        self.number = 0
        self._owner = owner
        self._loop = loop
        self._reader = FrameReader(max_message=max_message, too_large=4002)
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._state: Literal["handshake", "open", "closed"] = "handshake"
        self._full = False
        self._muted = False
        self._timer: asyncio.TimerHandle | None = None
        self._deaf = False

    # What the owner calls

    @property
    def writable(self) -> bool:
        """Whether sending now would not pile up bytes here."""
        return self._state == "open" and not self._full and not self._muted

    @property
    def muted(self) -> bool:
        """Whether it neither reads nor writes for now."""
        return self._muted

    def send(self, opcode: Opcode, payload: bytes) -> None:
        """Send one message; silently nothing when the connection has ended or is muted."""
        self.write((frame(opcode, payload),))

    def write(self, frames: Iterable[bytes]) -> None:
        """Send ready-made frames in one go."""
        if self._state == "open" and not self._muted and self._transport is not None:
            self._transport.write(b"".join(frames))

    def close(self, code: int | None, reason: str = "") -> None:
        """Send a close frame and end; the peer has a few seconds to answer it."""
        if self._state != "open":
            return
        self._muted = False
        self.write((close_frame(code, reason),))
        self._finish("server", code, reason)
        if self._transport is not None:
            self._transport.resume_reading()
            self._timer = self._loop.call_later(_LINGER, self._transport.abort)

    def drop(self) -> None:
        """Reset the TCP connection, without a close frame."""
        if self._transport is not None:
            _reset(self._transport)
        self._finish("tcp", None, "dropped by the server")

    def mute(self, muted: bool) -> None:
        """Neither read nor write (half-open), or stop doing so."""
        if self._state != "open" or self._transport is None or muted == self._muted:
            return
        self._muted = muted
        if muted:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
            self._owner.writable(self)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(_HANDSHAKE_TIME, self._transport.abort)
        self._owner.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self._state == "handshake":
            data = self._shake_hands(data)
        if data and not self._deaf:
            self._read(data)

    def eof_received(self) -> bool:
        return False  # closes the transport

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self.writable:
            self._owner.writable(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._finish("tcp", None, "" if exc is None else type(exc).__name__)
        self._transport = None
        self._owner.gone(self)

    # Inside

    def _shake_hands(self, data: bytes) -> bytes:
        """Take part of the upgrade request; returns what follows it."""
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        assert self._transport is not None
        try:
            if not end:
                if len(self._head) > MAX_HANDSHAKE_BYTES:
                    raise HandshakeError(431, "the request is too long")
                return b""
            handshake = parse_handshake(head)
            self._owner.admit(handshake)
        except HandshakeError as error:
            self._state = "closed"
            self._transport.write(refuse_handshake(error.status, error.reason))
            self._transport.close()
            return b""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.write(accept_handshake(handshake.key))
        self._state = "open"
        self._head = b""
        self._owner.opened(self, handshake)
        return rest

    def _read(self, data: bytes) -> None:
        try:
            for message in self._reader.feed(data):
                if message.opcode is Opcode.CLOSE:
                    self._close_received(message.payload)
                elif self._state == "open":
                    self._dispatch(message)
        except FrameError as error:
            self._broken(error)

    def _dispatch(self, message: Message) -> None:
        if message.opcode is Opcode.PING:
            self.send(Opcode.PONG, message.payload)
        elif message.opcode is not Opcode.PONG:
            self._owner.received(self, message)

    def _broken(self, error: FrameError) -> None:
        """What follows cannot be framed any more: read on until the linger ends, and forget it.

        Closing at once would reset the connection, since unread bytes are waiting, and the reset
        can overtake our close frame.
        """
        self._deaf = True
        self.close(error.code, error.reason)

    def _close_received(self, payload: bytes) -> None:
        code = close_code(payload)
        if self._transport is None:
            return
        if self._state == "open":
            self.write((close_frame(code),))
            self._finish("client", code, payload[2:].decode(errors="replace"))
        self._transport.close()

    def _finish(self, by: Closer, code: int | None, reason: str) -> None:
        if self._state == "open":
            self._state = "closed"
            self._owner.closed(self, by, code, reason)


def _reset(transport: asyncio.Transport) -> None:
    """Close with RST rather than FIN, as a machine or a load balancer that dies does."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
