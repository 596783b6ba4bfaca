# SPDX-License-Identifier: Apache-2.0
"""A permit that is late is not used, whoever stood still, and whatever was lost on the way."""

import asyncio
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.loop import SimulatedLoop, simulated
from tests.unit.pacing.fleet import Host, PacedFleet

FREEZES = st.lists(
    st.tuples(
        st.sampled_from(["master", "control", "cluster"]),
        st.integers(0, 1),
        st.floats(0, 60),
        st.floats(0, 40),
    ),
    max_size=6,
)
BREAKS = st.lists(st.tuples(st.integers(0, 1), st.floats(1, 60)), max_size=3)


async def pair(fleet: PacedFleet, **options: object) -> tuple[Host, Host]:
    """Two hosts, connected."""
    rng = random.Random(1)
    hosts = fleet.add("a", rng, **options), fleet.add("b", rng, **options)  # type: ignore[arg-type]
    for host in hosts:
        host.connect()
    await asyncio.sleep(0.3)
    return hosts


@pytest.mark.covers("T-37", "O-01")
@simulated
async def test_cluster_that_stood_still_does_not_use_its_permit(tmp_path: Path) -> None:
    async with PacedFleet(tmp_path, "a", "b", shards=4) as fleet:
        a, _ = await pair(fleet, asks_after=lambda: 1.0)
        a.cluster.freeze(40)
        await fleet.all_identified(120)
        assert a.late == [0, 1], "each cost its lane the life of a permit, and no identify"
        assert fleet.discord.closest >= 5


@pytest.mark.covers("T-37", "O-01")
@simulated
async def test_control_that_stood_still_does_not_pass_a_late_permit_on(tmp_path: Path) -> None:
    async with PacedFleet(tmp_path, "a", "b", shards=4) as fleet:
        a, _ = await pair(fleet, asks_after=lambda: 1.0, to_master=lambda: 0.1)
        while 0 not in a.waiting:
            await asyncio.sleep(0.01)
        a.control.freeze(17)
        await fleet.all_identified(120)
        assert a.late == [], "CONTROL returned it itself"
        assert fleet.discord.identifies[0][1] == 1, "whose permit came after that"
        assert fleet.discord.closest >= 5


@simulated
async def test_lane_of_a_host_that_is_lost_with_a_permit_is_free_again_soon(
    tmp_path: Path,
) -> None:
    async with PacedFleet(tmp_path, "a", "b", shards=4) as fleet:
        a, _ = await pair(fleet, asks_after=lambda: 1.0)
        a.cluster.freeze(1000)
        await asyncio.sleep(1)
        a.disconnect()
        lost = fleet.clock.monotonic()
        while not fleet.discord.identifies:
            await asyncio.sleep(0.1)
            # Its windows are its own while it is away.
            assert fleet.clock.monotonic() - lost < 10 + 5.05 + 4 * 5.05


@pytest.mark.covers("T-37", "T-39", "O-01")
@settings(max_examples=40, deadline=None)
@given(
    freezes=FREEZES,
    breaks=BREAKS,
    slow=st.floats(0.001, 3.0),
    seed=st.integers(0, 2**16),
)
def test_no_delay_and_no_standstill_brings_two_identifies_of_a_lane_together(
    freezes: list[tuple[str, int, float, float]],
    breaks: list[tuple[int, float]],
    slow: float,
    seed: int,
) -> None:
    """``slow``: the longest that a message is on its way."""

    async def run(directory: Path) -> None:
        rng = random.Random(seed)
        async with PacedFleet(directory, "a", "b", shards=6, lanes=2) as fleet:
            hosts = [
                fleet.add(
                    name,
                    rng,
                    to_master=lambda: rng.uniform(0.001, slow),
                    asks_after=lambda: rng.uniform(0, 8),
                )
                for name in ("a", "b")
            ]
            for host in hosts:
                host.connect()
            await asyncio.sleep(5)
            loop = asyncio.get_running_loop()
            for who, which, at, seconds in freezes:
                processes = {
                    "master": fleet.master,
                    "control": hosts[which].control,
                    "cluster": hosts[which].cluster,
                }
                loop.call_later(at, processes[who].freeze, seconds)
            for which, at in breaks:
                loop.call_later(at, hosts[which].reconnect)
            await fleet.all_identified(900)
            assert fleet.discord.closest >= 5 - 1e-6

    with (
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=SimulatedLoop) as runner,
    ):
        runner.run(run(Path(directory)))
