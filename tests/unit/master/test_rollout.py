# SPDX-License-Identifier: Apache-2.0
"""The steps of a rolling restart, decided from reports alone."""

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.errors import DisclusterError
from discluster.master.orders.comeback import Sight
from discluster.master.orders.rollout import (
    Step,
    begin,
    carried_on,
    paused,
    progress,
    step,
    with_new_runs,
)
from discluster.messages import ClusterView, HostReport, ShardState, ShardView, UnitState
from discluster.plan import FleetPlan, Grant, Restarted, Rollout, Underway
from tests.unit.master import fleets

TARGETS: Mapping[str, Mapping[int, tuple[int, ...]]] = {
    "alpha": {0: (0, 1), 1: (2, 3)},
    "beta": {2: (4, 5), 3: (6, 7)},
    "gamma": {4: (8, 9)},
}


def planned(targets: Mapping[str, Mapping[int, tuple[int, ...]]] = TARGETS) -> FleetPlan:
    owners = {s: h for h, clusters in targets.items() for c in clusters.values() for s in c}
    return fleets.fleet(targets, granted={s: Grant(host=h, since=3) for s, h in owners.items()})


def view(
    cluster: int,
    shards: tuple[int, ...],
    *,
    run: int = 0,
    unit: UnitState = "active",
    state: ShardState = "ready",
    identifies: int = 0,
    connected: bool = True,
    problem: str | None = None,
    restarts: int = 0,
) -> ClusterView:
    views = tuple(ShardView(shard=s, state=state, identifies=identifies) for s in shards)
    return ClusterView(
        cluster=cluster,
        unit=unit,
        run=run,
        connected=connected,
        problem=problem,
        restarts=restarts,
        shards=views if connected else (),
    )


class World:
    """Hosts that report what the test set; all is well at first."""

    def __init__(self, fleet: FleetPlan | None = None) -> None:
        self.fleet = fleet or planned()
        self.connected = set(self.fleet.hosts)
        self.now = 1000.0
        self.since = 0.0
        self.blocked: str | None = None
        self.views = {
            number: view(number, cluster.shards)
            for entry in self.fleet.hosts.values()
            for number, cluster in entry.clusters.items()
        }

    def sight(self) -> Sight:
        reports = {
            host: HostReport(
                plan_generation=self.fleet.generation,
                clusters=tuple(self.views[n] for n in entry.clusters if n in self.views),
            )
            for host, entry in self.fleet.hosts.items()
        }
        return Sight(
            fleet=self.fleet,
            reports=reports,
            connected=self.connected,
            now=self.now,
            since=self.since,
            blocked=self.blocked,
        )

    def begin(self, *hosts: str, at_a_time: int = 2, force: bool = False) -> Rollout:
        return begin(self.sight(), hosts, at_a_time=at_a_time, timeout=120.0, force=force)

    def step(self, rollout: Rollout) -> Step:
        taken = step(rollout, self.sight())
        self.apply(taken)
        return taken

    def apply(self, taken: Step) -> None:
        if taken.restart:
            self.fleet = with_new_runs(self.sight(), taken.restart, "test")

    def run_of(self, cluster: int) -> int:
        (run,) = [
            e.clusters[cluster].run for e in self.fleet.hosts.values() if cluster in e.clusters
        ]
        return run

    def set(self, cluster: int, **changed: object) -> None:
        """The cluster runs under the plan's run, but for what is ``changed``."""
        shards = next(
            e.clusters[cluster].shards for e in self.fleet.hosts.values() if cluster in e.clusters
        )
        values = {"run": self.run_of(cluster), **changed}
        self.views[cluster] = view(cluster, shards, **values)  # type: ignore[arg-type]


def test_hosts_take_turns() -> None:
    assert World().begin().waiting == (0, 2, 4, 1, 3)
    assert World().begin("beta").waiting == (2, 3)


def test_the_next_cluster_waits_until_one_before_is_back() -> None:
    world = World()
    first = world.step(world.begin(at_a_time=2))
    assert first.restart == (0, 2)
    assert first.sentence == "restarting clusters 0, 2"
    assert first.rollout.underway == {
        0: Underway(since=1000.0, ready=(0, 1)),
        2: Underway(since=1000.0, ready=(4, 5)),
    }
    assert world.step(first.rollout).restart == ()
    world.now += 2.5
    world.set(2)
    second = world.step(first.rollout)
    assert second.restart == (4,)
    assert second.sentence == "cluster 2 back; restarting cluster 4"
    assert second.rollout.restarted == {2: Restarted(took=2.5)}
    assert progress(second.rollout) == "1 of 5 clusters restarted"


@pytest.mark.parametrize(
    "not_yet",
    [
        {"run": 0},
        {"unit": "activating"},
        {"unit": "deactivating"},
        {"connected": False},
        {"state": "resuming"},
    ],
)
def test_a_cluster_is_not_back_before(not_yet: Mapping[str, object]) -> None:
    world = World()
    rollout = world.step(world.begin("gamma")).rollout
    world.set(4, **not_yet)
    assert world.step(rollout).rollout == rollout
    world.set(4)
    assert world.step(rollout).rollout.state == "done"


def test_a_cluster_that_runs_but_some_of_its_shards_is_not_back() -> None:
    world = World()
    rollout = world.step(world.begin("gamma")).rollout
    world.views[4] = view(4, (8,), run=1)
    assert world.step(rollout).rollout.underway


def test_a_shard_that_was_not_ready_before_is_not_waited_for() -> None:
    world = World()
    world.set(4, state="backoff")
    rollout = world.step(world.begin("gamma", force=True)).rollout
    world.set(4, state="backoff")
    assert world.step(rollout).rollout.state == "done"


def test_shards_that_identified_are_counted() -> None:
    world = World()
    rollout = world.step(world.begin("gamma")).rollout
    world.set(4, identifies=1)
    done = world.step(rollout).rollout
    assert (done.state, done.restarted[4].identified) == ("done", 2)


def test_it_stops_where_a_cluster_comes_back_without_its_sessions() -> None:
    world = World()
    rollout = world.step(world.begin(at_a_time=1)).rollout
    world.set(0, identifies=1)
    stopped = world.step(rollout)
    assert stopped.restart == ()
    assert stopped.rollout.problem == (
        "cluster 0 on alpha came back without its sessions: every shard had to identify"
    )
    again = carried_on(stopped.rollout, world.sight())
    assert again.restart == ()
    assert world.step(again.rollout).restart == (2,)


def test_it_stops_at_one_that_is_not_back_in_time_and_says_why() -> None:
    world = World()
    rollout = world.step(world.begin(at_a_time=1)).rollout
    world.set(0, state="resuming")
    world.now += 119
    assert world.step(rollout).rollout.state == "running"
    world.now += 1
    stopped = world.step(rollout)
    assert stopped.restart == ()
    assert stopped.rollout.state == "stopped"
    assert stopped.rollout.problem == (
        "cluster 0 on alpha did not come back in 120 s: 0 of 2 shards ready; shard 0: resuming"
    )
    assert world.step(stopped.rollout).restart == (), "nothing more is touched"


def test_a_unit_that_failed_stops_it_early_but_not_by_a_report_of_before() -> None:
    world = World()
    world.set(0, unit="failed", problem="unit failed: it crashed too often")
    rollout = world.step(world.begin("alpha", at_a_time=1, force=True)).rollout
    world.set(0, unit="failed", problem="unit failed: it crashed too often")
    world.now += 9
    assert world.step(rollout).rollout.state == "running"
    world.now += 1
    assert world.step(rollout).rollout.problem == (
        "cluster 0 on alpha did not come back in 10 s: unit failed: it crashed too often"
    )


@pytest.mark.parametrize(
    ("crashed", "said"),
    [
        (
            {"unit": "activating", "restarts": 1, "connected": False, "problem": "it was killed"},
            "it was killed",
        ),
        ({"restarts": 1, "connected": False}, "its process ended and was started again"),
        (
            {"unit": "failed", "connected": False, "problem": "unit failed: exit status 78"},
            "unit failed: exit status 78",
        ),
    ],
)
def test_a_cluster_that_is_back_but_crashes_stops_it(
    crashed: Mapping[str, object], said: str
) -> None:
    world = World()
    rollout = world.step(world.begin(at_a_time=1)).rollout
    world.set(0)
    rollout = world.step(rollout).rollout
    assert list(rollout.underway) == [2]
    world.set(0, **crashed)
    stopped = world.step(rollout).rollout
    assert stopped.state == "stopped"
    assert stopped.problem == f"cluster 0 on alpha came back, but did not stay: {said}"
    assert set(stopped.underway) == {0, 2}
    world.set(0, restarts=1)
    world.set(2)
    again = carried_on(stopped, world.sight())
    assert again.restart == ()
    after = world.step(again.rollout).rollout
    assert (after.state, set(after.restarted)) == ("running", {0, 2}), "one crash stops it once"
    assert world.step(after).rollout == after


def test_a_restart_that_somebody_wished_meanwhile_is_no_crash() -> None:
    world = World()
    rollout = world.step(world.begin(at_a_time=1)).rollout
    world.set(0)
    rollout = paused(world.step(rollout).rollout)
    world.set(0, unit="activating", connected=False)
    assert world.step(rollout).rollout == rollout, "systemctl restart"
    world.fleet = with_new_runs(world.sight(), [0], "disclusterctl restart 0")
    world.set(0, unit="failed", run=1, connected=False)
    assert world.step(rollout).rollout == rollout, "its old process had to be killed"


def test_what_took_long_while_master_was_away_is_held_against_nobody() -> None:
    world = World()
    rollout = world.step(world.begin("gamma")).rollout
    world.now += 3600
    world.since = world.now
    assert world.step(rollout).rollout.state == "running"
    world.now += 120
    assert world.step(rollout).rollout.state == "stopped"


def test_clusters_of_a_host_out_of_touch_wait_for_it() -> None:
    world = World()
    rollout = world.begin(at_a_time=5)
    world.connected.remove("beta")
    rollout = world.step(rollout).rollout
    assert set(rollout.underway) == {0, 1, 4}
    assert rollout.waiting == (2, 3)
    world.connected.add("beta")
    assert world.step(rollout).restart == (2, 3)


def test_paused_it_restarts_no_more_and_those_under_way_come_back() -> None:
    world = World()
    rollout = paused(world.step(world.begin(at_a_time=1)).rollout)
    world.set(0)
    after = world.step(rollout)
    assert after.restart == ()
    assert (after.rollout.state, progress(after.rollout)) == ("paused", "1 of 5 clusters restarted")
    again = carried_on(after.rollout, world.sight(), at_a_time=3)
    assert again.restart == ()
    assert world.step(again.rollout).restart == (2, 4, 1)


def test_continued_it_tries_again_what_did_not_come_back() -> None:
    world = World()
    rollout = world.step(world.begin(at_a_time=2)).rollout
    world.set(0, unit="failed", connected=False)
    world.set(2, state="resuming")
    world.now += 120
    stopped = world.step(rollout).rollout
    assert stopped.state == "stopped"
    again = carried_on(stopped, world.sight(), timeout=300.0)
    assert again.restart == (0,), "cluster 2 runs; only its shards are waited for"
    world.apply(again)
    assert again.rollout.problem is None
    assert again.rollout.timeout == 300.0
    assert again.rollout.underway[0] == Underway(since=1120.0, ready=(0, 1))
    world.now += 200
    assert world.step(again.rollout).rollout.state == "running"
    world.set(0)
    assert world.step(again.rollout).rollout.restarted[0].took == 200.0


def test_clusters_that_leave_the_plan_are_passed_over() -> None:
    world = World()
    rollout = world.step(world.begin(at_a_time=1)).rollout
    left = {h: c for h, c in TARGETS.items() if h != "alpha"}
    runs = msgspec.structs.replace(planned(left), generation=world.fleet.generation)
    world.fleet = runs
    after = world.step(rollout)
    assert after.rollout.gone == (1, 0)
    assert after.restart == (2,)
    assert progress(after.rollout) == "0 of 5 clusters restarted, 2 not in the plan any more"


def test_after_a_loss_of_files_the_new_run_is_above_what_runs() -> None:
    world = World()
    world.set(4, run=7)
    rollout = world.step(world.begin("gamma")).rollout
    assert world.run_of(4) == 8
    assert world.step(rollout).rollout.state == "running"
    world.set(4)
    assert world.step(rollout).rollout.state == "done"


def test_a_shard_that_is_given_away_is_not_waited_for() -> None:
    world = World()
    rollout = world.step(world.begin("gamma")).rollout
    granted = {**world.fleet.granted, 9: Grant(host="gamma", withdrawn=7)}
    world.fleet = msgspec.structs.replace(world.fleet, granted=granted)
    world.views[4] = view(4, (8,), run=1)
    assert world.step(rollout).rollout.state == "done"


def test_it_does_not_begin_with_a_cluster_that_is_not_well_unless_forced() -> None:
    world = World()
    world.set(3, state="backoff")
    with pytest.raises(DisclusterError) as caught:
        world.begin()
    assert caught.value.render() == (
        "cluster 3 on beta is not well: 0 of 2 shards ready; shard 6: backoff (to restart it alone:"
        " disclusterctl restart 3; all the same: --force)"
    )
    assert world.begin("alpha").waiting == (0, 1)
    assert world.begin(force=True).waiting == (3, 0, 2, 4, 1), "it costs nothing: first"


def test_it_does_not_begin_while_nobody_may_dial_unless_forced() -> None:
    world = World()
    world.blocked = "Discord rejected the bot token"
    with pytest.raises(DisclusterError) as caught:
        world.begin()
    assert caught.value.render() == (
        "what is restarted now could not connect again: Discord rejected the bot token (mend that"
        " first; all the same: --force)"
    )
    assert len(world.begin(force=True).waiting) == 5


@pytest.mark.parametrize(
    ("hosts", "away", "said"),
    [
        (("delta",), "", "no host 'delta' in the plan (hosts in it: alpha, beta, gamma)"),
        ((), "beta", "beta is out of touch (wait for it"),
        (("empty",), "", "there is no cluster to restart ("),
    ],
)
def test_it_does_not_begin_where_it_cannot(hosts: tuple[str, ...], away: str, said: str) -> None:
    world = World(planned({**TARGETS, "empty": {}}) if "empty" in hosts else None)
    world.connected.discard(away)
    with pytest.raises(DisclusterError) as caught:
        world.begin(*hosts)
    assert caught.value.render().startswith(said)
    assert caught.value.code == "restart-refused"


EVENTS = st.tuples(
    st.sampled_from(["down", "up", "up", "pause", "continue", "continue", "away", "back"]),
    st.integers(0, 11),
    st.floats(0, 1),
)


@settings(max_examples=150, deadline=None)
@given(events=st.lists(EVENTS, max_size=60), at_a_time=st.integers(1, 4), hosts=st.integers(1, 4))
def test_never_more_than_so_many_are_down_and_each_is_restarted_once(
    events: list[tuple[str, int, float]], at_a_time: int, hosts: int
) -> None:
    """Whatever the order in which clusters go down and come back, with pauses and hosts out of
    touch in between: it ends, and every cluster was restarted exactly once.
    """
    targets = {f"h{h}": {3 * h + c: (3 * h + c,) for c in range(3)} for h in range(hosts)}
    world = World(planned(targets))
    rollout = world.begin(at_a_time=at_a_time)
    for event, choice, seconds in events:
        rollout = happen(world, rollout, event, choice)
        world.now += seconds
        rollout = world.step(rollout).rollout
        assert len(rollout.underway) <= at_a_time
        down = {c for c, v in world.views.items() if not v.connected}
        assert down <= set(rollout.underway)
    world.connected = set(targets)
    for _ in range(4 * hosts):
        rollout = world.step(carried_on(rollout, world.sight()).rollout).rollout
        for cluster in rollout.underway:
            world.set(cluster)
    assert rollout.state == "done"
    assert set(rollout.restarted) == set(world.views)
    assert {world.run_of(c) for c in world.views} == {1}


def happen(world: World, rollout: Rollout, event: str, choice: int) -> Rollout:
    views = world.views.items()
    if event == "pause":
        return paused(rollout)
    if event == "continue":
        return carried_on(rollout, world.sight()).rollout
    if event == "away":
        world.connected.discard(f"h{choice}")
    elif event == "back":
        world.connected = set(world.fleet.hosts)
    elif event == "down":
        if behind := [c for c, v in views if v.connected and v.run != world.run_of(c)]:
            world.set(behind[choice % len(behind)], unit="inactive", connected=False)
    elif down := [c for c, v in views if not v.connected]:
        world.set(down[choice % len(down)])
    return rollout
