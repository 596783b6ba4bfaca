# SPDX-License-Identifier: Apache-2.0
"""Waiting for an event, but not for ever, on a clock that is passed in."""

import asyncio

from discluster.clock import Clock, at_most


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
            await at_most(seconds, self._rung.wait(), clock=self._clock)
        self._rung.clear()
