# SPDX-License-Identifier: Apache-2.0
"""Hosts that pace themselves while MASTER is away, with wall clocks that differ."""

import asyncio
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.loop import SimulatedLoop
from tests.unit.pacing.fleet import INTERVAL, Host, PacedFleet

# What is stated: any two clocks differ by no more than half the interval.
SKEW = st.floats(-INTERVAL / 4, INTERVAL / 4)
NAMES = ("a", "b", "c")


def run(seed: int, skews: list[float], course: str) -> None:
    """``course``: what happens after the hosts have lost MASTER."""

    async def go(directory: Path) -> None:
        rng = random.Random(seed)
        async with PacedFleet(directory, *NAMES, shards=12, lanes=1) as fleet:
            hosts = [
                fleet.add(name, rng, skew=skew, asks_after=lambda: 1e9)
                for name, skew in zip(NAMES, skews, strict=True)
            ]
            for host in hosts:
                host.connect()
            await asyncio.sleep(30)
            assert len({host.plan.identify.slot for host in hosts if host.plan}) == 3
            await COURSES[course](fleet, hosts, rng)
            assert fleet.discord.closest >= 5

    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=SimulatedLoop) as runner,
    ):
        runner.run(go(Path(directory)))


def ask_all(hosts: list[Host]) -> None:
    """Every session was lost."""
    for host in hosts:
        assert host.plan is not None
        for shard in host.plan.shards():
            host.ask(shard)


async def master_stays_away(fleet: PacedFleet, hosts: list[Host], rng: random.Random) -> None:
    fleet.kill_master()
    ask_all(hosts)
    # Four shards each, one of them in every fourth window, after the wait for MASTER.
    await fleet.all_identified(60 + 5 * 8 * INTERVAL)


async def master_returns(fleet: PacedFleet, hosts: list[Host], rng: random.Random) -> None:
    """One host after the other finds it, and some only much later."""
    fleet.kill_master()
    ask_all(hosts)
    await asyncio.sleep(55 + rng.uniform(0, 60))
    fleet.start_master()
    for host in hosts:
        await asyncio.sleep(rng.choice([0.1, rng.uniform(0, 30)]))
        host.connect()
    await fleet.all_identified(400)


async def one_is_cut_off(fleet: PacedFleet, hosts: list[Host], rng: random.Random) -> None:
    """MASTER goes on granting to the others, and another host leaves and returns."""
    hosts[0].disconnect()
    ask_all(hosts)
    for host in hosts[1:]:
        # They get its shards when its lease is over, and nobody knows their sessions.
        host.asks_after = lambda: rng.uniform(0, 5)
    await asyncio.sleep(rng.uniform(20, 70))
    hosts[1].reconnect()
    await fleet.all_identified(400)


COURSES = {
    "master_stays_away": master_stays_away,
    "master_returns": master_returns,
    "one_is_cut_off": one_is_cut_off,
}


@pytest.mark.covers("T-39", "T-43", "O-01")
@pytest.mark.parametrize("course", COURSES)
def test_identifies_of_a_lane_keep_their_distance_with_clocks_that_differ(course: str) -> None:
    @settings(max_examples=12, deadline=None)
    @given(st.integers(0, 2**16), st.lists(SKEW, min_size=3, max_size=3))
    def paces(seed: int, skews: list[float]) -> None:
        run(seed, skews, course)

    paces()
    half = INTERVAL / 4
    run(1, [half, -half, half], course)
    run(2, [-half, half, -half], course)


def test_clocks_that_differ_by_more_are_too_much() -> None:
    """That the test above can fail."""
    found = 0
    for seed in range(6):
        try:
            run(seed, [5.0, -5.0, 5.0], "master_stays_away")
        except AssertionError:
            found += 1
    assert found
