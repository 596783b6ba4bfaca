# SPDX-License-Identifier: Apache-2.0
"""Events of one session that the handler has, and has not acknowledged yet."""

import asyncio
from bisect import bisect_right
from collections import deque


class Unacknowledged:
    """Remembers their sequences, which only grow.

    ``seqs``: the sequences, oldest first; to be read only.
    """

    __slots__ = ("_limit", "_room", "_up_to", "seqs")

    def __init__(self, *, limit: int) -> None:
        """``limit``: events after the last one that the session may be resumed from."""
        self.seqs: deque[int] = deque()
        self._limit = limit
        self._up_to = -1
        self._room: asyncio.Future[None] | None = None

    def add(self, seq: int) -> bool:
        """The handler will acknowledge ``seq``. False if it did so before it returned."""
        if seq <= self._up_to:
            return False
        self.seqs.append(seq)
        return True

    def extend(self, seqs: list[int]) -> int | None:
        """The same for several, oldest first. The last one that it did so for, if there is one."""
        done = bisect_right(seqs, self._up_to)
        self.seqs.extend(seqs[done:])
        return seqs[done - 1] if done else None

    def acknowledge(self, seq: int) -> bool:
        """Everything up to ``seq`` is taken. Whether any of it was waited for."""
        self._up_to = max(self._up_to, seq)
        seqs = self.seqs
        if not seqs or seqs[0] > seq:
            return False
        while seqs and seqs[0] <= seq:
            seqs.popleft()
        return True

    def full(self, seq: int) -> bool:
        """Whether a crash now, after ``seq``, would have the most replayed that it may."""
        return bool(self.seqs) and seq - self.seqs[0] + 1 >= self._limit

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
        self.seqs.clear()
        self._up_to = -1
        self.make_room()
