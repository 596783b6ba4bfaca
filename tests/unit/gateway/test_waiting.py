# SPDX-License-Identifier: Apache-2.0
"""Waiting with a limit."""

import asyncio

import pytest

from discluster.gateway.waiting import within
from tests.clock import ManualClock, settle


async def answer(after: asyncio.Event) -> str:
    """An answer that is not lost when it is cancelled too late."""
    try:
        await after.wait()
    except asyncio.CancelledError:
        return "late"
    return "in time"


async def test_result_in_time_is_returned() -> None:
    clock, ready, discarded = ManualClock(), asyncio.Event(), list[str]()
    ready.set()
    work = within(5.0, answer(ready), clock=clock, discard=discarded.append)
    assert await work == "in time"
    assert discarded == []


async def test_error_in_time_is_raised() -> None:
    async def fail() -> str:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await within(5.0, fail(), clock=ManualClock(), discard=print)


async def test_result_that_is_late_is_discarded() -> None:
    clock, never, discarded = ManualClock(), asyncio.Event(), list[str]()
    work = within(5.0, answer(never), clock=clock, discard=discarded.append)
    task = asyncio.create_task(work)
    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.2)
    with pytest.raises(TimeoutError):
        await task
    assert discarded == ["late"]


async def test_result_is_discarded_when_the_caller_is_cancelled() -> None:
    clock, never, discarded = ManualClock(), asyncio.Event(), list[str]()
    work = within(5.0, answer(never), clock=clock, discard=discarded.append)
    task = asyncio.create_task(work)
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert discarded == ["late"]
