# SPDX-License-Identifier: Apache-2.0
"""Waiting with a limit that a :class:`Clock` measures."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from discluster.clock import Clock

T = TypeVar("T")


async def within(
    seconds: float, work: Coroutine[Any, Any, T], *, clock: Clock, discard: Callable[[T], None]
) -> T:
    """The result of ``work``, which is cancelled when the time is up or the caller is cancelled.

    ``discard`` gets a result that came too late to be returned.

    Raises:
        TimeoutError: ``seconds`` passed.
    """
    task = asyncio.create_task(work)
    timer = asyncio.create_task(clock.sleep(seconds))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await end(task, timer)
        _discard(task, discard)
        raise
    await end(timer)
    if task.done():
        return task.result()
    await end(task)
    _discard(task, discard)
    raise TimeoutError


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels tasks and waits until they are over. Their results and errors stay in them."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _discard(task: asyncio.Task[T], discard: Callable[[T], None]) -> None:
    if not task.cancelled() and task.exception() is None:
        discard(task.result())
