# SPDX-License-Identifier: Apache-2.0
"""Waiting for an event, but not for ever, on a clock that is passed in."""

import asyncio

from discluster.clock import Clock


async def wait_at_most(event: asyncio.Event, seconds: float, *, clock: Clock) -> None:
    """Returns when ``event`` is set, or after ``seconds``."""
    tasks = (asyncio.create_task(event.wait()), asyncio.create_task(clock.sleep(seconds)))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Alarm:
    """What a loop sleeps by: until somebody rings, or its time is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, seconds: float | None) -> None:
        """Returns when somebody has rung since the last call, or after ``seconds``."""
        if seconds is None:
            await self._rung.wait()
        else:
            await wait_at_most(self._rung, seconds, clock=self._clock)
        self._rung.clear()
