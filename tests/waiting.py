# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition, never for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def wait_for(
    condition: Callable[[], object | Awaitable[object]], timeout: float, *, what: str = ""
) -> None:
    """Returns as soon as ``condition()`` is true.

    Raises:
        TimeoutError: it was not within ``timeout`` seconds; says ``what`` was waited for.
    """
    deadline = time.monotonic() + timeout
    pause = 0.01
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what or condition}")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.25)
