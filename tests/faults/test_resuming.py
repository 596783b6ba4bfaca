# SPDX-License-Identifier: Apache-2.0
"""RESUME that meets a sick edge, and replays in every order: F16, F21."""

import asyncio

import pytest

from discluster.gateway import Compression
from discluster.simulator import ledger
from discluster.simulator.deeds import Close, Hang, Invalidate, Mute, Order, Replay, Reset, Status
from tests.faults.loop import simulated
from tests.faults.scene import Scene
from tests.faults.test_reconnects import COMPRESSIONS

DISORDERED = {"interleaved", "reversed"}


@simulated
@pytest.mark.parametrize("deed", [Status(code=503, html=True), Reset(), Hang()], ids=str)
@pytest.mark.covers("F06", "F16", "T-13", "T-15", "T-78")
async def test_resume_edge_that_takes_no_connection_is_left_for_the_first_address(
    scene: Scene, deed: Status | Reset | Hang
) -> None:
    async with scene.set(edges=1) as stage:
        await stage.script("upgrade", deed, edge="edge-a", times=None)
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=20)
        assert stage.records(ledger.Identify, since=mark) == []
        assert {r.path for r in stage.records(ledger.Open, since=mark)} == {"/"}


@simulated
@pytest.mark.covers("F16", "T-13", "T-14")
async def test_resume_edge_without_hello_is_left_for_the_first_address(scene: Scene) -> None:
    async with scene.set(edges=1) as stage:
        await stage.script("hello", instead=True, edge="edge-a", times=None)
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=30)
        assert stage.records(ledger.Identify, since=mark) == []
        assert len(stage.records(ledger.Open, since=mark)) == 8


@simulated
@pytest.mark.covers("F16", "T-12", "T-16", "T-17")
async def test_edge_that_drops_every_resume_costs_few_resumes_and_one_identify(
    scene: Scene,
) -> None:
    async with scene.set(conserves=False) as stage:
        await stage.script("resume", Reset(), shard="all", times=None)
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=120)
        assert len(stage.records(ledger.Identify, since=mark)) == 4
        assert len(stage.records(ledger.Resume, since=mark)) <= 5 * 4


@simulated
@pytest.mark.covers("F16", "T-12", "T-17")
async def test_ninety_seconds_without_an_answer_and_op_9_then_cost_one_identify(
    scene: Scene,
) -> None:
    """What Discord did once: RESUME was answered by 1006 for so long, and then by op 9."""
    async with scene.set(session_ttl_minimum=60, session_ttl_maximum=60) as stage:
        await stage.script("upgrade", Reset(), times=None, lasts=90.0)
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=200)
        assert len(stage.records(ledger.Identify, since=mark)) == 4
        assert len(stage.records(ledger.Resume, since=mark)) == 4


@simulated
@pytest.mark.parametrize("code", [4000, 4001, 4002, 4003, 4005, 4008, 1000, 1001])
@pytest.mark.covers("F16", "T-12", "T-16", "T-52", "O-08")
async def test_edge_that_closes_every_resume_costs_few_resumes_and_one_identify(
    scene: Scene, code: int
) -> None:
    async with scene.set(conserves=False) as stage:
        await stage.script("resume", Close(code=code), shard="all", times=None)
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=120)
        assert len(stage.records(ledger.Identify, since=mark)) == 4
        assert len(stage.records(ledger.Resume, since=mark)) <= 5 * 4


@simulated
@pytest.mark.covers("F16", "T-14", "T-56")
async def test_resume_without_any_answer_is_left_at_a_deadline(scene: Scene) -> None:
    async with scene.set() as stage:
        await stage.script("resume", Mute(), shard="all", each_shard=True, instead=True)
        began = stage.now
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=120)
        assert stage.now - began <= 90
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.covers("F16")
async def test_resumed_without_the_replay_is_a_loss_that_is_discords(scene: Scene) -> None:
    async with scene.set(conserves=False, events_per_second=20) as stage:
        await stage.script("resume", Replay(order="resumed-only"), shard="all", each_shard=True)
        mark = await stage.hit(lambda: stage.client.drop("all"))
        await asyncio.sleep(100)
        assert len(stage.records(ledger.Open, since=mark)) == 4


@simulated
@pytest.mark.covers("F16", "T-14", "T-56", "O-17", "O-18")
async def test_replay_without_resumed_is_not_waited_for_without_end(scene: Scene) -> None:
    async with scene.set(events_per_second=20) as stage:
        await stage.script("resumed", instead=True, shard="all", each_shard=True)
        await stage.client.stream(0)
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=200)
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@COMPRESSIONS
@pytest.mark.parametrize(
    "order", ["resumed-first", "interleaved", "doubled", "reversed", "in-order"]
)
@pytest.mark.covers("F21", "T-71", "O-13")
async def test_replay_in_any_order_loses_nothing(
    scene: Scene, order: Order, compression: Compression
) -> None:
    # It is Discord that does not keep the order here; nothing may be lost all the same.
    accused = frozenset({"O-13"}) if order in DISORDERED else frozenset()
    async with scene.set(
        compression=compression,
        events_per_second=40,
        duplicates=order == "doubled",
        accused=accused,
    ) as stage:
        await stage.script("resume", Replay(order=order), shard="all", each_shard=True)
        mark = await stage.hit(lambda: stage.client.drop("all"))
        await asyncio.sleep(5)
        assert len(stage.records(ledger.Resumed, since=mark)) == 4
        # The next RESUME begins after the highest sequence that was taken.
        await stage.hit(lambda: stage.client.drop("all"))
        assert all(r.accepted for r in stage.records(ledger.Resume, since=mark))


@simulated
@pytest.mark.covers("F21", "O-14")
async def test_replay_of_ten_thousand_events_is_taken_at_once(scene: Scene) -> None:
    async with scene.set(shards=1, events_per_second=200) as stage:
        await stage.stop()
        await asyncio.sleep(55)
        mark = stage.mark
        await stage.start()
        [resumed] = stage.records(ledger.Resumed, since=mark)
        assert resumed.replayed > 10_000


@simulated
@pytest.mark.covers("F21", "F27", "O-05")
async def test_replay_buffer_that_ran_over_costs_one_identify(scene: Scene) -> None:
    async with scene.set(replay_events=50, events_per_second=20) as stage:
        await stage.stop()
        await asyncio.sleep(30)
        mark = stage.mark
        await stage.start()
        assert len(stage.records(ledger.Identify, since=mark)) == 4
        assert len(stage.records(ledger.Resume, since=mark)) == 4


@simulated
@pytest.mark.covers("F16", "F28")
async def test_resume_that_is_invalid_everywhere_takes_turns_to_identify(scene: Scene) -> None:
    async with scene.set(shards=8, max_concurrency=2) as stage:
        await stage.script("resume", Invalidate(), shard="all", each_shard=True, instead=True)
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=120)
        assert len(stage.records(ledger.Identify, since=mark)) == 8
