# SPDX-License-Identifier: Apache-2.0
"""A connection that ends, in every way, in every state: F11 and F12.

Each shard of a stage meets another end at the same point of its life.
"""

import asyncio
from typing import Final

import pytest

from discluster.simulator import ledger
from discluster.simulator.deeds import AnyDeed, Close, Delay, Fin, Reset
from discluster.simulator.script import Point
from tests.faults.loop import simulated
from tests.faults.scene import Scene
from tests.faults.stage import Stage

# Reference: Opcodes and Status Codes; what is not listed there leaves a session resumable.
RESUMABLE: Final[tuple[AnyDeed, ...]] = (
    Reset(),
    Fin(),
    Close(code=None),
    *(Close(code=code, reason="why") for code in (1000, 1001, 1011, 3000, 4015, 4999)),
    *(Close(code=code) for code in (4000, 4001, 4002, 4003, 4005, 4008)),
)
GONE: Final = (Close(code=4007), Close(code=4009))
TERMINAL: Final = tuple(Close(code=code) for code in (4004, 4010, 4011, 4012, 4013, 4014))
COUNT: Final = len(RESUMABLE)


async def ends(
    stage: Stage, point: Point, deeds: tuple[AnyDeed, ...] = RESUMABLE, *, count: int = 1
) -> None:
    """Shard n meets the nth end at this point, once."""
    for shard, deed in enumerate(deeds):
        await stage.script(point, deed, shard=shard, count=count)


async def ends_of_anybody(
    stage: Stage, point: Point, deeds: tuple[AnyDeed, ...] = RESUMABLE
) -> None:
    """The nth connection that comes to this point meets the nth end."""
    for skip, deed in enumerate(deeds):
        await stage.script(point, deed, skip=skip)


async def back_again(stage: Stage, *, resumed: int, since: int) -> None:
    """So many RESUMEDs came, everybody is ready, and nobody identified."""
    await stage.until(
        lambda: len(stage.records(ledger.Resumed, since=since)) >= resumed, 300, "all resumed"
    )
    await stage.all_are("ready")
    assert stage.records(ledger.Identify, since=since) == []


# --- with a session -------------------------------------------------------------------------------


@simulated
@pytest.mark.covers("F11", "T-22", "T-24", "T-46", "T-47", "T-48", "T-77", "O-12")
async def test_ready_shard_resumes_after_every_end_that_leaves_its_session(scene: Scene) -> None:
    async with scene.set(shards=COUNT) as stage:
        mark = stage.mark
        await ends(stage, "dispatch", count=3)
        await back_again(stage, resumed=COUNT, since=mark)
        assert len(stage.records(ledger.Resumed, since=mark)) == COUNT


@simulated
@pytest.mark.covers("F11", "T-46", "T-47", "O-03")
async def test_ready_shard_identifies_once_after_an_end_that_takes_its_session(
    scene: Scene,
) -> None:
    async with scene.set(shards=len(GONE)) as stage:
        mark = stage.mark
        await ends(stage, "dispatch", GONE)
        await stage.until(lambda: len(stage.records(ledger.Ready, since=mark)) == len(GONE), 60)
        await asyncio.sleep(60)
        assert len(stage.records(ledger.Identify, since=mark)) == len(GONE)
        assert stage.records(ledger.Resume, since=mark) == []


@simulated
@pytest.mark.parametrize("point", ["resume", "replay", "resumed"])
@pytest.mark.covers("F11", "F16", "T-71", "O-05")
async def test_shard_that_resumes_keeps_its_session_through_every_end(
    scene: Scene, point: Point
) -> None:
    """At "replay" in the middle of it: the next RESUME begins after what was taken."""
    async with scene.set(shards=COUNT) as stage:
        await ends(stage, point, count=3)
        await stage.stop()
        await asyncio.sleep(3)  # something to replay
        mark = stage.mark
        await stage.start(ready=False)
        await back_again(stage, resumed=COUNT, since=mark)
        assert len(stage.records(ledger.Resume, since=mark)) == 2 * COUNT


@simulated
@pytest.mark.parametrize("point", ["accepted", "hello"])
@pytest.mark.covers("F07", "F11", "T-13", "T-77", "T-81")
async def test_session_survives_every_end_before_hello(scene: Scene, point: Point) -> None:
    async with scene.set(shards=COUNT) as stage:
        await ends_of_anybody(stage, point)
        mark = stage.mark
        await stage.client.drop("all")
        await back_again(stage, resumed=COUNT, since=mark)
        assert len(stage.records(ledger.Resume, since=mark)) == COUNT


@simulated
@pytest.mark.covers("F11", "F32", "O-12")
async def test_shard_that_is_stopped_while_its_connection_ends_comes_back_by_resume(
    scene: Scene,
) -> None:
    async with scene.set(shards=COUNT) as stage:
        mark = stage.mark
        for shard, deed in enumerate(RESUMABLE):
            await stage.script("now", deed, shard=shard, after=1.0)
        await asyncio.sleep(1.0)
        began = stage.now
        await stage.stop()
        assert stage.now - began <= 1.5
        await stage.start()
        await back_again(stage, resumed=COUNT, since=mark)


# --- without a session ----------------------------------------------------------------------------


@simulated
@pytest.mark.parametrize("point", ["accepted", "hello"])
@pytest.mark.covers("F07", "F11", "T-81", "O-03")
async def test_new_shard_survives_every_end_before_hello_without_an_identify_more(
    scene: Scene, point: Point
) -> None:
    async with scene.set(shards=COUNT, start=False) as stage:
        await stage.stop()
        await ends_of_anybody(stage, point)
        await stage.start()
        assert len(stage.records(ledger.Identify)) == COUNT


@simulated
@pytest.mark.parametrize("deed", RESUMABLE, ids=str)
@pytest.mark.covers("F11", "T-37", "T-38", "T-81")
async def test_permit_of_a_connection_that_ends_while_it_waits_is_not_lost(
    scene: Scene, deed: AnyDeed
) -> None:
    async with scene.set(shards=6, max_concurrency=1, start=False) as stage:
        await asyncio.sleep(2.0)
        # One of them has identified, the others wait for the only lane.
        await stage.script("now", deed)
        await stage.all_are("ready", 100)
        assert len(stage.records(ledger.Resumed)) == 1
        assert len(stage.records(ledger.Identify)) == 6


@simulated
@pytest.mark.parametrize("point", ["identify", "ready"])
@pytest.mark.covers("F11", "T-02", "T-08", "T-81", "O-01", "O-03")
async def test_identify_that_is_answered_by_an_end_is_tried_again_after_a_pause(
    scene: Scene, point: Point
) -> None:
    async with scene.set(shards=COUNT, start=False) as stage:
        await stage.stop()
        await ends(stage, point)
        await stage.start()
        identifies = stage.records(ledger.Identify)
        assert len(identifies) == 2 * COUNT
        for shard in range(COUNT):
            first, second = (r.time for r in identifies if r.shard == (shard, COUNT))
            assert second - first >= 1.0


@simulated
@pytest.mark.covers("T-02", "T-06", "T-16", "T-79", "O-03", "O-08")
async def test_shard_that_loses_its_session_after_every_ready_identifies_ever_more_seldom(
    scene: Scene,
) -> None:
    """The storm that reset a token: closed two seconds after every READY, for ever."""
    async with scene.set(shards=2, heals=False) as stage:
        mark = stage.mark
        await stage.script("dispatch", Delay(seconds=2), Close(code=4009), shard=0, times=None)
        await asyncio.sleep(3600)
        times = [r.time for r in stage.records(ledger.Identify, since=mark)]
        assert 3 <= len(times) <= 14
        assert times[-1] - times[-2] >= 300
        assert stage.is_in(1) == "ready"


@simulated
@pytest.mark.covers("T-02", "T-16", "T-79", "O-08")
async def test_shard_that_is_closed_after_every_resume_resumes_ever_more_seldom(
    scene: Scene,
) -> None:
    """The back-off starts anew after a minute of health, not after every RESUMED."""
    async with scene.set(shards=2) as stage:
        mark = stage.mark
        rule = await stage.script(
            "dispatch", Delay(seconds=2), Close(code=4002), shard=0, times=None
        )
        await asyncio.sleep(1800)
        resumes = stage.records(ledger.Resume, since=mark)
        assert 1800 / 40 <= len(resumes) <= 1800 / 15
        assert stage.records(ledger.Identify, since=mark) == []
        await stage.client.unscript(rule)


# --- for good -------------------------------------------------------------------------------------


async def assert_all_gave_up(stage: Stage, *, identifies: int) -> None:
    """Every shard is fatal, with the code, and nobody dials within ten minutes."""
    await stage.all_are("fatal", 60)
    codes = [shard.view().fatal for shard in stage.shards]
    assert codes == [deed.code for deed in TERMINAL]
    mark = stage.mark
    await asyncio.sleep(600)
    assert stage.records(ledger.Open, since=mark) == []
    assert len(stage.records(ledger.Identify)) == identifies


@simulated
@pytest.mark.parametrize("point", ["dispatch", "resume", "replay"])
@pytest.mark.covers("F12", "T-04", "T-07", "T-08", "O-07")
async def test_terminal_code_with_a_session_is_the_end(scene: Scene, point: Point) -> None:
    async with scene.set(shards=len(TERMINAL), heals=False, events_per_second=20) as stage:
        await ends(stage, point, TERMINAL)
        await asyncio.sleep(1)
        if point != "dispatch":
            await stage.client.drop("all")
        await assert_all_gave_up(stage, identifies=len(TERMINAL))


@simulated
@pytest.mark.parametrize("point", ["accepted", "hello", "identify", "ready"])
@pytest.mark.covers("F12", "T-04", "T-07", "T-08", "O-07")
async def test_terminal_code_without_a_session_is_the_end(scene: Scene, point: Point) -> None:
    async with scene.set(shards=len(TERMINAL), heals=False, start=False) as stage:
        await stage.stop()
        early = point in ("accepted", "hello")
        await (ends_of_anybody if early else ends)(stage, point, TERMINAL)
        await stage.start(ready=False)
        await stage.all_are("fatal", 60)
        assert {s.view().fatal for s in stage.shards} == {deed.code for deed in TERMINAL}
        mark = stage.mark
        await asyncio.sleep(600)
        assert stage.records(ledger.Open, since=mark) == []
        assert len(stage.records(ledger.Identify)) == (0 if early else len(TERMINAL))


@simulated
@pytest.mark.parametrize("code", [4013, 4014])
@pytest.mark.covers("F29", "T-56", "O-07", "O-17")
async def test_rejected_intents_of_one_shard_leave_the_living_ones_alone(
    scene: Scene, code: int
) -> None:
    async with scene.set(heals=False) as stage:
        await stage.script("identify", Close(code=code), shard=1, times=None)
        await stage.client.invalidate(1)
        await stage.until(lambda: stage.is_in(1) == "fatal", 60)
        mark = stage.mark
        await asyncio.sleep(900)
        assert [stage.is_in(n) for n in range(4)] == ["ready", "fatal", "ready", "ready"]
        assert stage.records(ledger.Open, since=mark) == []
        assert stage.shards[1].view().problem is not None


@simulated
@pytest.mark.covers("F12", "F28", "T-04", "T-58", "O-07")
async def test_token_that_was_reset_ends_in_fatal_and_silence(scene: Scene) -> None:
    async with scene.set(heals=False) as stage:
        await stage.client.revoke_token()
        await stage.all_are("fatal", 60)
        assert {shard.view().fatal for shard in stage.shards} == {4004}
        mark = stage.mark
        await asyncio.sleep(900)
        assert stage.records(ledger.Open, since=mark) == []


@simulated
@pytest.mark.covers("F30")
async def test_shard_count_that_discord_did_not_assign_is_told_and_not_tried_again(
    scene: Scene,
) -> None:
    async with scene.set(start=False, heals=False, recommended=8, assigned_multiple=8) as stage:
        await assert_told_once(stage, 4010)


@simulated
@pytest.mark.covers("F30")
async def test_shard_with_too_many_guilds_is_told_and_not_tried_again(scene: Scene) -> None:
    async with scene.set(start=False, heals=False, guilds=20, max_guilds_per_shard=4) as stage:
        await assert_told_once(stage, 4011)


async def assert_told_once(stage: Stage, code: int) -> None:
    await stage.all_are("fatal", 60)
    views = [shard.view() for shard in stage.shards]
    assert {view.fatal for view in views} == {code}
    assert all("shard count" in str(view.problem) for view in views)
    await asyncio.sleep(600)
    assert len(stage.records(ledger.Identify)) == 4
