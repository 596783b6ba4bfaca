# SPDX-License-Identifier: Apache-2.0
"""The time that a handler gets for what it has of a shard that leaves."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from discluster.cluster.flushing import Flushing
from discluster.cluster.handlers import Commands
from discluster.cluster.handlers.count import CountingHandler
from discluster.gateway import Event
from tests.clock import ManualClock, settle


class Flushed:
    """``then`` is what it does about a shard."""

    def __init__(self, then: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        self.asked: list[int] = []
        self._then = then

    async def start(self, cluster: int, commands: Commands) -> None: ...

    def handle(self, event: Event) -> None: ...

    async def stop(self) -> None: ...

    def summary(self) -> str:
        return ""

    async def flush(self, shard: int) -> None:
        self.asked.append(shard)
        await self._then(shard)


async def test_shards_are_flushed_at_once_and_each_only_once() -> None:
    release = asyncio.Event()

    async def wait(shard: int) -> None:
        await release.wait()

    handler = Flushed(wait)
    flushing = Flushing(handler=handler, limit=5.0, clock=ManualClock())
    asked = [asyncio.create_task(flushing.flush(shard)) for shard in (1, 2, 1)]
    await settle()
    assert handler.asked == [1, 2]
    assert not any(task.done() for task in asked)
    release.set()
    await asyncio.gather(*asked)
    await flushing.flush(1)
    assert handler.asked == [1, 2, 1], "a later stay of the shard is another one"


async def test_handler_that_is_stuck_is_left_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def stuck(shard: int) -> None:
        await asyncio.Event().wait()

    clock = ManualClock()
    flushing = Flushing(handler=Flushed(stuck), limit=5.0, clock=clock)
    task = asyncio.create_task(flushing.flush(7))
    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.2)
    await task
    assert "Shard 7: the handler did not flush it within 5 seconds" in caplog.text


async def test_handler_that_fails_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(shard: int) -> None:
        raise OSError("disk full")

    flushing = Flushing(handler=Flushed(fail), limit=5.0, clock=ManualClock())
    await flushing.flush(7)
    assert "Shard 7: the handler failed to flush it" in caplog.text
    assert "disk full" in caplog.text
    assert "within" not in caplog.text


async def test_handler_that_wants_no_flush_is_not_waited_for() -> None:
    await Flushing(handler=CountingHandler(), limit=5.0, clock=ManualClock()).flush(7)
