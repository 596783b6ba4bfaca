# SPDX-License-Identifier: Apache-2.0
"""How long a start takes, and in which order: real lanes and desks, simulated ways and clocks."""

import asyncio
import random
from functools import partial
from pathlib import Path

import pytest

from discluster.simulator.oracles.identifying import buckets_start_in_order
from discluster.simulator.oracles.verdict import Limits
from tests.faults.loop import simulated
from tests.unit.pacing.fleet import PacedFleet

SHARDS = 200
# Seconds by which the delay to Discord varies: what the default interval leaves beyond the 5,
# less what jitter on the way to MASTER adds.
VARIES = 0.045


def out_of_order(fleet: PacedFleet) -> list[str]:
    """What the simulator's oracle says of the order of buckets."""
    limits = Limits(max_concurrency=fleet.lanes)
    evidence = fleet.discord.evidence(fleet.shards)
    return [verdict.text for verdict in buckets_start_in_order(evidence, limits, 0.0)]


@pytest.mark.covers("T-37", "T-39", "O-01", "O-02")
@pytest.mark.parametrize("lanes", [1, 16])
@simulated
async def test_start_takes_what_discord_demands_within_two_hundredths(
    lanes: int, tmp_path: Path
) -> None:
    """Ways to MASTER of 1 to 50 ms, with jitter; clusters that connect at different times."""
    rng = random.Random(lanes)
    names = ("a", "b", "c", "d", "e")
    async with PacedFleet(tmp_path, *names, shards=SHARDS, lanes=lanes) as fleet:
        for name, way in zip(names, (0.001, 0.010, 0.020, 0.035, 0.050), strict=True):
            fleet.add(
                name,
                rng,
                to_master=partial(rng.uniform, way, way + 0.002),
                to_discord=lambda: 0.02 + rng.uniform(0, VARIES),
                asks_after=lambda: rng.uniform(0.3, 4.0),
            ).connect()
        await fleet.all_identified(1200)
        rounds = -(-SHARDS // lanes) - 1
        print(f"\n{lanes} lanes: {fleet.discord.took:.2f} s, at least {rounds * 5}")
        assert rounds * 5 <= fleet.discord.took <= rounds * 5 * 1.02
        assert fleet.discord.closest >= 5
        assert out_of_order(fleet) == []


@simulated
async def test_long_way_to_master_alone_does_not_slow_a_start_down(tmp_path: Path) -> None:
    """50 ms there and back."""
    async with PacedFleet(tmp_path, "a", shards=20) as fleet:
        fleet.add("a", random.Random(1), to_master=lambda: 0.025).connect()
        await fleet.all_identified(200)
        assert fleet.discord.took == pytest.approx(19 * 5.05, abs=0.05)


@pytest.mark.covers("O-02")
@simulated
async def test_a_cluster_that_comes_late_holds_the_start_up_for_the_sake_of_the_order(
    tmp_path: Path,
) -> None:
    rng = random.Random(1)
    async with PacedFleet(tmp_path, "a", "b", shards=32, lanes=8) as fleet:
        fleet.add("a", rng, asks_after=lambda: rng.uniform(4.0, 5.5)).connect()
        fleet.add("b", rng, asks_after=lambda: rng.uniform(0.1, 2.5)).connect()
        await fleet.all_identified(100)
        assert out_of_order(fleet) == []


@simulated
async def test_a_cluster_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    """It has two of the four lanes, and with them the lowest numbers."""
    rng = random.Random(1)
    async with PacedFleet(tmp_path, "a", "b", shards=16, lanes=4) as fleet:
        fleet.add("a", rng, asks_after=lambda: 100.0).connect()
        fleet.add("b", rng, asks_after=lambda: 1.0).connect()
        began = fleet.clock.monotonic()
        while len(fleet.discord.shards) < 8:
            assert fleet.clock.monotonic() - began < 21, "three seconds, and four rounds"
            await asyncio.sleep(0.1)
        await fleet.all_identified(200)
        assert fleet.discord.closest >= 5


@simulated
async def test_a_host_that_goes_away_is_not_waited_for(tmp_path: Path) -> None:
    rng = random.Random(1)
    async with PacedFleet(tmp_path, "a", "b", shards=8, lanes=4) as fleet:
        gone = fleet.add("a", rng, asks_after=lambda: 1e6)
        gone.connect()
        fleet.add("b", rng, asks_after=lambda: 2.0).connect()
        await asyncio.sleep(1)
        gone.disconnect()
        await asyncio.sleep(1.5)
        assert fleet.discord.identifies == [], "it may identify alone"
        await asyncio.sleep(25)
        assert fleet.discord.shards == {2, 3, 6, 7}, "two lanes, whole, are b's"
        await asyncio.sleep(40)
        assert fleet.discord.shards == set(range(8)), "its lease is over: all are b's"
