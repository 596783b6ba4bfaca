# SPDX-License-Identifier: Apache-2.0
"""The simulator notices when it did not run itself."""

import asyncio

import pytest

from discluster.simulator.attention import Attention
from discluster.simulator.timing import Timing
from tests.faults.loop import SimulatedLoop, simulated


class Watched:
    """``factor``: real seconds per simulated one."""

    def __init__(self, factor: float = 1.0) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        self.stall = loop.stall
        self.noted: list[float] = []
        self.timing = Timing(factor=factor, loop=loop, clock=loop.time)
        self.attention = Attention(
            every=0.02, timing=self.timing, loop=loop, note=self.noted.append
        )


@simulated
async def test_late_looks_are_noted_in_simulated_seconds() -> None:
    watched = Watched(factor=0.5)
    await asyncio.sleep(1.0)
    watched.stall(0.02)
    await asyncio.sleep(0.05)
    assert watched.noted == [], "a timer may be a little late"
    watched.stall(3.0)
    await asyncio.sleep(1.0)
    watched.stall(2.0)
    await asyncio.sleep(1.0)
    assert watched.noted == [pytest.approx(6.0, abs=0.05), pytest.approx(4.0, abs=0.05)]


@simulated
async def test_what_was_lost_is_known_before_the_next_look_and_counts_once() -> None:
    watched = Watched()
    await asyncio.sleep(1.0)
    before = watched.timing.now()
    watched.stall(3.0)
    for _ in range(2):
        assert watched.attention.lost(before) == pytest.approx(3.0, abs=0.02)
    await asyncio.sleep(1.0)
    assert watched.attention.lost(before) == pytest.approx(3.0, abs=0.02)
    assert len(watched.noted) == 1


@simulated
async def test_only_what_was_lost_since_then_or_just_before_counts() -> None:
    watched = Watched()
    watched.stall(3.0)
    await asyncio.sleep(0.2)
    assert watched.attention.lost(watched.timing.now()) == pytest.approx(3.0, abs=0.02)
    await asyncio.sleep(0.2)
    assert watched.attention.lost(watched.timing.now()) == 0.0


@simulated
async def test_closed_one_looks_no_more() -> None:
    watched = Watched()
    watched.attention.close()
    watched.stall(3.0)
    await asyncio.sleep(1.0)
    assert watched.noted == []


@simulated
async def test_one_that_was_held_up_has_one_timer_as_before() -> None:
    watched = Watched()
    watched.stall(3.0)
    await asyncio.sleep(1.0)
    watched.attention.close()
    watched.stall(3.0)
    await asyncio.sleep(1.0)
    assert len(watched.noted) == 1, "a second timer outlived it"
