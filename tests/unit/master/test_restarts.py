# SPDX-License-Identifier: Apache-2.0
"""Restarts as MASTER carries them out: asked for, pushed, stored, told."""

from pathlib import Path

import pytest

from discluster.console import (
    RestartAnswer,
    RestartRequest,
    RollingChange,
    RollingRequest,
    RolloutStatus,
)
from discluster.errors import DisclusterError
from discluster.master.settings import HostSettings
from discluster.messages import HostReport
from tests.clock import ManualClock
from tests.unit.master.fakes import Discord, Running, answer, settings
from tests.unit.master.following import Host


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def running(tmp_path: Path, clock: ManualClock) -> Running:
    """Two hosts with two clusters of one shard each."""
    chosen = settings("a", "b", shards_per_cluster=1, start_wait=10.0)
    return Running(tmp_path, chosen, Discord(answer()), clock)


async def hosts_of(run: Running) -> tuple[Host, Host]:
    pair = Host(run, "a"), Host(run, "b")
    await run.after()
    for host in pair:
        host.follow()
    await run.after()
    return pair


async def settled(run: Running, *hosts: Host) -> None:
    for _ in range(12):
        for host in hosts:
            host.follow()
        await run.after(0.1)


def states(status: RolloutStatus | None) -> dict[int, str]:
    assert status is not None
    return {cluster.cluster: cluster.state for cluster in status.clusters}


async def test_a_rolling_restart_raises_one_run_after_the_other(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        a, b = await hosts_of(run)
        begun = run.master.restarts.begin(RollingRequest(at_a_time=1))
        assert (begun.state, len(begun.clusters)) == ("running", 4)
        await run.after()
        assert sum(a.runs.values()) + sum(b.runs.values()) == 1
        assert run.master.fleet is not None
        assert run.master.fleet.reason == "rolling restart of cluster 0"
        (notice,) = run.master.status().troubles
        assert notice.severity == "notice"
        assert notice.text == (
            "rolling restart: 0 of 4 clusters restarted, under way: cluster 0 on a"
        )
        await settled(run, a, b)
        done = run.master.restarts.status()
        assert set(states(done).values()) == {"restarted"}
        assert done is not None
        assert done.state == "done"
        assert a.runs | b.runs == dict.fromkeys(range(4), 1)
        assert run.master.status().troubles == ()


async def test_a_rolling_restart_goes_on_after_a_restart_of_master(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        a, b = await hosts_of(run)
        run.master.restarts.begin(RollingRequest(at_a_time=1))
        await run.after()
        generation = run.master.status().generation
    await clock.advance(900)
    async with running(tmp_path, clock) as run:
        a_again = Host(run, "a")
        await run.after(5)
        assert run.master.status().generation == generation, "b is waited for"
        b_again = Host(run, "b")
        a_again.plan, b_again.plan = a.plan, b.plan
        await settled(run, a_again, b_again)
        assert a_again.runs | b_again.runs == dict.fromkeys(range(4), 1)


async def test_a_paused_rollout_stays_paused_after_a_restart_of_master(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        a, b = await hosts_of(run)
        run.master.restarts.begin(RollingRequest(at_a_time=1))
        await run.after()
        run.master.restarts.change(RollingChange(action="pause"))
        plans = a.plan, b.plan
    async with running(tmp_path, clock) as run:
        a, b = Host(run, "a"), Host(run, "b")
        a.plan, b.plan = plans
        await settled(run, a, b)
        (warning,) = run.master.status().troubles
        assert warning.text == "rolling restart paused: 1 of 4 clusters restarted"
        assert warning.hint == "go on with it: disclusterctl restart --rolling --continue"
        run.master.restarts.change(RollingChange(action="continue", at_a_time=3))
        await settled(run, a, b)
        assert a.runs | b.runs == dict.fromkeys(range(4), 1)


async def test_a_cluster_that_does_not_come_back_is_an_error_in_the_status(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        a, b = await hosts_of(run)
        run.master.restarts.begin(RollingRequest(at_a_time=1, timeout=20.0))
        await run.after()
        for _ in range(25):
            a.follow(but=0, unit="activating")
            b.follow()
            await run.after(1)
        errors = [t for t in run.master.status().troubles if t.severity == "error"]
        (error,) = errors
        assert error.text == (
            "rolling restart stopped, 0 of 4 clusters restarted: cluster 0 on a did not come back"
            " in 20 s: its unit is activating"
        )
        with pytest.raises(DisclusterError, match="a rolling restart is stopped") as caught:
            run.master.restarts.begin(RollingRequest())
        assert caught.value.hint is not None
        assert "--continue" in caught.value.hint
        run.master.restarts.change(RollingChange(action="continue"))
        await settled(run, a, b)
        assert a.runs | b.runs == {0: 2, 1: 1, 2: 1, 3: 1}


async def test_an_aborted_rollout_leaves_the_rest_as_it_is(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        a, b = await hosts_of(run)
        run.master.restarts.begin(RollingRequest(at_a_time=1))
        await run.after()
        assert run.master.restarts.change(RollingChange(action="abort")).state == "aborted"
        await settled(run, a, b)
        assert sum((a.runs | b.runs).values()) == 1
        assert run.master.restarts.status() is None
        with pytest.raises(DisclusterError, match="no rolling restart is under way"):
            run.master.restarts.change(RollingChange(action="pause"))


async def test_a_dry_run_tells_the_order_and_does_nothing(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        a, b = await hosts_of(run)
        told = run.master.restarts.begin(RollingRequest(dry_run=True))
        assert told.state == "planned"
        assert [cluster.host for cluster in told.clusters] == ["a", "b", "a", "b"]
        await settled(run, a, b)
        assert sum((a.runs | b.runs).values()) == 0


async def test_clusters_are_restarted_at_once_whatever_they_do(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        a, b = await hosts_of(run)
        a.follow(but=1, unit="failed")
        answered = run.master.restarts.at_once(RestartRequest(clusters=(1, 2)))
        assert answered.runs == {1: 1, 2: 1}
        await run.after()
        assert a.runs | b.runs == {0: 0, 1: 1, 2: 1, 3: 0}
        with pytest.raises(DisclusterError, match="no cluster 9 in the plan"):
            run.master.restarts.at_once(RestartRequest(clusters=(1, 9)))
        await run.after(11)
        b.control.leave()
        with pytest.raises(DisclusterError, match="cluster 2 on b: its host is out of touch"):
            run.master.restarts.at_once(RestartRequest(clusters=(2,)))


async def test_a_restart_at_once_is_told_until_all_shards_are_ready_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        a, b = await hosts_of(run)
        restarts = run.master.restarts
        answer = restarts.at_once(RestartRequest(clusters=(1, 2)))
        told = restarts.progress(answer).clusters
        assert [(c.state, c.lacks) for c in told] == [
            ("underway", "a has not started it anew"),
            ("underway", "b has not started it anew"),
        ]
        await run.after()
        a.follow()
        b.follow(but=2, unit="activating")
        told = restarts.progress(answer).clusters
        assert [(c.cluster, c.host, c.state) for c in told] == [
            (1, "a", "restarted"),
            (2, "b", "underway"),
        ]
        assert told[1].lacks == "its unit is activating"
        (gone,) = restarts.progress(RestartAnswer(runs={9: 1})).clusters
        assert gone.state == "gone"


async def test_nothing_is_restarted_at_once_beside_a_rolling_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        await hosts_of(run)
        run.master.restarts.begin(RollingRequest(at_a_time=1))
        with pytest.raises(DisclusterError, match="a rolling restart is running: 0 of 4"):
            run.master.restarts.at_once(RestartRequest(clusters=(3,)))


async def test_a_rolling_restart_does_not_begin_where_nobody_could_connect_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        _, b = await hosts_of(run)
        b.control.say(HostReport(plan_generation=1, rejected="shard 3 was rejected: badly"))
        await run.after()
        with pytest.raises(DisclusterError, match="on b, shard 3 was rejected: badly"):
            run.master.restarts.begin(RollingRequest(hosts=("a",)))
        forced = run.master.restarts.begin(RollingRequest(hosts=("a",), force=True))
        assert forced.state == "running"


async def test_nothing_is_restarted_while_hosts_are_waited_for(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        await hosts_of(run)
    async with running(tmp_path, clock) as run:
        Host(run, "a")
        await run.after()
        with pytest.raises(DisclusterError, match="not now: waiting for b"):
            run.master.restarts.begin(RollingRequest())


async def test_a_new_plan_keeps_runs_and_the_rollout(tmp_path: Path, clock: ManualClock) -> None:
    async with running(tmp_path, clock) as run:
        a, b = await hosts_of(run)
        run.master.restarts.begin(RollingRequest(at_a_time=1))
        await settled(run, a, b)
        run.master.restarts.begin(RollingRequest(at_a_time=1))
        await run.after()
        plans = a.plan, b.plan
    changed = settings(
        hosts={"a": HostSettings(weight=3), "b": HostSettings()}, shards_per_cluster=1
    )
    async with Running(tmp_path, changed, Discord(answer()), clock) as run:
        a, b = Host(run, "a"), Host(run, "b")
        a.plan, b.plan = plans
        await settled(run, a, b)
        assert run.master.fleet is not None
        runs = {
            n: c.run for entry in run.master.fleet.hosts.values() for n, c in entry.clusters.items()
        }
        # One of b's clusters left the plan, and a has a new one: it needs no restart.
        assert sorted(runs.values()) == [0, 2, 2, 2]
        done = run.master.restarts.status()
        assert done is not None
        assert sorted(states(done).values()) == ["gone", "restarted", "restarted", "restarted"]
