# SPDX-License-Identifier: Apache-2.0
"""Crash loops, hosts that do not reach Discord, and the fleet as its hosts run it."""

from pathlib import Path

import msgspec
import pytest

from discluster.console import EventQuery
from discluster.master.adoption import adoption, caught_up, is_behind
from discluster.master.hosts.failures import REMEMBERED, Crashed, crashed, cut_off, failed_after
from discluster.messages import ClusterView, HostReport, ShardState, ShardView, UnitState
from discluster.plan import ClusterPlan, Failed, Grant, HostEntry, Rollout, Underway
from tests.clock import ManualClock
from tests.unit.master.fakes import Control, Discord, Running, answer, settings
from tests.unit.master.fleets import fleet, report

PLAN = fleet(
    {"a": {0: [0, 1]}, "b": {1: [2, 3]}},
    granted={
        0: Grant(host="a"),
        1: Grant(host="a", since=4),
        2: Grant(host="b"),
        3: Grant(host="b"),
    },
)


def cluster(
    number: int, shards: tuple[int, ...] = (), *, unit: UnitState = "active", run: int = 0
) -> ClusterView:
    views = tuple(ShardView(shard=shard, state="ready") for shard in shards)
    detail = "start limit hit" if unit == "failed" else ""
    return ClusterView(cluster=number, unit=unit, detail=detail, run=run, shards=views)


def host(*clusters: ClusterView, generation: int = 5, holding: tuple[int, ...] = ()) -> HostReport:
    return HostReport(plan_generation=generation, clusters=clusters, holding=holding, shard_count=4)


FAILED = {"a": host(cluster(0, unit="failed")), "b": host(cluster(1, (2, 3)))}
LOST_ONE = Crashed(cluster=0, host="a", shards=(0, 1), detail="start limit hit", again=False)


def test_failed_cluster_is_found_with_the_shards_that_it_had() -> None:
    assert list(crashed(PLAN, FAILED, {"a", "b"})) == [LOST_ONE]
    assert LOST_ONE.in_words() == (
        "cluster 0 on a has failed: start limit hit; its 2 shards go elsewhere"
    )


@pytest.mark.parametrize("case", ["out of touch", "to be started anew", "restarting", "known"])
def test_failed_cluster_that_is_no_news_is_left_alone(case: str) -> None:
    plan, connected = PLAN, {"a", "b"}
    if case == "out of touch":
        connected = {"b"}
    elif case == "to be started anew":
        raised = HostEntry(clusters={0: ClusterPlan(shards=(0, 1), run=3)})
        plan = msgspec.structs.replace(PLAN, hosts=PLAN.hosts | {"a": raised})
    elif case == "restarting":
        rollout = Rollout(
            state="running", began=1.0, at_a_time=1, timeout=9.0, underway={0: Underway(since=1.0)}
        )
        plan = msgspec.structs.replace(PLAN, rollout=rollout)
    else:
        failed = {0: Failed(host="a", at=1.0, shards=(0, 1))}
        plan = msgspec.structs.replace(PLAN, failed=failed)
    assert list(crashed(plan, FAILED, connected)) == []


def test_shards_that_failed_in_two_clusters_stay() -> None:
    moved = msgspec.structs.replace(PLAN, failed={7: Failed(host="b", at=1.0, shards=(0, 1))})
    (again,) = crashed(moved, FAILED, {"a", "b"})
    assert again.again
    assert again.in_words().endswith("its 2 shards had left another that failed, and stay now")
    assert failed_after(moved, [again], wall=2.0) == moved.failed


def test_failed_clusters_are_forgotten_after_an_hour_unless_their_shards_fail_again() -> None:
    before = failed_after(PLAN, [LOST_ONE], wall=100.0)
    assert before == {0: Failed(host="a", at=100.0, shards=(0, 1))}
    plan = msgspec.structs.replace(PLAN, failed=before)
    assert failed_after(plan, [], wall=99.0 + REMEMBERED) == before
    assert failed_after(plan, [], wall=101.0 + REMEMBERED) == {}
    elsewhere = msgspec.structs.replace(LOST_ONE, cluster=9, again=True)
    assert failed_after(plan, [elsewhere], wall=101.0 + REMEMBERED) == before


@pytest.mark.parametrize(
    ("mine", "others", "found"),
    [
        (["dialing", "backoff", "hello"], ["ready", "ready"], True),
        (["dialing"], ["ready", "backoff"], True),
        (["dialing"], ["ready", "backoff", "backoff"], False),
        (["dialing", "ready"], ["ready"], False),
        (["waiting", "dialing"], ["ready"], False),
        (["held"], ["ready"], False),
        ([], ["ready"], False),
        (["backoff"], [], False),
    ],
)
def test_host_that_does_not_reach_discord_is_told_from_a_discord_that_nobody_reaches(
    mine: list[ShardState], others: list[ShardState], found: bool
) -> None:
    def of(states: list[ShardState]) -> HostReport:
        shards = tuple(ShardView(shard=n, state=state) for n, state in enumerate(states))
        return host(ClusterView(cluster=0, unit="active", shards=shards))

    reports = {"a": of(mine), "b": of(others)}
    assert cut_off(reports, {"a", "b"}) == (frozenset({"a"}) if found else frozenset())


# --- adoption -------------------------------------------------------------------------------------


def test_fleet_that_runs_is_adopted_as_it_is() -> None:
    found = adoption(
        {
            "a": host(cluster(3, (0, 1), run=2), holding=(0, 1)),
            "b": host(cluster(4, (2,)), cluster(5), holding=(2, 3)),
            "new": HostReport(plan_generation=0),
        }
    )
    assert found is not None
    assert found.shard_count == 4
    assert found.hosts["a"].clusters == {3: ClusterPlan(shards=(0, 1), run=2)}
    assert found.hosts["b"].clusters == {4: ClusterPlan(shards=(2,)), 5: ClusterPlan(shards=(3,))}
    assert "new" not in found.hosts


def test_of_two_hosts_that_claim_a_shard_the_newer_plan_is_believed() -> None:
    found = adoption(
        {
            "a": host(cluster(3, (0, 1)), generation=5, holding=(0, 1)),
            "b": host(cluster(4, (0,)), generation=9, holding=(0,)),
        }
    )
    assert found is not None
    assert found.hosts["b"].clusters == {4: ClusterPlan(shards=(0,))}
    assert found.hosts["a"].clusters == {3: ClusterPlan(shards=(1,))}


def test_nothing_runs() -> None:
    assert adoption({"a": HostReport(plan_generation=0)}) is None


# --- MASTER ---------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def pair(run: Running) -> dict[str, Control]:
    hosts = {name: run.connect(name) for name in ("a", "b")}
    await run.after()
    for name, own in (("a", [0, 1]), ("b", [2, 3])):
        plan = hosts[name].plan()
        assert list(plan.shards()) == own
        hosts[name].say(report(plan.generation, own, cluster=min(plan.clusters)))
    await run.after()
    return hosts


def events(run: Running) -> str:
    return "\n".join(event.sentence for event in run.events.page(EventQuery()).events)


async def test_shards_of_a_cluster_in_a_crash_loop_go_to_another_host(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        hosts = await pair(run)
        assert run.master.fleet is not None
        generation = run.master.fleet.generation
        hosts["a"].say(host(cluster(0, unit="failed"), generation=generation))
        await run.after(2)
        withdrawn = hosts["a"].plan()
        assert withdrawn.clusters == {}
        hosts["a"].say(host(generation=withdrawn.generation))
        await run.after(2)
        clusters = hosts["b"].plan().clusters
        assert sorted(c.shards for c in clusters.values()) == [(0, 1), (2, 3)]
        assert any("cluster 0 on a failed again and again" in text for text in run.troubles)
        assert "cluster 0 on a has failed: start limit hit; its 2 shards go elsewhere" in events(
            run
        )


async def test_host_that_does_not_reach_discord_gives_its_shards_away_for_a_while(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        hosts = await pair(run)

        async def live(seconds: int) -> None:
            for _ in range(seconds):
                for control in hosts.values():
                    run.master.host_heard(control.connection)
                await run.after(1)

        assert run.master.fleet is not None
        generation = run.master.fleet.generation
        hosts["a"].say(report(generation, [0, 1], state="backoff"))
        await live(58)
        assert run.master.fleet.generation == generation
        await live(5)
        assert hosts["a"].plan().clusters == {}
        (own, _) = run.master.status().hosts
        assert own.standing == "unfit"
        hosts["a"].say(report(run.master.fleet.generation))
        await live(2)
        assert {grant.host for grant in run.master.fleet.granted.values()} == {"b"}
        assert "a does not reach Discord; its 2 shards went to b" in run.troubles
        hosts["b"].say(report(run.master.fleet.generation, [0, 1, 2, 3]))
        await live(600)
        assert run.master.fleet.away == {}
        assert "a gets shards again, to see" in events(run)
        assert len(run.master.fleet.hosts["a"].clusters) == 1


def test_files_from_a_backup_catch_up_with_what_runs() -> None:
    """Of the backup stands what nobody runs, and hosts that did not report."""
    backup = fleet({"a": {0: [0, 1]}, "b": {1: [2]}, "c": {2: [3]}})
    reports = {
        "a": host(cluster(1, (2,)), generation=9, holding=(2,)),
        "b": host(cluster(5, (0,)), generation=9, holding=(0,)),
    }
    assert is_behind(backup, reports)
    found = {h: entry.clusters for h, entry in caught_up(backup, reports).hosts.items()}
    assert found == {
        "a": {1: ClusterPlan(shards=(2,)), 0: ClusterPlan(shards=(1,))},
        "b": {5: ClusterPlan(shards=(0,))},
        "c": {2: ClusterPlan(shards=(3,))},
    }
    assert not is_behind(msgspec.structs.replace(backup, generation=9), reports)
    other = {"a": msgspec.structs.replace(reports["a"], shard_count=64)}
    assert caught_up(backup, other) == backup
