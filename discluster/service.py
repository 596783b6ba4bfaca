# SPDX-License-Identifier: Apache-2.0
"""What all programs do alike: run a loop until a signal comes, and end with words, not traces."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from discluster.errors import DisclusterError

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def no_core_dumps() -> None:
    """Keep what this process knows, the bot token or a key, out of any core dump.

    A limit alone (LimitCORE=0) holds where the kernel writes a file; a program that it pipes the
    dump to gets it nevertheless. This also closes ``/proc/PID/mem`` and the like to the same user.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        log.warning("core dumps stay possible: %s", os.strerror(ctypes.get_errno()))


def run_service(body: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    """Runs ``body(stop)``; SIGTERM and SIGINT set ``stop``. Returns the exit status.

    An error of ours is told in one sentence and gives its own exit status; anything else is a
    fault of the program and keeps its traceback, for the journal.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(body))
    except DisclusterError as error:
        return report_error(error)
    except ExceptionGroup as group:
        ours = first_of_ours(group)
        if ours is None:
            raise
        return report_error(ours)
    except KeyboardInterrupt:
        return 130
    return 0


async def _until_signal(body: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await body(stop)


def first_of_ours(group: BaseExceptionGroup[BaseException]) -> DisclusterError | None:
    """The error to tell, if everything that went wrong is an error of ours."""
    ours, others = group.split(DisclusterError)
    if ours is None or others is not None:
        return None
    error: BaseException = ours
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, DisclusterError) else None


def report_error(error: DisclusterError) -> int:
    """``error: MESSAGE (HINT)`` on standard error; returns the exit status."""
    print(f"error: {error.render()}", file=sys.stderr)  # noqa: T201
    return error.exit_status
