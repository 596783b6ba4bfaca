# SPDX-License-Identifier: Apache-2.0
"""Op 7 and op 9, and several reasons to leave a connection at once."""

import asyncio
import gc
import os
import random

import pytest

from discluster.gateway import Compression
from discluster.simulator import ledger
from discluster.simulator.deeds import IgnoreClose
from discluster.simulator.oracles import resources_are_flat, sample_process
from tests.faults.loop import simulated
from tests.faults.scene import Scene

COMPRESSIONS = pytest.mark.parametrize("compression", ["none", "zlib-stream", "zstd-stream"])


@simulated
@COMPRESSIONS
@pytest.mark.covers("F14", "T-40", "T-60")
async def test_op_7_on_all_shards_is_answered_by_resuming_all_without_an_identify(
    scene: Scene, compression: Compression
) -> None:
    async with scene.set(shards=16, compression=compression) as stage:
        mark = await stage.hit(lambda: stage.client.reconnect("all"), timeout=5)
        assert stage.records(ledger.Identify, since=mark) == []
        assert len(stage.records(ledger.Resumed, since=mark)) == 16


@simulated
@pytest.mark.covers("F14")
async def test_op_7_on_one_shard_leaves_the_others_alone(scene: Scene) -> None:
    async with scene.set() as stage:
        mark = stage.mark
        await stage.client.reconnect(2)
        resumed = await stage.seen(ledger.Resumed, since=mark, timeout=5)
        await asyncio.sleep(60)
        assert [record.n for record in stage.records(ledger.Resumed, since=mark)] == [resumed.n]
        assert resumed.shard == (2, 4)


@simulated
@pytest.mark.covers("F14", "O-08")
async def test_op_7_every_ten_seconds_loses_nothing_and_identifies_never(scene: Scene) -> None:
    async with scene.set() as stage:
        mark = stage.mark
        for _ in range(12):
            await stage.client.reconnect("all")
            await asyncio.sleep(10)
        await stage.all_are("ready")
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.parametrize("seconds", [0.0, 0.01, 3.0])
@pytest.mark.covers("F14", "F36", "T-53")
async def test_op_7_that_is_followed_by_a_close_is_one_reconnect(
    scene: Scene, seconds: float
) -> None:
    async with scene.set() as stage:
        mark = await stage.hit(lambda: stage.client.reconnect("all", close_after=seconds))
        await asyncio.sleep(60)
        assert len(stage.records(ledger.Open, since=mark)) == 4
        assert len(stage.records(ledger.Resumed, since=mark)) == 4


@simulated
@pytest.mark.parametrize("offset", [-0.001, 0.0, 0.001])
@pytest.mark.covers("F36", "T-53")
async def test_op_7_a_close_and_the_zombie_timer_in_one_instant_are_one_reconnect(
    scene: Scene, offset: float
) -> None:
    async with scene.set(shards=1, events_per_second=0) as stage:
        await stage.client.withhold_acks("all", 5)
        first = await stage.seen(ledger.Heartbeat)
        # Nothing but the heartbeats goes over the wire, so the second finds a zombie.
        verdict_at = first.time + stage.simulator.settings.heartbeat_interval
        await asyncio.sleep(verdict_at + offset - stage.simulator.world.timing.now())
        mark = await stage.hit(lambda: stage.client.reconnect("all", close_after=0.0))
        await asyncio.sleep(60)
        assert len(stage.records(ledger.Open, since=mark)) == 1
        assert len(stage.records(ledger.Resumed, since=mark)) == 1


@simulated
@pytest.mark.covers("F13", "T-11", "T-20", "O-06")
async def test_op_9_false_on_living_sessions_costs_exactly_one_identify_each(scene: Scene) -> None:
    async with scene.set(edges=4) as stage:
        mark = await stage.hit(lambda: stage.client.invalidate("all"))
        await asyncio.sleep(120)
        identifies = stage.records(ledger.Identify, since=mark)
        assert sorted(r.shard or (0, 0) for r in identifies) == [(n, 4) for n in range(4)]
        assert stage.records(ledger.Resume, since=mark) == []


@simulated
@pytest.mark.covers("F13")
async def test_op_9_true_is_answered_by_a_resume_after_a_pause(scene: Scene) -> None:
    async with scene.set() as stage:
        mark = await stage.hit(lambda: stage.client.invalidate("all", resumable=True))
        assert stage.records(ledger.Identify, since=mark) == []
        told = {r.shard: r.time for r in stage.records(ledger.InvalidSession, since=mark)}
        waits = [r.time - told[r.shard] for r in stage.records(ledger.Resume, since=mark)]
        assert len(waits) == 4
        assert all(1.0 <= wait <= 6.0 for wait in waits)


@simulated
@pytest.mark.covers("F13", "O-05")
async def test_session_that_is_gone_is_found_out_by_one_resume_and_replaced(scene: Scene) -> None:
    async with scene.set() as stage:

        async def lose() -> None:
            await stage.client.drop("all")
            await stage.client.invalidate("all", silent=True)

        mark = await stage.hit(lose)
        assert len(stage.records(ledger.Resume, since=mark)) == 4
        assert len(stage.records(ledger.Identify, since=mark)) == 4


@simulated
@pytest.mark.parametrize("streaming", [0, 20])
@pytest.mark.covers("F33", "F35", "T-25", "T-53", "T-59", "O-09")
async def test_close_handshake_that_is_never_answered_costs_a_second(
    scene: Scene, streaming: int
) -> None:
    """Discord goes on sending meanwhile, and does not hang up either."""
    async with scene.set(start=False, events_per_second=streaming) as stage:
        await stage.stop()
        await stage.script("accepted", IgnoreClose(), times=4)
        await stage.start()
        began = stage.now
        mark = await stage.hit(lambda: stage.client.reconnect("all"), timeout=10)
        assert stage.now - began <= 2.5  # a second for the handshake, and one of back-off
        await asyncio.sleep(60)
        assert len(stage.records(ledger.Open, since=mark)) == 4
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@COMPRESSIONS
@pytest.mark.covers("F33", "T-60", "T-61", "T-71", "O-13")
async def test_drops_at_random_instants_lose_and_repeat_nothing(
    scene: Scene, compression: Compression
) -> None:
    rng = random.Random(14)
    async with scene.set(compression=compression, events_per_second=40) as stage:
        mark = stage.mark
        for _ in range(12):
            await asyncio.sleep(rng.uniform(2, 9))
            await stage.all_are("ready")
            await stage.client.drop(rng.randrange(4))
        await stage.seen(ledger.Resumed, lambda _: len(stage.records(ledger.Resumed)) == 12)
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.covers("T-10", "O-12", "O-14")
async def test_restart_resumes_every_session_within_seconds(scene: Scene) -> None:
    async with scene.set(shards=16) as stage:
        mark = stage.mark
        await stage.stop()
        stopped = stage.now
        await stage.start()
        assert stage.now - stopped < 2
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.covers("F32", "T-21", "O-13")
async def test_death_at_random_instants_loses_nothing(scene: Scene) -> None:
    rng = random.Random(21)
    async with scene.set(events_per_second=40, duplicates=True) as stage:
        mark = stage.mark
        for _ in range(8):
            await asyncio.sleep(rng.uniform(0, 8))
            await stage.kill()
            await stage.start()
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.covers("O-15", "T-03", "T-26", "T-32", "O-09")
async def test_hundreds_of_reconnects_leave_no_task_no_descriptor_and_no_object_behind(
    scene: Scene,
) -> None:
    async with scene.set(events_per_second=0) as stage:
        samples, holdings = [], []
        for turn in range(33):
            await asyncio.sleep(61)  # a minute of health: the back-off starts anew
            await stage.hit(lambda: stage.client.drop("all"), timeout=10)
            if turn % 3 == 2:
                samples.append(sample_process(os.getpid(), tasks=len(asyncio.all_tasks())))
                holdings.append(living_objects())
        assert list(resources_are_flat(samples, warm_up=2)) == []
        # A thing for each of the 72 reconnects in between would be a leak.
        assert holdings[-1] - holdings[-7] < 36


def living_objects() -> int:
    """Objects of the gateway and of what it is built on."""
    gc.collect()
    ours = ("discluster.gateway", "aiohttp", "asyncio")
    return sum(str(type(thing).__module__).startswith(ours) for thing in gc.get_objects())
