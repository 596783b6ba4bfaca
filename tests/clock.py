# SPDX-License-Identifier: Apache-2.0
"""A clock that only moves when the test says so."""

import asyncio
import heapq
import itertools


async def settle(turns: int = 50) -> None:
    """Lets everything happen that can happen without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


class ManualClock:
    """Implements ``discluster.clock.Clock``."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def jump(self, seconds: float) -> None:
        """Time passes while nothing runs, as for a process that was stopped."""
        self._monotonic += seconds
        self._wall += seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Time passes, and whoever waits for it goes on at its instant."""
        target = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            if due > self._monotonic:
                self.jump(due - self._monotonic)
            future.set_result(None)
            await settle()
        self.jump(target - self._monotonic)
        await settle()
