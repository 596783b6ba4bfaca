# SPDX-License-Identifier: Apache-2.0
"""The real cluster process: stopped, killed, restarted in a loop, dropped."""

import signal
from pathlib import Path

import pytest

from tests.faults.processes import cluster, resumed
from tests.faults.scene import Scene
from tests.waiting import wait_for

SHARDS = 4


@pytest.mark.parametrize("close", [1000, 0])
@pytest.mark.covers("F31", "T-35", "O-18")
async def test_process_that_was_stopped_for_a_while_resumes_within_seconds(
    scene: Scene, tmp_path: Path, close: int
) -> None:
    """As a machine that was suspended: Discord has given the connections up meanwhile."""
    async with (
        cluster(scene, tmp_path, missed_heartbeat_close=close, accused=frozenset({"O-11"})) as made,
        made.running(),
    ):
        await made.connected()
        made.signal(signal.SIGSTOP)
        await made.client.wait_for_shards(
            lambda shards: all(shard.state == "detached" for shard in shards), 30
        )
        made.signal(signal.SIGCONT)
        await resumed(made, SHARDS, 10)
        assert (await made.client.summary()).identifies == SHARDS


@pytest.mark.covers("F31", "T-36", "O-09")
async def test_process_that_was_stopped_for_less_than_an_interval_goes_on(
    scene: Scene, tmp_path: Path
) -> None:
    async with (
        cluster(scene, tmp_path, heartbeat_interval=4.0, heartbeat_tolerance=10.0) as made,
        made.running(),
    ):
        await made.connected()
        made.signal(signal.SIGSTOP)
        await wait_for(lambda: _stopped(made.pid), 5)
        beats = (await made.client.summary()).heartbeats
        made.signal(signal.SIGCONT)
        await made.client.wait_for_summary(lambda s: s.heartbeats >= beats + SHARDS, 30)
        assert (await made.client.summary()).connections == SHARDS


def _stopped(pid: int) -> bool:
    return "State:\tT" in (Path("/proc") / str(pid) / "status").read_text()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.covers("F32", "T-01", "T-21", "T-59", "O-03", "O-12")
async def test_restarts_in_a_loop_cost_no_identify(
    scene: Scene, tmp_path: Path, how: signal.Signals
) -> None:
    async with cluster(scene, tmp_path) as made:
        for turn in range(6):
            async with made.running():
                await resumed(made, turn * SHARDS)
                made.signal(how)
                assert await made.ended() == (0 if how is signal.SIGTERM else -how)
        summary = await made.client.summary()
        assert (summary.identifies, summary.lost) == (SHARDS, 0)


@pytest.mark.covers("O-15", "T-68", "O-16")
async def test_reconnects_leave_no_descriptor_and_no_thread_behind(
    scene: Scene, tmp_path: Path
) -> None:
    async with cluster(scene, tmp_path, shards=16) as made, made.running():
        await made.connected()
        samples = []
        for turn in range(1, 4):
            await made.client.drop("all")
            await resumed(made, turn * 16)
            samples.append(made.sample())
        assert (samples[-1].fds, samples[-1].threads) == (samples[0].fds, samples[0].threads)
        assert samples[-1].rss - samples[0].rss < 2 << 20
        assert (await made.client.summary()).identifies == 16
