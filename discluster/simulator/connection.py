# SPDX-License-Identifier: Apache-2.0
"""One WebSocket connection: bytes in, messages out to its owner, and back.

It knows frames, not Discord. Every record of a connection's end comes from here, once.
"""

from __future__ import annotations

import asyncio
import random
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
from discluster.simulator.pacing import Pace, Pacer

Closer = Literal["client", "server", "tcp"]

# How long a client may take to answer a close frame, and to send its upgrade request; in real
# seconds, since it is about TCP and not about Discord.
_LINGER = 5.0
_HANDSHAKE_TIME = 10.0

# Bytes that may wait for a slow way to the socket before it counts as full.
_QUEUE = 1 << 16


class Owner(Protocol):
    """Who is told what happens on a connection."""

    def asked(self, connection: Connection, handshake: Handshake) -> None:
        """An upgrade request came: accept or refuse it, now or later, or leave it."""

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

    def __init__(
        self,
        owner: Owner,
        *,
        loop: asyncio.AbstractEventLoop,
        max_message: int,
        edge: str | None = None,
    ) -> None:
        """`edge`: whose listener this is; None if its path will tell."""
        self.number = 0
        self.edge = edge
        self.ignores_close = False  # it neither answers a close frame nor hangs up after one
        self._owner = owner
        self._loop = loop
        self._reader = FrameReader(max_message=max_message, too_large=4002)
        self._head = b""
        self._asked: Handshake | None = None
        self._pacer: Pacer | None = None
        self._stalled = False
        self._closing = False  # as soon as the slow way to the socket is empty
        self._transport: asyncio.Transport | None = None
        self._state: Literal["handshake", "asked", "open", "closed"] = "handshake"
        self._full = False
        self._muted = False
        self._timer: asyncio.TimerHandle | None = None
        self._deaf = False

    # What the owner calls

    @property
    def writable(self) -> bool:
        """Whether sending now would not pile up bytes here."""
        full = self._full or (self._pacer is not None and self._pacer.queued > _QUEUE)
        return self._state == "open" and not full and not self._muted

    @property
    def open(self) -> bool:
        """Whether the upgrade is done and no end has come."""
        return self._state == "open"

    @property
    def deaf(self) -> bool:
        """Whether it does not read for now, so that nothing can be expected to arrive."""
        return self._muted or self._stalled

    @property
    def address(self) -> str:
        """The client's IP address."""
        name = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    @property
    def unsent(self) -> int:
        """Bytes that the socket has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

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
            data = b"".join(frames)
            if self._pacer is None:
                self._transport.write(data)
            else:
                self._pacer.push(data)

    def pace(self, pace: Pace, rng: random.Random) -> None:
        """From now on, bytes take a slow way to the socket."""
        if self._pacer is None:
            self._pacer = Pacer(
                pace, write=self._paced, drained=self._drained, loop=self._loop, rng=rng
            )
        self._pacer.pace = pace

    def accept(self) -> None:
        """Answer the upgrade request with 101."""
        handshake = self._asked
        if self._state != "asked" or self._transport is None or handshake is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._transport.write(accept_handshake(handshake.key))
        self._state = "open"
        rest, self._head = self._head, b""
        self._owner.opened(self, handshake)
        if rest:
            self._read(rest)

    def refuse(self, answer: bytes) -> None:
        """Answer the upgrade request with this, and hang up."""
        if self._transport is not None and self._state in ("handshake", "asked"):
            self._state = "closed"
            self._transport.write(answer)
            self._transport.close()

    def hold(self) -> None:
        """Leave the upgrade request without an answer, as long as the client waits."""
        if self._timer is not None:
            self._timer.cancel()

    def close(self, code: int | None, reason: str = "") -> None:
        """Send a close frame and end; the peer has a few seconds to answer it."""
        if self._state != "open":
            return
        self._muted = False
        self.write((close_frame(code, reason),))
        self._finish("server", code, reason)
        self._listen()
        if self._transport is not None and not self.ignores_close:
            self._timer = self._loop.call_later(_LINGER, self._transport.abort)

    def hang_up(self) -> None:
        """End the TCP connection in order (FIN), without a close frame."""
        self._finish("tcp", None, "ended by the server")
        self._state = "closed"
        self._listen()
        if self._transport is None:
            return
        self._timer = self._loop.call_later(_LINGER, self._transport.abort)
        # With unread bytes in the socket close() would send RST, half a close does not.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def drop(self) -> None:
        """Reset the TCP connection, without a close frame."""
        if self._transport is not None:
            reset(self._transport)
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

    def stall(self, stalled: bool) -> None:
        """Stop reading, or begin again; writing goes on."""
        if self._state != "open" or self._transport is None or stalled == self._stalled:
            return
        self._stalled = stalled
        if stalled:
            self._transport.pause_reading()
        elif not self._muted:
            self._transport.resume_reading()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(_HANDSHAKE_TIME, self._transport.abort)
        self._owner.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self._state in ("handshake", "asked"):
            self._shake_hands(data)
        elif not self._deaf:
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
        if self._pacer is not None:
            self._pacer.stop()
        self._finish("tcp", None, "" if exc is None else type(exc).__name__)
        self._transport = None
        self._owner.gone(self)

    # Inside

    def _shake_hands(self, data: bytes) -> None:
        """Take part of the upgrade request, or what follows it while it has no answer."""
        self._head += data
        if self._state == "asked":
            return
        head, end, rest = self._head.partition(b"\r\n\r\n")
        try:
            if not end:
                if len(self._head) > MAX_HANDSHAKE_BYTES:
                    raise HandshakeError(431, "the request is too long")
                return
            self._asked = parse_handshake(head)
        except HandshakeError as error:
            self.refuse(refuse_handshake(error.status, f"{error.reason}\n".encode()))
            return
        self._state, self._head = "asked", rest
        self._owner.asked(self, self._asked)

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
        reason = payload[2:].decode(errors="replace")
        if self.ignores_close:
            self._finish("client", code, reason)
            return
        if self._state == "open":
            self.write((close_frame(code),))
            self._finish("client", code, reason)
        if self._pacer is not None and self._pacer.queued:
            self._closing = True
        else:
            self._end()

    def _paced(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _drained(self) -> None:
        """What took the slow way has left."""
        if self._closing:
            self._end()
        elif self.writable:
            self._owner.writable(self)

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _listen(self) -> None:
        self._stalled = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _finish(self, by: Closer, code: int | None, reason: str) -> None:
        if self._state == "open":
            self._state = "closed"
            self._owner.closed(self, by, code, reason)


def reset(transport: asyncio.Transport) -> None:
    """Close with RST rather than FIN, as a machine or a load balancer that dies does."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
