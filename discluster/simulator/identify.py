# SPDX-License-Identifier: Apache-2.0
"""What starting a session costs: the 5-second rule and the daily budget, no I/O.

All times are simulated seconds. (Discord: Gateway, Rate Limiting and Session Start Limit Object.)
"""

from __future__ import annotations

from collections.abc import Callable

from discluster.simulator.views import BudgetView


class IdentifyRule:
    """At most one IDENTIFY per `shard_id % max_concurrency` in each interval, by arrival."""

    def __init__(
        self,
        *,
        max_concurrency: int,
        interval: float,
        tolerance: float,
        rejection_restarts: bool,
        lost: Callable[[float], float],
    ) -> None:
        """`lost` tells for how long since a time the simulator itself did not run: what it read
        late seems closer to what came after.
        """
        self._max_concurrency = max_concurrency
        self._interval = interval
        self._tolerance = tolerance
        self._rejection_restarts = rejection_restarts
        self._lost = lost
        self._started: dict[int, float] = {}  # when the lane's window began
        self._arrived: dict[int, float] = {}  # last arrival, accepted or not

    def lane(self, shard_id: int) -> int:
        """The rate limit key of a shard."""
        return shard_id % self._max_concurrency

    def arrive(self, shard_id: int, now: float) -> tuple[bool, float | None]:
        """Judge an IDENTIFY: (accepted, seconds since the lane's previous one, if any)."""
        lane = self.lane(shard_id)
        previous, started = self._arrived.get(lane), self._started.get(lane)
        least = self._interval - self._tolerance
        accepted = started is None or now - started + self._lost(started) >= least
        self._arrived[lane] = now
        if accepted or self._rejection_restarts:
            self._started[lane] = now
        return accepted, None if previous is None else now - previous


class DailyBudget:
    """Session starts per day. A day begins with the first start after a refill."""

    def __init__(
        self, *, total: int, remaining: int, period: float, reset_after: float, now: float
    ) -> None:
        """`reset_after`: seconds until the first refill, if some starts are used already."""
        self._total = total
        self._remaining = remaining
        self._period = period
        self._refill_at = now + reset_after if remaining < total else None

    def spend(self, now: float) -> bool:
        """Take one session start; False means that none was left."""
        self._refill(now)
        if self._remaining <= 0:
            return False
        self._remaining -= 1
        if self._refill_at is None:
            self._refill_at = now + self._period
        return True

    def set_remaining(self, remaining: int, now: float) -> None:
        """Overwrite what is left, as the control API does."""
        self._refill(now)
        self._remaining = remaining
        self._total = max(self._total, remaining)
        if remaining < self._total and self._refill_at is None:
            self._refill_at = now + self._period

    def view(self, now: float) -> BudgetView:
        """What is left at `now`."""
        self._refill(now)
        reset_after = 0.0 if self._refill_at is None else self._refill_at - now
        return BudgetView(total=self._total, remaining=self._remaining, reset_after=reset_after)

    def _refill(self, now: float) -> None:
        if self._refill_at is not None and now >= self._refill_at:
            self._remaining = self._total
            self._refill_at = None
