# SPDX-License-Identifier: Apache-2.0
"""A slow way to the socket: bytes leave late, in small pieces, or at a limited rate."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Without a chunk size, a limited rate is spread over so many pieces per second.
_PIECES_PER_SECOND: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Real seconds and bytes; see `deeds.Throttle`."""

    bytes_per_second: float | None = None
    chunk: int = 0
    delay: float = 0.0
    jitter: float = 0.0

    @property
    def piece(self) -> int:
        """Bytes in one write; 0 for any number."""
        if self.chunk or self.bytes_per_second is None:
            return self.chunk
        return max(1, int(self.bytes_per_second / _PIECES_PER_SECOND))


class Pacer:
    """Bytes on their way to one socket, in order."""

    def __init__(
        self,
        pace: Pace,
        *,
        write: Callable[[bytes], None],
        drained: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
    ) -> None:
        """`drained` is called whenever nothing is left here."""
        self.pace = pace
        self.queued = 0
        self._write = write
        self._drained = drained
        self._loop = loop
        self._rng = rng
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._free = 0.0  # when the next byte may leave
        self._timer: asyncio.TimerHandle | None = None

    def push(self, data: bytes) -> None:
        """Queue bytes."""
        pace = self.pace
        due = self._loop.time() + pace.delay + self._rng.uniform(0, pace.jitter)
        if self._pieces:
            due = max(due, self._pieces[-1][0])
        size = pace.piece or len(data)
        for start in range(0, len(data), max(1, size)):
            self._pieces.append((due, data[start : start + size]))
        self.queued += len(data)
        self._plan()

    def stop(self) -> None:
        """Forget what is queued."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pieces.clear()
        self.queued = 0

    def _plan(self) -> None:
        if self._timer is None and self._pieces:
            # At least one turn of the loop for each piece, or the kernel would join them again.
            when = max(self._pieces[0][0], self._free, self._loop.time())
            self._timer = self._loop.call_at(when, self._leave)

    def _leave(self) -> None:
        self._timer = None
        _, piece = self._pieces.popleft()
        self.queued -= len(piece)
        if self.pace.bytes_per_second is not None:
            now = max(self._free, self._loop.time())
            self._free = now + len(piece) / self.pace.bytes_per_second
        self._write(piece)
        if self._pieces:
            self._plan()
        else:
            self._drained()
