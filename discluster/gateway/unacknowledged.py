# SPDX-License-Identifier: Apache-2.0
"""Events of one session that the handler has, and has not acknowledged yet."""

import asyncio
from collections import deque


class Unacknowledged:
    """Remembers their sequences, which only grow.

    ``ranges``: the first and the last of those that follow each other without a gap, oldest first;
    to be read only.
    """

    __slots__ = ("_limit", "_room", "_up_to", "ranges")

    def __init__(self, *, limit: int) -> None:
        """``limit``: events after the last one that the session may be resumed from."""
        self.ranges: deque[list[int]] = deque()
        self._limit = limit
        self._up_to = -1
        self._room: asyncio.Future[None] | None = None

    @property
    def oldest(self) -> int | None:
        """The first sequence of all."""
        return self.ranges[0][0] if self.ranges else None

    def add(self, first: int, last: int) -> int:
        """The handler will acknowledge ``first`` to ``last``. Those up to which it did so before it
        returned; less than ``first`` for none.
        """
        done = min(self._up_to, last)
        if first <= done:
            first = done + 1
        if first > last:
            return done
        ranges = self.ranges
        if ranges and ranges[-1][1] + 1 == first:
            ranges[-1][1] = last
        else:
            ranges.append([first, last])
        return done

    def acknowledge(self, seq: int) -> bool:
        """Everything up to ``seq`` is taken. Whether any of it was waited for."""
        self._up_to = max(self._up_to, seq)
        ranges = self.ranges
        if not ranges or ranges[0][0] > seq:
            return False
        while ranges and ranges[0][1] <= seq:
            ranges.popleft()
        if ranges and ranges[0][0] <= seq:
            ranges[0][0] = seq + 1
        return True

    def full(self, seq: int) -> bool:
        """Whether a crash now, after ``seq``, would have the most replayed that it may."""
        return bool(self.ranges) and seq - self.ranges[0][0] + 1 >= self._limit

    def room(self) -> asyncio.Future[None]:
        """Done when :meth:`make_room` was called."""
        if self._room is None or self._room.done():
            self._room = asyncio.get_running_loop().create_future()
        return self._room

    def make_room(self) -> None:
        """Whoever waits for room may go on."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def clear(self) -> None:
        """The session is over; nothing of it can be acknowledged any more."""
        self.ranges.clear()
        self._up_to = -1
        self.make_room()
