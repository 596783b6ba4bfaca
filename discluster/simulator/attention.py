# SPDX-License-Identifier: Apache-2.0
"""Whether the simulator itself runs in time: who slept cannot say when something arrived."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from discluster.simulator.timing import Timing

# Real seconds. Less is what clients have to allow for anyway.
_NOTABLE: Final = 0.03
# How long after it woke up it may still be reading what came meanwhile.
_CATCHING_UP: Final = 0.25


class Attention:
    """Looks at the clock again and again; what it looks too late by is noted.

    A machine that stands still, or is too busy, holds up the simulator and its clients alike. What
    arrived meanwhile is dated when it is read, so none of it may be called late, and two of it not
    too close.
    """

    def __init__(
        self,
        *,
        every: float,
        timing: Timing,
        loop: asyncio.AbstractEventLoop,
        note: Callable[[float], object],
    ) -> None:
        """`every`: real seconds between two looks. `note` is told, in simulated seconds, how long
        the simulator did not run.
        """
        self._every = every
        self._timing = timing
        self._loop = loop
        self._note = note
        self._pauses: list[tuple[float, float]] = []  # when each ended, and how long it was
        self._arm()

    def close(self) -> None:
        """Look no more."""
        self._next.cancel()

    def lost(self, since: float) -> float:
        """Simulated seconds for which it did not run since then, or shortly before."""
        self._look()
        first = bisect_left(self._pauses, (since - self._timing.simulated(_CATCHING_UP),))
        return sum(seconds for _, seconds in self._pauses[first:])

    def _arm(self) -> None:
        self._next = self._loop.call_later(self._every, self._wake)
        self._due = self._next.when()

    def _wake(self) -> None:
        self._look()
        self._arm()

    def _look(self) -> None:
        late = self._loop.time() - self._due
        if late <= _NOTABLE:
            return
        self._due += late  # the timer itself is still to come
        seconds = self._timing.simulated(late)
        self._pauses.append((self._timing.now(), seconds))
        self._note(seconds)
