# SPDX-License-Identifier: Apache-2.0
"""Heartbeats, zombies, and handlers that take their time."""

import asyncio
import random

import pytest

from discluster.gateway import Event
from discluster.simulator import ledger
from discluster.simulator.deeds import Acknowledge, Delay
from tests.faults.loop import simulated
from tests.faults.scene import Scene
from tests.faults.stage import Stage

INTERVAL = 41.25


@simulated
@pytest.mark.covers("F08", "T-25", "T-63", "O-12")
async def test_half_open_connection_is_left_within_two_intervals_and_resumed(scene: Scene) -> None:
    async with scene.set() as stage:
        began = stage.now
        mark = await stage.hit(lambda: stage.client.mute("all", 600), timeout=3 * INTERVAL)
        assert stage.now - began <= 2 * INTERVAL + 2
        assert stage.records(ledger.Identify, since=mark) == []
        assert len(stage.records(ledger.Resumed, since=mark)) == 4


@simulated
@pytest.mark.covers("F08", "T-26", "T-27")
async def test_connection_after_a_zombie_starts_with_a_clean_slate(scene: Scene) -> None:
    """The ACK that the old connection waited for is not held against the new one."""
    async with scene.set(events_per_second=0) as stage:
        await stage.hit(lambda: stage.client.mute("all", 600), timeout=3 * INTERVAL)
        opened = len(stage.records(ledger.Open))
        await asyncio.sleep(10 * INTERVAL)
        assert len(stage.records(ledger.Open)) == opened


@simulated
@pytest.mark.covers("F09")
async def test_two_missing_acknowledgements_are_outlived_while_events_flow(scene: Scene) -> None:
    async with scene.set() as stage:
        await stage.client.withhold_acks("all", 2)
        await asyncio.sleep(6 * INTERVAL)
        assert len(stage.records(ledger.Open)) == 4


@simulated
@pytest.mark.covers("F09")
async def test_connection_whose_heartbeats_nobody_acknowledges_is_a_zombie_though_events_flow(
    scene: Scene,
) -> None:
    async with scene.set() as stage:
        mark = await stage.hit(lambda: stage.client.withhold_acks("all", 99), timeout=6 * INTERVAL)
        assert stage.records(ledger.Identify, since=mark) == []
        assert len(stage.records(ledger.Resumed, since=mark)) == 4


@simulated
@pytest.mark.parametrize("share", [0.5, 0.9, 1.5, 2.0])
@pytest.mark.covers("F09", "T-28")
async def test_acknowledgement_that_is_late_makes_no_zombie_while_anything_comes(
    scene: Scene, share: float
) -> None:
    async with scene.set() as stage:
        late = Delay(seconds=share * INTERVAL)
        await stage.script("heartbeat", late, shard="all", each_shard=True, times=3)
        await asyncio.sleep(8 * INTERVAL)
        assert len(stage.records(ledger.Open)) == 4


@simulated
@pytest.mark.covers("F09", "T-28")
async def test_acknowledgement_that_is_late_by_less_than_an_interval_is_life_enough(
    scene: Scene,
) -> None:
    """Nothing else comes over this connection."""
    async with scene.set(events_per_second=0) as stage:
        late = Delay(seconds=0.9 * INTERVAL)
        await stage.script("heartbeat", late, shard="all", times=None)
        await asyncio.sleep(8 * INTERVAL)
        assert len(stage.records(ledger.Open)) == 4


@simulated
@pytest.mark.covers("F09")
async def test_acknowledgements_that_are_doubled_or_unasked_are_harmless(scene: Scene) -> None:
    async with scene.set() as stage:
        await stage.script("heartbeat", Acknowledge(times=2), shard="all", times=None)
        for second in range(20):
            await stage.script("now", Acknowledge(), shard="all", after=13.0 * second)
        await asyncio.sleep(8 * INTERVAL)
        assert len(stage.records(ledger.Open)) == 4
        assert all((shard.view().latency or 0) < 1 for shard in stage.shards)


@simulated
@pytest.mark.covers("F10", "T-29", "T-30", "O-11")
async def test_requests_for_heartbeats_at_random_instants_are_answered_and_do_no_harm(
    scene: Scene,
) -> None:
    rng = random.Random(29)
    async with scene.set() as stage:
        for _ in range(250):
            await stage.client.request_heartbeat("all")
            await asyncio.sleep(rng.uniform(0.6, 4))
        answers = [r for r in stage.records(ledger.Heartbeat) if r.requested is not None]
        assert len(answers) == 1000
        assert max(r.requested or 0 for r in answers) < 1.0
        assert len(stage.records(ledger.Open)) == 4


@simulated
@pytest.mark.covers("F10", "T-69", "O-10")
async def test_burst_of_requests_does_not_make_a_shard_exceed_the_limit(scene: Scene) -> None:
    async with scene.set(events_per_second=1) as stage:
        for _ in range(400):
            await stage.client.request_heartbeat("all")
            await asyncio.sleep(0.1)
        await asyncio.sleep(2 * INTERVAL)
        assert len(stage.records(ledger.Open)) == 4


@simulated
@pytest.mark.parametrize("seconds", [1, 60, 600])
@pytest.mark.covers("F25", "T-34", "T-36")
async def test_handler_that_stalls_stops_no_heartbeat_and_loses_nothing(
    scene: Scene, seconds: int
) -> None:
    async with scene.set(events_per_second=20) as stage:
        await stalled(stage, seconds)
        assert len(stage.records(ledger.Open)) == 4
        assert stage.records(ledger.Close) == []


async def stalled(stage: Stage, seconds: float) -> None:
    """The handler of all shards takes so long for one event."""
    resume = asyncio.Event()

    async def wait(event: Event) -> None:
        await resume.wait()

    stage.attend = wait
    before = len(stage.taken)
    await asyncio.sleep(seconds)
    assert len(stage.taken) == before
    stage.attend = lambda event: None
    resume.set()


@simulated
@pytest.mark.covers("F25", "T-21", "O-13")
async def test_connection_that_breaks_during_a_stall_is_resumed_from_the_last_taken_event(
    scene: Scene,
) -> None:
    async with scene.set(events_per_second=20) as stage:
        stall = asyncio.create_task(stalled(stage, 90))
        await asyncio.sleep(30)
        await stage.client.drop("all")
        await stall
        await stage.until(lambda: len(stage.records(ledger.Resumed)) == 4, 60)


@simulated
@pytest.mark.covers("T-33")
async def test_acknowledgement_behind_a_flood_of_guilds_makes_no_zombie(scene: Scene) -> None:
    async with scene.set(shards=1, guilds=2500, guild_create_rate=20, start=False) as stage:
        await stage.until(lambda: stage.types(0).count("GUILD_CREATE") == 2500, 200)
        assert len(stage.records(ledger.Open)) == 1


@simulated
@pytest.mark.covers("T-31", "O-11")
async def test_first_heartbeats_of_many_shards_are_spread_over_the_interval(scene: Scene) -> None:
    async with scene.set(shards=128, max_concurrency=64, events_per_second=0) as stage:
        await asyncio.sleep(1.5 * INTERVAL)
        offsets = [r.offset for r in stage.records(ledger.Heartbeat) if r.offset is not None]
        assert len(offsets) == 128
        # The oracle judges the distribution; this is to say that it had something to judge.
        assert max(offsets) - min(offsets) > 0.8 * INTERVAL
