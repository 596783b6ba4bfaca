# SPDX-License-Identifier: Apache-2.0
"""Bursts: events that are rendered, compressed and framed ahead, and then written at once.

They exist to measure clients: what the simulator's own compression costs is spent before the
measured window, and a release is nothing but large writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

# Frames are joined to pieces of about this size: few calls, and an even share of the socket.
_PIECE: Final = 1 << 18


class BurstView(msgspec.Struct, frozen=True, kw_only=True):
    """All bursts that are not yet over, and those that are.

    connections: that hold one back or still send it. events, bytes: prepared since the last
    release ended, on the wire and with their frames. unsent: bytes of them (and of what queued
    behind them) that no socket has taken yet.
    """

    connections: int
    events: int
    bytes: int
    unsent: int


class Outlet(Protocol):
    """Where a peer's frames go: its connection, or the burst in front of it."""

    @property
    def writable(self) -> bool:
        """Whether it takes more now."""

    def write(self, frames: Iterable[bytes]) -> None:
        """Send or keep ready-made frames."""


class Burst:
    """Frames of one connection that wait in memory, in order. An Outlet that is never full."""

    def __init__(self) -> None:
        self.released = False
        self.size = 0
        self._pieces: deque[bytes] = deque()
        self._open: list[bytes] = []
        self._open_size = 0

    @property
    def writable(self) -> bool:
        return True

    def write(self, frames: Iterable[bytes]) -> None:
        """Keep frames."""
        joined = b"".join(frames)
        self._open.append(joined)
        self._open_size += len(joined)
        self.size += len(joined)
        if self._open_size >= _PIECE:
            self._shut_piece()

    def drain(self, outlet: Outlet) -> bool:
        """Write as much as `outlet` takes; True when nothing is left."""
        self._shut_piece()
        while self._pieces and outlet.writable:
            outlet.write((self._pieces.popleft(),))
        return not self._pieces

    @property
    def left(self) -> int:
        """Bytes that were not yet written."""
        return sum(map(len, self._pieces)) + self._open_size

    def _shut_piece(self) -> None:
        if self._open:
            self._pieces.append(b"".join(self._open))
            self._open.clear()
            self._open_size = 0
