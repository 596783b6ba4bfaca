# SPDX-License-Identifier: Apache-2.0
"""Simulated time: one factor scales every timer of the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timing:
    """The only place where real and simulated seconds meet."""

    def __init__(
        self, *, factor: float, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        """`clock` counts real seconds; `factor` is real seconds per simulated second."""
        self.factor = factor
        self._loop = loop
        self._clock = clock
        self._start = clock()

    def now(self) -> float:
        """Simulated seconds since the simulator began."""
        return self.simulated(self._clock() - self._start)

    def real(self, seconds: float) -> float:
        """How long a simulated duration takes, in real seconds."""
        return seconds * self.factor

    def simulated(self, seconds: float) -> float:
        """What a real duration is in simulated seconds."""
        return seconds / self.factor

    def later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back after simulated seconds."""
        return self._loop.call_later(seconds * self.factor, callback)
