# SPDX-License-Identifier: Apache-2.0
"""The frames of one shard's events, by position. Pure.

Nothing is done for each event but to build its frame: what is read or dropped is found by bisection
and cut out as a slice.
"""

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Set as AbstractSet
from typing import Final

OVERHEAD: Final = 80
"""Bytes that a kept frame takes beside its own text: the object, what malloc adds, and its places
in the four lists."""

SLICE: Final = 1.0
"""Seconds; how exactly it is known when an event came."""


class Entries:
    """Frames with type and position. Positions only grow; there may be gaps.

    ``frames``, ``types``, ``positions``, ``ends``: of each entry, oldest first; a writer appends to
    the first two, and calls :meth:`grown` with the others. ``ends`` is the number of bytes,
    OVERHEAD included, of this entry and of all that ever were before it.
    """

    __slots__ = ("_dropped", "_freed", "_slices", "ends", "frames", "positions", "types")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.types: list[str] = []
        self.positions = array("q")
        self.ends = array("q")
        self._freed = 0  # bytes of the entries that were dropped
        self._dropped = 0  # their number
        # When the oldest of a slice came, and how many entries there had ever been at its end.
        self._slices: deque[tuple[float, int]] = deque()

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def end(self) -> int:
        """Bytes of all entries that ever were."""
        return self.ends[-1] if self.ends else self._freed

    @property
    def held(self) -> int:
        """Bytes that are kept now."""
        return self.end - self._freed

    @property
    def since(self) -> float:
        """Monotonic seconds, to a SLICE, when the oldest came; infinity without any."""
        return self._slices[0][0] if self._slices else float("inf")

    def grown(self, positions: list[int], ends: list[int], *, now: float) -> None:
        """Entries were appended at ``now`` (monotonic seconds)."""
        self.positions.fromlist(positions)
        self.ends.fromlist(ends)
        count = self._dropped + len(self.frames)
        if self._slices and now - self._slices[-1][0] < SLICE:
            self._slices[-1] = (self._slices[-1][0], count)
        else:
            self._slices.append((now, count))

    def after(self, position: int) -> int:
        """How many are kept after ``position``."""
        return len(self.frames) - bisect_right(self.positions, position)

    def after_in(self, position: int, count: int) -> int:
        """How many of the oldest ``count`` are after ``position``."""
        return count - bisect_right(self.positions, position, 0, count)

    def bytes_after(self, position: int) -> int:
        """What of ``held`` is after ``position``."""
        index = bisect_right(self.positions, position)
        return self.end - (self.ends[index - 1] if index else self._freed)

    def read(self, after: int, size: int, without: AbstractSet[str]) -> tuple[list[bytes], int]:
        """Frames after a position, and the position of the last one looked at.

        ``size``: bytes at most, but one frame in any case. ``without``: types that are left out.
        """
        positions, ends = self.positions, self.ends
        start = bisect_right(positions, after)
        count = len(positions)
        if start == count:
            return [], after
        begin = ends[start - 1] if start else self._freed
        stop = max(start + 1, bisect_right(ends, begin + size, start, count))
        frames = self.frames[start:stop]
        if without:
            types = self.types[start:stop]
            frames = [f for f, name in zip(frames, types, strict=True) if name not in without]
        return frames, positions[stop - 1]

    def oldest(self, *, size: int, up_to: int) -> int:
        """How many of the oldest slice, and not beyond the position ``up_to``, must go for ``size``
        bytes to be free; if that is not enough, as many as may.
        """
        if not self._slices:
            return 0
        count = self._slices[0][1] - self._dropped
        count = bisect_right(self.positions, up_to, 0, count)
        # The first entry whose end is there or beyond is the last that must go.
        return min(count, bisect_right(self.ends, self._freed + size - 1, 0, count) + 1)

    def drop(self, count: int) -> int:
        """Removes the oldest ``count``, at least one. Returns the position of the last."""
        last = self.positions[count - 1]
        self._freed = self.ends[count - 1]
        self._dropped += count
        del self.frames[:count]
        del self.types[:count]
        del self.positions[:count]
        del self.ends[:count]
        while self._slices and self._slices[0][1] <= self._dropped:
            self._slices.popleft()
        return last
