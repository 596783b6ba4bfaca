# SPDX-License-Identifier: Apache-2.0
"""The real cluster process with handlers that fail, or take batches: what is lost by them is what
is documented, by Discord's own ledger.
"""

import signal
from pathlib import Path

import pytest

from tests.chaos import recordings
from tests.chaos.recorder import DIRECTORY
from tests.faults import poison
from tests.faults.processes import ClusterProcess, cluster
from tests.faults.scene import Scene
from tests.waiting import wait_for

SHARDS = 2
RATE = 100.0

Event = tuple[int, int, int, int]
"""Shard, guild, count, sequence."""


def settings(handler: str, more: str = "") -> str:
    return f"handler: tests.faults.poison:{handler}\n{more}"


def noted(directory: Path) -> list[Event]:
    """What handlers took, in all lives of the cluster."""
    read = recordings.read([directory])
    return [(n, e.guild, e.number, e.seq) for n in range(SHARDS) for e in read.of(n)]


async def sent(made: ClusterProcess) -> set[Event]:
    return {(n, *event) for n in range(SHARDS) for event in await made.client.sent(n)}


async def streams(made: ClusterProcess, upto: int) -> None:
    """Until every shard was sent so many events; then it is quiet."""
    await flows(made, upto)
    await made.client.stream(0)


async def flows(made: ClusterProcess, upto: int) -> None:
    """Until every shard was sent so many events; and it goes on."""

    async def enough() -> bool:
        return all([len(await made.client.sent(n)) >= upto for n in range(SHARDS)])

    await made.client.stream(RATE)
    await wait_for(enough, 30, what=f"{upto} events of each shard")


async def all_taken_but(made: ClusterProcess, directory: Path, lost: int) -> set[Event]:
    """Waits until no more are missing; returns these."""
    asked = await sent(made)
    await wait_for(lambda: len(asked - set(noted(directory))) <= lost, 30, what="all events taken")
    missing = asked - set(noted(directory))
    assert len(missing) == lost
    return missing


@pytest.mark.parametrize("more", ["", "on_handler_error: retry\nhandler_tries: 3\n"])
async def test_event_that_a_handler_cannot_bear_is_all_that_is_skipped(
    scene: Scene, tmp_path: Path, more: str
) -> None:
    own = settings("Poisoned", more)
    async with (
        cluster(scene, tmp_path, shards=SHARDS, own=own) as made,
        made.running(**{DIRECTORY: str(tmp_path / "noted")}),
    ):
        await made.connected()
        await streams(made, 100)
        [lost] = await all_taken_but(made, tmp_path / "noted", 1)
        assert (lost[0], lost[3]) == (poison.SHARD, poison.SEQ)
        assert len(noted(tmp_path / "noted")) == len(await sent(made)) - 1, "nothing came twice"
        assert made.errors.count(b"ValueError: this one is poison") >= 1
        assert (await made.client.summary()).connections == SHARDS


async def test_event_that_is_borne_at_another_try_is_not_lost(scene: Scene, tmp_path: Path) -> None:
    own = settings("Poisoned", "on_handler_error: retry\n")
    async with (
        cluster(scene, tmp_path, shards=SHARDS, own=own) as made,
        made.running(**{DIRECTORY: str(tmp_path / "noted"), poison.TIMES: "2"}),
    ):
        await made.connected()
        await streams(made, 100)
        await all_taken_but(made, tmp_path / "noted", 0)
        in_turn = [seq for shard, _, _, seq in noted(tmp_path / "noted") if shard == poison.SHARD]
        assert in_turn == sorted(in_turn)
        assert b"try 1 of 6; again in 0.5 seconds" in made.errors
        assert (await made.client.summary()).connections == SHARDS


async def test_fatal_event_ends_the_cluster_and_comes_again_to_the_mended_handler(
    scene: Scene, tmp_path: Path
) -> None:
    own = settings("Poisoned", "on_handler_error: fatal\n")
    places = {DIRECTORY: str(tmp_path / "noted")}
    async with cluster(scene, tmp_path, shards=SHARDS, own=own) as made:
        for turn in range(2):
            async with made.running(**places):
                await made.client.stream(0 if turn else RATE)
                assert await made.ended() == 75
        assert b"error: shard 0: the handler raised ValueError at a " in made.errors
        assert b"(sequence 40), and 'on_handler_error' is 'fatal'" in made.errors
        async with made.running(**places, **{poison.TIMES: "0"}):
            await made.connected()
            await streams(made, 100)
            await all_taken_but(made, tmp_path / "noted", 0)
        assert (await made.client.summary()).identifies == SHARDS


async def test_cluster_that_is_killed_amid_batches_loses_nothing(
    scene: Scene, tmp_path: Path
) -> None:
    places = {DIRECTORY: str(tmp_path / "noted")}
    async with cluster(scene, tmp_path, shards=SHARDS, own=settings("Gathering")) as made:
        for turn in range(1, 4):
            async with made.running(**places):
                await made.connected()
                await flows(made, 100 * turn)
                made.signal(signal.SIGKILL)
                await made.ended()
        async with made.running(**places):
            await made.connected()
            await streams(made, 400)
            await all_taken_but(made, tmp_path / "noted", 0)
        summary = await made.client.summary()
        assert (summary.identifies, summary.lost) == (SHARDS, 0)
