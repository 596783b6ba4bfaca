# SPDX-License-Identifier: Apache-2.0
"""From HELLO to READY: F07, F13, F15."""

import asyncio
from typing import Any

import pytest

from discluster.simulator import ledger
from discluster.simulator.deeds import (
    Close,
    Delay,
    Fields,
    Hello,
    Invalidate,
    Mute,
    Raw,
    Reconnect,
)
from tests.faults.loop import simulated
from tests.faults.scene import Scene

INVALID = [Invalidate(d="false"), Invalidate(d="null"), Invalidate(d="missing")]
NO_INTERVALS = [0, 1, -41250, "41250", 2**40, None, True, {"a": 1}, 1e300]


# --- before HELLO ---------------------------------------------------------------------------------


@simulated
@pytest.mark.covers("F07", "T-14", "T-55", "T-56")
async def test_edge_that_upgrades_and_stays_silent_is_left_at_a_deadline(scene: Scene) -> None:
    async with scene.set() as stage:
        await stage.script("hello", instead=True, times=4)
        began, mark = stage.now, stage.mark
        await stage.hit(lambda: stage.client.drop("all"))
        assert 20 <= stage.now - began <= 25
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.covers("F07", "T-54")
async def test_op_7_instead_of_hello_is_taken_at_its_word(scene: Scene) -> None:
    async with scene.set() as stage:
        await stage.script("hello", Reconnect(), instead=True, times=4)
        began, mark = stage.now, stage.mark
        await stage.hit(lambda: stage.client.drop("all"))
        assert stage.now - began <= 8
        assert stage.records(ledger.Identify, since=mark) == []
        assert len(stage.records(ledger.Open, since=mark)) == 8


@simulated
@pytest.mark.parametrize("deed", INVALID, ids=lambda deed: deed.d)
@pytest.mark.covers("F07", "F13")
async def test_op_9_before_hello_says_nothing_of_a_session_that_was_not_named(
    scene: Scene, deed: Invalidate
) -> None:
    async with scene.set() as stage:
        await stage.script("hello", deed, instead=True, times=4)
        mark = await stage.hit(lambda: stage.client.drop("all"))
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.covers("F07", "T-77", "O-08")
async def test_hello_without_a_usable_interval_costs_a_dial_and_nothing_else(scene: Scene) -> None:
    shards = len(NO_INTERVALS)
    async with scene.set(shards=shards) as stage:
        for skip, interval in enumerate(NO_INTERVALS[:-1]):
            await stage.script("hello", Hello(interval=interval), skip=skip)
        await stage.script("hello", Hello(missing=True), skip=shards - 1)
        mark = await stage.hit(lambda: stage.client.drop("all"))
        assert stage.records(ledger.Identify, since=mark) == []
        assert len(stage.records(ledger.Resumed, since=mark)) == shards
        assert len(stage.records(ledger.Open, since=mark)) == 2 * shards


# --- op 9 -----------------------------------------------------------------------------------------


@simulated
@pytest.mark.parametrize("deed", INVALID, ids=lambda deed: deed.d)
@pytest.mark.parametrize("more", [(), (Close(code=4000),), (Invalidate(),)], ids=len)
@pytest.mark.covers("F13", "T-11", "T-20", "O-04", "O-06")
async def test_op_9_after_resume_costs_one_identify_on_the_first_address(
    scene: Scene, deed: Invalidate, more: tuple[Close | Invalidate, ...]
) -> None:
    """Whatever its ``d`` is but true; twice, or followed by a close."""
    async with scene.set() as stage:
        await stage.script("resume", deed, *more, instead=True, shard="all", each_shard=True)
        mark = await stage.hit(lambda: stage.client.drop("all"))
        await asyncio.sleep(60)
        assert len(stage.records(ledger.Identify, since=mark)) == 4
        assert len(stage.records(ledger.Resume, since=mark)) == 4


@simulated
@pytest.mark.parametrize("deed", INVALID, ids=lambda deed: deed.d)
@pytest.mark.covers("F13", "T-38", "O-01", "O-06")
async def test_op_9_after_identify_is_tried_again_after_a_pause(
    scene: Scene, deed: Invalidate
) -> None:
    async with scene.set(start=False, max_concurrency=1) as stage:
        await stage.stop()
        await stage.script("identify", deed, instead=True, shard="all", each_shard=True)
        await stage.start()
        assert len(stage.records(ledger.Identify)) == 8


@simulated
@pytest.mark.covers("F13", "O-05")
async def test_op_9_true_after_resume_is_answered_by_another_resume(scene: Scene) -> None:
    async with scene.set() as stage:
        await stage.script(
            "resume", Invalidate(d="true"), instead=True, shard="all", each_shard=True
        )
        mark = await stage.hit(lambda: stage.client.drop("all"))
        assert stage.records(ledger.Identify, since=mark) == []
        assert len(stage.records(ledger.Resume, since=mark)) == 8


# --- READY ----------------------------------------------------------------------------------------


@simulated
@pytest.mark.parametrize("seconds", [30, 120, 280])
@pytest.mark.covers("F15", "T-51")
async def test_ready_that_is_late_is_waited_for(scene: Scene, seconds: float) -> None:
    """Discord asks to keep the connection in an outage, as long as heartbeats are answered."""
    async with scene.set(start=False) as stage:
        await stage.stop()
        await stage.script("ready", Delay(seconds=seconds), shard="all", each_shard=True)
        await stage.start()
        assert len(stage.records(ledger.Identify)) == 4
        assert len(stage.records(ledger.Open)) == 4


@simulated
@pytest.mark.covers("F15", "T-14", "T-51", "T-56", "O-17")
async def test_ready_that_never_comes_costs_few_identifies_and_is_told(scene: Scene) -> None:
    async with scene.set(shards=1, start=False, heals=False) as stage:
        await stage.stop()
        await stage.script("ready", instead=True, times=None, shard=0)
        await stage.start(ready=False)
        await asyncio.sleep(100)
        assert stage.is_in(0) == "identifying"
        assert stage.shards[0].view().problem is not None
        await asyncio.sleep(3500)
        assert 2 <= len(stage.records(ledger.Identify)) <= 12


@simulated
@pytest.mark.parametrize("session_id", [None, 7, [], "", "with a space", "x" * 65])
@pytest.mark.covers("F15", "T-18")
async def test_ready_without_a_usable_session_works_until_it_is_lost(
    scene: Scene, session_id: object
) -> None:
    async with scene.set(start=False, conserves=False) as stage:
        await stage.stop()
        field = Fields(set={"session_id": session_id})
        await stage.script("ready", field, shard="all", each_shard=True)
        await stage.start()
        await asyncio.sleep(100)
        assert len(stage.records(ledger.Open)) == 4
        mark = await stage.hit(lambda: stage.client.drop("all"))
        assert len(stage.records(ledger.Identify, since=mark)) == 4
        assert stage.records(ledger.Resume, since=mark) == []


@simulated
@pytest.mark.parametrize(
    "url",
    ["", None, 7, "::::", "http://127.0.0.1:1", "ws://[::1", "ws://", "ws://a b/", "x" * 300],
)
@pytest.mark.covers("F15", "T-18", "T-19")
async def test_ready_with_an_impossible_resume_url_is_resumed_at_the_first_address(
    scene: Scene, url: object
) -> None:
    async with scene.set(start=False) as stage:
        await stage.stop()
        field = Fields(set={"resume_gateway_url": url})
        await stage.script("ready", field, shard="all", each_shard=True)
        await stage.start()
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=5)
        assert stage.records(ledger.Identify, since=mark) == []
        assert {r.path for r in stage.records(ledger.Open, since=mark)} == {"/"}


@simulated
@pytest.mark.covers("F15", "T-18")
async def test_ready_without_a_resume_url_is_resumed_at_the_first_address(scene: Scene) -> None:
    async with scene.set(start=False) as stage:
        await stage.stop()
        field = Fields(remove=("resume_gateway_url",))
        await stage.script("ready", field, shard="all", each_shard=True)
        await stage.start()
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=5)
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:1/", "ws://127.0.0.1:1", "ws://no-such-host.invalid/"]
)
@pytest.mark.covers("F06", "F15", "F16", "T-13", "T-15")
async def test_dead_resume_url_is_given_up_after_one_dial(scene: Scene, url: str) -> None:
    async with scene.set(start=False) as stage:
        await stage.stop()
        await stage.script(
            "ready", Fields(set={"resume_gateway_url": url}), shard="all", each_shard=True
        )
        await stage.start()
        mark = await stage.hit(lambda: stage.client.drop("all"), timeout=10)
        assert stage.records(ledger.Identify, since=mark) == []
        assert [stage.states(n).count("dialing") for n in range(4)] == [3] * 4


@simulated
@pytest.mark.covers("F15", "T-77")
async def test_ready_that_cannot_be_read_is_no_crash(scene: Scene) -> None:
    bodies: list[Any] = ["[]", "7", "null", '"READY"']
    async with scene.set(start=False, conserves=False) as stage:
        await stage.stop()
        for shard, body in enumerate(bodies):
            text = f'{{"t":"READY","s":1,"op":0,"d":{body}}}'
            await stage.script("ready", Raw(text=text, consume=True), instead=True, shard=shard)
        await stage.start()
        await stage.hit(lambda: stage.client.drop("all"))


@simulated
@pytest.mark.covers("T-14", "T-44")
async def test_black_hole_of_one_shard_holds_up_no_other(scene: Scene) -> None:
    async with scene.set(shards=32, start=False) as stage:
        await stage.stop()
        await stage.script("accepted", Mute(), times=1)
        began = stage.now
        await stage.start(ready=False)
        await stage.until(lambda: [s.view().state for s in stage.shards].count("ready") == 31, 15)
        await stage.all_are("ready", 60)
        assert stage.now - began <= 40


@simulated
@pytest.mark.covers("F28", "T-05", "T-37", "T-39", "O-06")
async def test_identify_that_somebody_else_got_ahead_of_is_tried_again(scene: Scene) -> None:
    """Another process with this token identifies in the same lanes: Discord answers op 9."""
    async with scene.set(max_concurrency=1, start=False, accused=frozenset({"O-01"})) as stage:
        stage.permits.unpaced()
        await stage.all_are("ready", 300)
        rejected = [r for r in stage.records(ledger.Identify) if not r.accepted]
        assert 3 <= len(rejected) <= 20
