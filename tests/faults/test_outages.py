# SPDX-License-Identifier: Apache-2.0
"""Edges that drain, and Discord being away altogether: F06, F26, F27."""

import asyncio
from typing import Final

import pytest

from discluster.simulator import ledger
from discluster.simulator.deeds import AnyDeed, Delay, Hang, Reset, Status
from discluster.simulator.outages import EdgeOrder
from tests.faults.loop import simulated
from tests.faults.scene import Scene
from tests.faults.stage import Stage

REFUSALS: Final[list[AnyDeed]] = [
    *(
        Status(code=code, html=html)
        for code in (401, 403, 429, 500, 502, 503)
        for html in (False, True)
    ),
    Reset(),
    Hang(),
]


def dials_a_minute(stage: Stage, shard: int, *, since: float) -> float:
    """The most dials of a shard in any minute, by its own states."""
    times = [t for t, state in stage.changes[shard] if state == "dialing" and t >= since]
    return max(sum(t <= other < t + 60 for other in times) for t in times)


@simulated
@pytest.mark.parametrize("deed", REFUSALS, ids=str)
@pytest.mark.covers("F06", "T-10", "T-55", "T-78", "O-08")
async def test_upgrade_that_is_refused_is_tried_again_with_the_session_kept(
    scene: Scene, deed: AnyDeed
) -> None:
    # Longer than sessions last by default, so that what is seen is our doing alone.
    async with scene.set(session_ttl_minimum=600, session_ttl_maximum=600) as stage:
        await stage.script("upgrade", deed, times=None, lasts=120.0)
        began, mark = stage.now, stage.mark
        await stage.hit(lambda: stage.client.drop("all"), timeout=240)
        assert stage.records(ledger.Identify, since=mark) == []
        assert all(dials_a_minute(stage, n, since=began) <= 10 for n in range(4))


@simulated
@pytest.mark.parametrize("seconds", [30, 120, 600, 3600])
@pytest.mark.covers("F27", "T-10", "T-44", "T-57", "O-03", "O-08", "O-14", "O-18")
async def test_outage_costs_no_identify_while_discord_holds_the_sessions_and_one_after(
    scene: Scene, seconds: int
) -> None:
    async with scene.set(
        shards=16,
        session_ttl_minimum=200,
        session_ttl_maximum=200,
        events_per_second=1,
    ) as stage:
        await stage.script("upgrade", Reset(), times=None, lasts=float(seconds))
        began, mark = stage.now, stage.mark
        await stage.hit(lambda: stage.client.drop("all"), timeout=seconds + 200)
        assert stage.now - began <= seconds + 120
        identifies = len(stage.records(ledger.Identify, since=mark))
        assert identifies == (0 if seconds < 200 else 16)
        assert all(dials_a_minute(stage, n, since=began) <= 10 for n in range(16))


@simulated
@pytest.mark.parametrize("do", ["refuse", "black-hole"])
@pytest.mark.covers("F06", "F16", "F27", "T-10", "T-13", "T-55", "O-08")
async def test_resume_hosts_that_are_gone_are_left_for_the_first_address(
    scene: Scene, do: EdgeOrder
) -> None:
    """Machines of their own, of which nobody listens, or answers."""
    edges = tuple(f"127.0.0.{n}:0" for n in (2, 3))
    async with scene.set(edge_addresses=edges) as stage:
        mark = stage.mark
        for edge in ("edge-a", "edge-b"):
            await stage.client.edge(edge, do, seconds=600)
        await stage.hit(lambda: stage.client.drop("all"), timeout=30)
        assert stage.records(ledger.Identify, since=mark) == []
        assert {r.path for r in stage.records(ledger.Open, since=mark)} == {"/"}


@simulated
@pytest.mark.parametrize("do", ["refuse", "black-hole"])
@pytest.mark.covers("F27", "T-10", "T-44", "T-57", "O-08", "O-18")
async def test_all_edges_gone_for_two_minutes_cost_no_identify(scene: Scene, do: EdgeOrder) -> None:
    edges = tuple(f"127.0.0.{n}:0" for n in (2, 3))
    async with scene.set(
        shards=16, edge_addresses=edges, session_ttl_minimum=300, session_ttl_maximum=300
    ) as stage:
        began, mark = stage.now, stage.mark

        async def outage() -> None:
            await stage.client.edge("all", do, seconds=120, connections="rst")

        await stage.hit(outage, timeout=240)
        assert 115 <= stage.now - began <= 190
        assert stage.records(ledger.Identify, since=mark) == []
        assert all(dials_a_minute(stage, n, since=began) <= 10 for n in range(16))


@simulated
@pytest.mark.parametrize("seconds", [3600, -3600, 86_400, -86_400])
@pytest.mark.covers("F31", "T-43", "T-70")
async def test_clock_of_the_machine_that_is_set_changes_nothing(scene: Scene, seconds: int) -> None:
    async with scene.set() as stage:
        await stage.script("resume", Reset(), shard="all", each_shard=True, times=2)
        mark = stage.mark
        await stage.client.drop("all")
        await asyncio.sleep(0.5)
        stage.clock.set_wall(seconds)
        await stage.until(lambda: len(stage.records(ledger.Resumed, since=mark)) == 4, 30)
        await asyncio.sleep(120)
        assert len(stage.records(ledger.Resume, since=mark)) == 12
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.covers("F26", "T-57", "O-08")
async def test_edges_that_drain_one_after_the_other_cost_no_identify(scene: Scene) -> None:
    """Op 7 edge by edge, then 1001 for whoever stays, then nothing listens there."""
    async with scene.set(shards=16, edges=4) as stage:
        await stage.hit(lambda: stage.client.drop("all"))  # now they are spread over the edges
        mark = stage.mark
        for edge in ("edge-a", "edge-b", "edge-c", "edge-d"):
            await stage.client.edge(edge, "drain", spacing=0.5, grace=5.0)
            await asyncio.sleep(60)
        await stage.all_are("ready")
        assert stage.records(ledger.Identify, since=mark) == []
        opened = {r.connection: r.path for r in stage.records(ledger.Open)}
        last = {r.shard: opened[r.connection] for r in stage.records(ledger.Resumed)}
        assert set(last.values()) == {"/"}


@simulated
@pytest.mark.covers("F24", "T-37", "O-01")
async def test_identifies_keep_their_distance_at_arrival_though_the_network_is_uneven(
    scene: Scene,
) -> None:
    async with scene.set(shards=8, max_concurrency=2, start=False) as stage:
        await stage.stop()
        await stage.script("upgrade", Delay(seconds=0.8), times=None, skip=1)
        await stage.start()
        assert len(stage.records(ledger.Identify)) == 8
