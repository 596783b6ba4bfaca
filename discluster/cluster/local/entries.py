# SPDX-License-Identifier: Apache-2.0
"""The frames of one shard's events, by position. Pure.

What came at once is one block of bytes, frame after frame, as it goes to a client that wants them
all. Nothing else is done for each event: what is read or dropped is found by bisection and cut out
as a slice.
"""

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

OVERHEAD: Final = 30
"""Bytes that an entry takes beside its frame: its places in three lists."""

OVERHEAD_OF_BLOCK: Final = 80
"""And a block: the object, what malloc adds, and its places in three more."""

SLICE: Final = 1.0
"""Seconds; how exactly it is known when an event came."""

Frame = bytes | memoryview
"""One frame, or several that follow each other."""


class Entries:
    """Frames with type and position. Positions only grow; there may be gaps.

    ``end``: bytes of all entries that ever were, overhead included.
    """

    __slots__ = (
        "_begins",
        "_blocks",
        "_dropped",
        "_ends",
        "_firsts",
        "_freed",
        "_positions",
        "_slices",
        "_types",
    )

    def __init__(self) -> None:
        # Of each entry, oldest first. An end is what ``end`` was when the entry was the last.
        self._types: list[str] = []
        self._positions = array("q")
        self._ends = array("q")
        # Of each block: the number of its first entry, and at which ``end`` its bytes begin.
        self._blocks: list[bytes] = []
        self._firsts = array("q")
        self._begins = array("q")
        self._freed = 0  # bytes of the entries that were dropped
        self._dropped = 0  # their number: entries are numbered from the first that ever was
        # When the oldest of a slice came, and how many entries there had ever been at its end.
        self._slices: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        return len(self._types)

    @property
    def end(self) -> int:
        return self._ends[-1] if self._ends else self._freed

    @property
    def held(self) -> int:
        """Bytes that are kept now."""
        return self.end - self._freed

    @property
    def first(self) -> int | None:
        """The oldest position."""
        return self._positions[0] if self._positions else None

    @property
    def since(self) -> float:
        """Monotonic seconds, to a SLICE, when the oldest came; infinity without any."""
        return self._slices[0][0] if self._slices else float("inf")

    def append(
        self, block: bytes, types: list[str], positions: list[int], ends: list[int], *, now: float
    ) -> None:
        """``block``: the frames of at least one entry, which came ``now`` (monotonic seconds).
        ``ends``: of each, as ``end`` will be.
        """
        self._firsts.append(self._dropped + len(self._types))
        self._begins.append(self.end + OVERHEAD_OF_BLOCK)
        self._blocks.append(block)
        self._types += types
        self._positions.fromlist(positions)  # at once takes less time than one by one
        self._ends.fromlist(ends)
        count = self._dropped + len(self._types)
        if self._slices and now - self._slices[-1][0] < SLICE:
            self._slices[-1] = (self._slices[-1][0], count)
        else:
            self._slices.append((now, count))

    def after(self, position: int) -> int:
        """How many are kept after ``position``."""
        return len(self._types) - bisect_right(self._positions, position)

    def after_in(self, position: int, count: int) -> int:
        """How many of the oldest ``count`` are after ``position``."""
        return count - bisect_right(self._positions, position, 0, count)

    def bytes_after(self, position: int) -> int:
        """What of ``held`` is after ``position``."""
        return self.end - self._before(bisect_right(self._positions, position))

    # --- to read ---

    def read(self, after: int, size: int) -> tuple[list[Frame], int]:
        """Bytes of the frames after a position, and the position that was read up to: ``after`` if
        there are none.

        ``size``: bytes at most, but one frame in any case.
        """
        start, stop = self._span(after, size)
        if start == stop:
            return [], after
        parts: list[Frame] = []
        for index, first, last in self._in_blocks(start, stop):
            block = self._blocks[index]
            begin, end = self._offset(index, first), self._offset(index, last)
            whole = end - begin == len(block)
            parts.append(block if whole else memoryview(block)[begin:end])
        return parts, self._positions[stop - 1]

    def read_each(
        self, after: int, size: int, without: AbstractSet[str]
    ) -> tuple[list[Frame], int]:
        """As :meth:`read`, but each frame by itself, and none of the types ``without``."""
        start, stop = self._span(after, size)
        if start == stop:
            return [], after
        types, frames = self._types, list[Frame]()
        for index, first, last in self._in_blocks(start, stop):
            view, begin = memoryview(self._blocks[index]), self._offset(index, first)
            for entry in range(first, last):
                end = self._offset(index, entry + 1)
                if types[entry] not in without:
                    frames.append(view[begin:end])
                begin = end
        return frames, self._positions[stop - 1]

    def _span(self, after: int, size: int) -> tuple[int, int]:
        """Indices of the first entry to be read, and of the one after the last."""
        start = bisect_right(self._positions, after)
        count = len(self._positions)
        if start == count:
            return start, start
        return start, max(
            start + 1, bisect_right(self._ends, self._before(start) + size, start, count)
        )

    def _in_blocks(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The index of each block that has some of the entries from index ``start`` up to ``stop``,
        and the indices of those: of the first, and of the one after the last.
        """
        index = bisect_right(self._firsts, self._dropped + start) - 1
        while start < stop:
            following = index + 1
            there = stop
            if following < len(self._firsts):
                there = min(stop, self._firsts[following] - self._dropped)
            yield index, start, there
            start, index = there, following

    def _offset(self, index: int, entry: int) -> int:
        """Where in the block of that index the entry of that index begins."""
        entries = self._dropped + entry - self._firsts[index]
        if not entries:
            return 0
        return self._before(entry) - self._begins[index] - entries * OVERHEAD

    def _before(self, index: int) -> int:
        """What ``end`` was before the entry of that index."""
        return self._ends[index - 1] if index else self._freed

    # --- to drop ---

    def oldest(self, *, size: int, up_to: int) -> int:
        """How many of the oldest slice, and not beyond the position ``up_to``, must go for ``size``
        bytes to be free; if that is not enough, as many as may.
        """
        if not self._slices:
            return 0
        count = self._slices[0][1] - self._dropped
        count = bisect_right(self._positions, up_to, 0, count)
        # The first entry whose end is there or beyond is the last that must go.
        return min(count, bisect_right(self._ends, self._freed + size - 1, 0, count) + 1)

    def drop(self, count: int) -> int:
        """Removes the oldest ``count``, at least one. Returns the position of the last."""
        last = self._positions[count - 1]
        self._drop_blocks(count)
        self._freed = self._ends[count - 1]
        self._dropped += count
        del self._types[:count]
        del self._positions[:count]
        del self._ends[:count]
        while self._slices and self._slices[0][1] <= self._dropped:
            self._slices.popleft()
        return last

    def _drop_blocks(self, count: int) -> None:
        """Those of which the oldest ``count`` entries are all, and the beginning of the next."""
        number = self._dropped + count
        whole = bisect_right(self._firsts, number) - 1
        if count == len(self._types):
            whole = len(self._blocks)
        elif self._firsts[whole] < number:
            # A copy, so that the memory is free that is said to be.
            self._blocks[whole] = self._blocks[whole][self._offset(whole, count) :]
            self._firsts[whole], self._begins[whole] = number, self._ends[count - 1]
        del self._blocks[:whole]
        del self._firsts[:whole]
        del self._begins[:whole]
