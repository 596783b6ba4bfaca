# SPDX-License-Identifier: Apache-2.0
"""Time as a value that is passed in, so that tests own it."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, Protocol

DAY: Final = 86_400.0  # seconds


class Clock(Protocol):
    """The clocks that Discluster uses; all in seconds."""

    def monotonic(self) -> float:
        """Never goes back; counts from an arbitrary instant. For intervals and deadlines."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 UTC; may jump. For showing, for files, and for identify slots."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after ``seconds``; at once (after one turn of the loop) if not positive."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class SteadyWall:
    """The wall clock as it was when this was made, and the seconds since: somebody may set the
    machine's clock, and a day must not end by that.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.wall() - clock.monotonic()

    def now(self) -> float:
        """Seconds since 1970 UTC."""
        return self._clock.monotonic() + self._offset


def in_words(seconds: float) -> str:
    """A time span for a sentence: ``40 s``, ``12 min``, ``3 h``, ``2 h 15 min``, ``20 d``."""
    if seconds < 59.5:
        return f"{max(0, round(seconds))} s"
    if seconds >= 2 * DAY:
        return f"{round(seconds / DAY)} d"
    hours, minutes = divmod(round(seconds / 60), 60)
    parts = [f"{hours} h"] if hours else []
    return " ".join([*parts, f"{minutes} min"] if minutes else parts)


async def at_most(seconds: float, work: Coroutine[Any, Any, object], *, clock: Clock) -> bool:
    """Returns when ``work`` is done, or after ``seconds``; then it is cancelled and over. Whether
    it was done.
    """
    tasks = (asyncio.create_task(work), asyncio.create_task(clock.sleep(seconds)))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0] in done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
