# SPDX-License-Identifier: Apache-2.0
"""A sliding-window counter, no I/O."""

from __future__ import annotations

from collections import deque


class SlidingWindow:
    """Counts what happened in the last `period` seconds.

    Sliding, not fixed: a fixed window would let through twice the limit across its edge.
    """

    def __init__(self, *, limit: int, period: float) -> None:
        self._limit = limit
        self._period = period
        self._times: deque[float] = deque()

    def hit(self, now: float) -> bool:
        """Count one; False, and it does not count, when `limit` are within the period already."""
        times = self._times
        while times and times[0] <= now - self._period:
            times.popleft()
        if len(times) >= self._limit:
            return False
        times.append(now)
        return True

    def free_after(self, now: float) -> float:
        """Seconds until one more fits."""
        if len(self._times) < self._limit:
            return 0.0
        return max(0.0, self._times[-self._limit] + self._period - now)
