# SPDX-License-Identifier: Apache-2.0
"""Whatever is killed, no event is lost, and what comes twice has the same id."""

import asyncio
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pytest

from tests.bench.subject import scratch
from tests.brokers.scene import SHARDS, Published, Scene, scene
from tests.brokers.servers import Kind
from tests.waiting import wait_for

pytestmark = [pytest.mark.usefixtures("installed"), pytest.mark.timeout(150)]

KINDS: tuple[Kind, ...] = ("nats", "redis")
RATE = 250.0
ID = re.compile(r"(\d+)-[0-9a-f]{16}-(\d+)")


async def assert_nothing_is_lost(scene: Scene) -> Sequence[Published]:
    """Every event that was sent is there under one id, and in order once duplicates are removed.
    What is there, each once.
    """
    await scene.simulator.stream(0)
    await scene.acknowledged()
    published = await scene.published()
    once = {one.id: one for one in reversed(published)}
    assert len({(one.guild, one.count) for one in once.values() if one.count}) == len(
        [one for one in once.values() if one.count]
    ), "an event has two ids"
    for one in published:
        said = ID.fullmatch(one.id)
        assert said is not None
        assert (int(said[1]), int(said[2])) == (one.shard, one.seq)
        assert once[one.id] == one, "an id stands for two events"
    missing = await scene.sent() - {(one.guild, one.count) for one in published}
    assert not missing, f"{len(missing)} lost"
    assert (await scene.simulator.summary()).identifies == SHARDS, "a session was given up"
    return list(first_of_each(published))


def first_of_each(published: Sequence[Published]) -> Iterator[Published]:
    seen = set()
    for one in published:
        if one.id not in seen:
            seen.add(one.id)
            yield one


def assert_order(once: Sequence[Published]) -> None:
    """Of each shard in the order in which Discord sent them, wherever they are together."""
    by_place = defaultdict(list)
    for one in once:
        by_place[one.place, one.shard].append(one.seq)
    for place, seqs in by_place.items():
        assert seqs == sorted(seqs), place


@pytest.mark.parametrize("kind", KINDS)
async def test_killed_broker_loses_nothing(kind: Kind) -> None:
    rng = random.Random(7)
    async with scratch() as directory, scene(kind, directory, rate=RATE) as running:
        for _ in range(5):
            await asyncio.sleep(rng.uniform(0.3, 1.2))
            await running.server.kill()
            await asyncio.sleep(rng.uniform(0.2, 1.5))
            await running.server.start()
        once = await assert_nothing_is_lost(running)
        assert_order(once)
        assert "takes no events" in running.log()
        assert "takes events again" in running.log()


@pytest.mark.parametrize("kind", KINDS)
async def test_killed_cluster_loses_nothing(kind: Kind) -> None:
    rng = random.Random(8)
    async with scratch() as directory, scene(kind, directory, rate=RATE) as running:
        for _ in range(4):
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            await running.cluster.kill()
            await running.cluster.start()
            await running.simulator.wait_for_connected(SHARDS, 20)
        assert_order(await assert_nothing_is_lost(running))


@pytest.mark.parametrize("kind", KINDS)
async def test_cluster_killed_while_the_broker_is_away_loses_nothing(kind: Kind) -> None:
    async with scratch() as directory, scene(kind, directory, rate=RATE) as running:
        await running.server.kill()
        await running.says("takes no events, so they are held back")
        await running.cluster.kill()
        await running.cluster.start()
        await running.simulator.wait_for_connected(SHARDS, 20)
        await running.server.start()
        assert_order(await assert_nothing_is_lost(running))


@pytest.mark.parametrize("kind", KINDS)
async def test_orderly_stop_leaves_nothing_to_be_repeated(kind: Kind) -> None:
    async with scratch() as directory, scene(kind, directory, rate=RATE) as running:
        await asyncio.sleep(1)
        assert await running.cluster.stop() == 0
        await running.cluster.start()
        await running.simulator.wait_for_connected(SHARDS, 20)
        once = await assert_nothing_is_lost(running)
        assert len(once) == len(await running.published())


@pytest.mark.parametrize("kind", KINDS)
async def test_broker_that_comes_late_gets_everything(kind: Kind) -> None:
    async with scratch() as directory, scene(kind, directory, rate=RATE, broker=False) as running:
        await asyncio.sleep(1)
        await running.server.start()
        assert_order(await assert_nothing_is_lost(running))


@pytest.mark.parametrize("kind", KINDS)
async def test_broker_that_is_away_for_long_holds_discord_back(kind: Kind) -> None:
    few = {"unacknowledged": 300}
    async with (
        scratch() as directory,
        scene(kind, directory, rate=RATE, cluster=few) as running,
    ):
        await running.server.kill()
        await wait_for(
            lambda: running.log().count("before that it gets no more") >= SHARDS,
            20,
            what="all shards are held back",
        )
        await running.server.start()
        assert_order(await assert_nothing_is_lost(running))
