# SPDX-License-Identifier: Apache-2.0
"""Real sockets in simulated time: an event loop whose clock stands still while there is work.

Only when no socket of this process has anything to read and no callback is ready does the clock
jump to the next timer. So ten minutes of back-off take a second, and a busy machine makes a test
slower but never makes a heartbeat late: what a test asserts about times is exact.

It holds for what happens inside of one process: bytes on loopback have arrived when they have
been sent. Other processes live in real time; tests with such take an ordinary loop.
"""

import asyncio
import functools
import os
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, ParamSpec

Parameters = ParamSpec("Parameters")

# The clock never jumps further at once, so that a packet that the kernel delivered late (it may,
# on a loaded machine) costs a client this long and not its deadline.
_LONGEST_JUMP = 0.1
_WALL = 1_700_000_000.0


class _JumpingSelector(selectors.EpollSelector):
    """Instead of waiting for a timer it moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.longest = _LONGEST_JUMP

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        os.sched_yield()
        if timeout is None:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.now += min(timeout, self.longest)
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """``time()`` counts simulated seconds."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now

    def hurry(self, longest: float) -> None:
        """The clock may jump so many seconds at once, where a late packet does no harm."""
        self._jumping.longest = longest

    def stall(self, seconds: float) -> None:
        """The machine stands still for so long."""
        self._jumping.now += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """In place: the clock would run on while a thread works."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def simulated(
    test: Callable[Parameters, Coroutine[Any, Any, None]],
) -> Callable[Parameters, None]:
    """Runs a test, an ``async def``, in simulated time."""

    @functools.wraps(test)
    def run(*args: Parameters.args, **options: Parameters.kwargs) -> None:
        with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
            runner.run(test(*args, **options))

    return run


class LoopClock:
    """Implements ``discluster.clock.Clock`` with the time of the running loop."""

    def __init__(self) -> None:
        self._set = _WALL

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the machine's clock, by so much."""
        self._set += seconds

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return self._set + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
