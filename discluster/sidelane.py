# SPDX-License-Identifier: Apache-2.0
"""Calls wait until nothing else does: a ping, a permit or a report is never behind them in a queue,
and in a socket behind a few of them at most.

Their room is bounded. Where there is none, whoever asks is told so; the connection goes on.
"""

import asyncio
import contextlib
import socket
from collections import deque
from typing import Final

from discluster.messages import Call, CallAnswer, CallAsked, CallRequest, Message, encode

ROOM: Final = 16 * 1024 * 1024
"""Bytes of calls and answers that may wait for one peer."""
# Bytes that the kernel takes beyond what is on its way. By itself it takes megabytes, which on a
# slow line are seconds.
_UNSENT: Final = 128 * 1024
_CALLS: Final = (Call, CallRequest, CallAsked, CallAnswer)
# What tells that there is no room must have some.
_SMALL: Final = 4096


def is_call(message: Message) -> bool:
    """Whether it belongs to a call, and can wait."""
    return isinstance(message, _CALLS)


def keep_little_unsent(connection: object) -> None:
    """What goes out over the TCP socket ``connection`` waits here rather than in the kernel, where
    nothing can overtake it.
    """
    # asyncio gives no socket but something that stands for it.
    setting = getattr(connection, "setsockopt", None)
    if setting is not None:
        setting(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)


def _weight(message: Message) -> int:
    if isinstance(message, CallAnswer):
        return len(message.value) + _SMALL // 4
    if isinstance(message, (Call, CallRequest)):
        return len(message.args) + _SMALL // 4
    if isinstance(message, CallAsked):
        return _SMALL // 4 + 8 * sum(map(len, message.hosts.values()))
    return _SMALL


class _Room:
    """How much of :data:`ROOM` is taken."""

    taken = 0

    def admits(self, weight: int) -> bool:
        return self.taken + weight <= (ROOM if weight > _SMALL else 2 * ROOM)


class OutgoingQueue(asyncio.Queue[Message]):
    """Messages on their way to a peer: calls when nothing else waits."""

    def _init(self, maxsize: int) -> None:
        self._queue = self._first = deque[Message]()
        self._calls = deque[Message]()
        self._room = _Room()

    def qsize(self) -> int:
        return len(self._first) + len(self._calls)

    def empty(self) -> bool:
        return not self.qsize()

    def _put(self, item: Message) -> None:
        if is_call(item):
            self._room.taken += _weight(item)
            self._calls.append(item)
        else:
            self._first.append(item)

    def _get(self) -> Message:
        if self._first:
            return self._first.popleft()
        call = self._calls.popleft()
        self._room.taken -= _weight(call)
        return call

    def admits(self, call: Message) -> bool:
        """Whether there is room for ``call``."""
        return self._room.admits(_weight(call)) and not self.full()


class SideLane:
    """Calls on their way over a stream to which others write at once."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._room = _Room()
        self._pump: asyncio.Task[None] | None = None

    def send(self, call: Message) -> bool:
        """Queues ``call``; False if there is no room, or no stream any more."""
        weight = _weight(call)
        if self._writer.is_closing() or not self._room.admits(weight):
            return False
        self._room.taken += weight
        self._waiting.append((encode(call) + b"\n", weight))
        if self._pump is None:
            self._pump = asyncio.create_task(self._write_all(), name="calls")
        return True

    def close(self) -> None:
        """Nothing more goes out."""
        self._waiting.clear()
        if self._pump is not None:
            self._pump.cancel()

    async def _write_all(self) -> None:
        try:
            with contextlib.suppress(OSError):
                while self._waiting and not self._writer.is_closing():
                    line, weight = self._waiting.popleft()
                    self._room.taken -= weight
                    self._writer.write(line)
                    await self._writer.drain()
        finally:
            self._pump = None
