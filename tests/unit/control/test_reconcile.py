# SPDX-License-Identifier: Apache-2.0
from typing import Any

import msgspec
import pytest

from discluster.control.reconcile import (
    Assign,
    Decision,
    Observed,
    Settle,
    Start,
    Stop,
    decide,
    obeys,
)
from discluster.control.reports import build_report
from discluster.control.supervisor import UnitView
from discluster.messages import Assignment, ClusterReport, Held, ShardView, UnitState
from discluster.plan import ClusterPlan, HostPlan, Session
from discluster.stays import Stay

GATEWAY = "wss://gateway.example"


def plan(
    *,
    generation: int = 5,
    handover: Any = None,
    since: dict[int, int] | None = None,
    **clusters: tuple[int, ...],
) -> HostPlan:
    return HostPlan(
        generation=generation,
        shard_count=8,
        host="alpha",
        gateway_url=GATEWAY,
        clusters={int(c[1:]): ClusterPlan(shards=shards) for c, shards in clusters.items()},
        handover=handover or {},
        since=since or {},
    )


def held(cluster: int, *shards: int, generation: int = 1, **more: Any) -> Held:
    return Held(
        assignment=Assignment(
            cluster=cluster,
            generation=generation,
            shard_count=8,
            gateway_url=GATEWAY,
            shards=shards,
            entered=more.pop("entered", {}),
            handover=more.pop("handover", {}),
        ),
        **more,
    )


def report(cluster: int, *shards: int, generation: int = 1) -> ClusterReport:
    return ClusterReport(
        cluster=cluster,
        pid=9,
        generation=generation,
        uptime=1,
        handler="",
        shards=tuple(ShardView(shard=shard, state="ready") for shard in shards),
    )


def see(
    units: dict[int, UnitState] | None = None,
    holds: tuple[Held, ...] = (),
    reports: tuple[ClusterReport, ...] = (),
    **more: Any,
) -> Observed:
    return Observed(
        units={c: UnitView(state=state) for c, state in (units or {}).items()},
        held={h.assignment.cluster: h for h in holds},
        reports={r.cluster: r for r in reports},
        **more,
    )


def session(name: str, seq: int) -> Session:
    return Session(session_id=name, resume_url="wss://e", seq=seq)


def assigned(decision: Decision, cluster: int) -> Assignment:
    """The one assignment to ``cluster``."""
    (found,) = [
        step.held.assignment
        for step in decision.steps
        if isinstance(step, Assign) and step.held.assignment.cluster == cluster
    ]
    return found


def test_without_a_plan_nothing_is_touched() -> None:
    seen = see({3: "active", 4: "failed"}, (held(3, 0, 1), held(4, 2)))
    assert decide(None, seen) == Decision(steps=(), sentence="no plan yet; cluster 3 left alone")
    assert decide(None, see()).sentence == "no plan yet"


def test_new_cluster_is_assigned_and_then_started() -> None:
    decision = decide(plan(c3=(0, 1)), see())
    assert decision.steps == (Assign(held(3, 0, 1, entered={0: 5, 1: 5})), Start(3))
    assert decision.sentence == (
        "generation 5: starting cluster 3; assigning 2 shards to cluster 3"
    )


def test_what_runs_as_planned_is_left_alone() -> None:
    seen = see({3: "active", 4: "active"}, (held(3, 0), held(4, 1)))
    assert decide(plan(c3=(0,), c4=(1,)), seen) == Decision(
        steps=(), sentence="nothing to do: clusters 3, 4 run generation 5"
    )


def test_shard_moves_only_after_its_cluster_let_go() -> None:
    target = plan(c3=(0,), c4=(1, 2))
    before = (held(3, 0, 1), held(4, 2))
    running: dict[int, UnitState] = {3: "active", 4: "active"}
    first = decide(target, see(running, before, (report(3, 0, 1), report(4, 2))))
    narrowed = held(3, 0, generation=2, leaving=(1,))
    assert first.steps == (Assign(narrowed),)
    assert first.sentence == "generation 5: assigning 1 shards to cluster 3"
    still = (report(3, 0, 1, generation=2), report(4, 2))
    assert decide(target, see(running, (narrowed, before[1]), still)).steps == ()
    gone = (report(3, 0, generation=2), report(4, 2))
    second = decide(target, see(running, (narrowed, before[1]), gone))
    settled = held(3, 0, generation=2, left=(1,))
    assert second.steps == (Settle(settled),)
    assert second.sentence == "generation 5: cluster 3 released what was asked"
    third = decide(target, see(running, (settled, before[1]), gone))
    assert assigned(third, 4).shards == (1, 2)


def test_report_of_an_older_assignment_releases_nothing() -> None:
    """It was sent before the cluster knew that it shall open the shard, or shall close it."""
    record = held(3, 0, generation=2, leaving=(1,))
    seen = see({3: "active"}, (record,), (report(3, 0, generation=1),))
    assert decide(plan(c3=(0,)), seen).steps == ()


def test_silent_cluster_keeps_what_it_may_run() -> None:
    seen = see({3: "active"}, (held(3, 0, generation=2, leaving=(1,)),))
    decision = decide(plan(c3=(0,), c4=(1,)), seen)
    assert assigned(decision, 4).shards == ()
    assert Start(4) not in decision.steps


@pytest.mark.parametrize("state", ["activating", "deactivating", "unknown", "active"])
def test_unit_that_may_run_without_us_keeps_its_shards(state: UnitState) -> None:
    seen = see({3: state}, (held(3, 1),))
    decision = decide(plan(c4=(1,)), seen)
    assert decision.steps[-1] == Stop(3)
    assert assigned(decision, 4).shards == ()


def test_cluster_that_is_not_planned_is_stopped_and_finds_nothing_to_run_later() -> None:
    running = see({3: "active"}, (held(3, 0, 1),))
    decision = decide(plan(), running)
    assert decision == Decision(steps=(Stop(3),), sentence="generation 5: stopping cluster 3")
    stopped = decide(plan(), see({3: "inactive"}, (held(3, 0, 1),)))
    assert stopped.steps == (Assign(held(3, generation=2, leaving=(0, 1))),)


def test_failed_unit_is_told_and_not_started_again() -> None:
    seen = see({3: "failed"}, (held(3, 0),))
    assert decide(plan(c3=(0,)), seen) == Decision(
        steps=(), sentence="generation 5: cluster 3 failed"
    )


def test_cluster_that_comes_back_by_itself_is_told() -> None:
    seen = Observed(
        units={3: UnitView(state="activating", detail="it was killed by a signal")},
        held={3: held(3, 0)},
    )
    assert decide(plan(c3=(0,)), seen).sentence == (
        "generation 5: cluster 3 coming back (it was killed by a signal)"
    )


def test_busy_cluster_is_waited_for() -> None:
    seen = see({}, (held(3, 0),), busy=frozenset({3}))
    assert decide(plan(c3=(1,)), seen) == Decision(
        steps=(), sentence="generation 5: waiting for cluster 3"
    )


def test_many_clusters_are_counted() -> None:
    many: dict[str, Any] = {f"c{n}": (n - 1,) for n in range(1, 9)}
    assert "starting clusters 1, 2, 3, 4, 5, 6, 7, 8;" in decide(plan(**many), see()).sentence


def test_session_is_taken_from_the_cluster_that_had_the_shard_last() -> None:
    """A higher sequence tells nothing: cluster 4 identified anew after it got the shard."""
    seen = see(
        {3: "active", 4: "active"},
        (held(3), held(4, left=(1,), entered={1: 4})),
        stays={
            3: {(1, 8): Stay(entered=2, session=session("old", 900))},
            4: {(1, 8): Stay(entered=4, session=session("new", 2))},
        },
    )
    assert assigned(decide(plan(c5=(1,)), seen), 5).handover == {1: session("new", 2)}


def test_session_is_taken_from_the_newest_stay_when_our_records_were_lost() -> None:
    seen = see(
        stays={
            3: {(1, 8): Stay(entered=4, session=session("new", 2))},
            4: {(1, 8): Stay(entered=2, session=session("old", 900))},
        },
    )
    assert assigned(decide(plan(c5=(1,)), seen), 5).handover == {1: session("new", 2)}


def test_session_in_the_plan_wins_unless_the_same_went_further_here() -> None:
    here = Stay(entered=2, session=session("a", 50))
    seen = see({3: "inactive"}, (held(3, left=(1,), entered={1: 2}),), stays={3: {(1, 8): here}})
    for given, wins in [("a", session("a", 50)), ("b", session("b", 3))]:
        target = plan(c4=(1,), handover={1: session(given, 3)}, since={1: 5})
        assert assigned(decide(target, seen), 4).handover == {1: wins}


def test_session_in_the_plan_is_old_when_the_shard_has_been_here_since() -> None:
    """MASTER leaves it in the plan until it has heard that a cluster runs the shard."""
    here = Stay(entered=6, session=session("new", 2))
    record = held(3, left=(1,), entered={1: 6})
    seen = see({3: "inactive"}, (record,), stays={3: {(1, 8): here}})
    target = plan(generation=7, c4=(1,), handover={1: session("old", 900)}, since={1: 5})
    assert assigned(decide(target, seen), 4).handover == {1: session("new", 2)}


def test_session_that_ended_here_is_not_taken_from_the_plan() -> None:
    seen = see(
        {3: "inactive"}, (held(3, left=(1,), entered={1: 6}),), stays={3: {(1, 8): Stay(entered=6)}}
    )
    target = plan(generation=7, c4=(1,), handover={1: session("old", 900)}, since={1: 5})
    assert assigned(decide(target, seen), 4).handover == {}


def test_session_of_another_shard_count_is_of_no_use() -> None:
    here = Stay(entered=4, session=session("a", 50))
    seen = see({3: "inactive"}, (held(3, left=(1,), entered={1: 4}),), stays={3: {(1, 4): here}})
    assert assigned(decide(plan(c4=(1,)), seen), 4).handover == {}


def test_session_that_was_never_taken_is_handed_on() -> None:
    """Cluster 3 failed before it ran; what it was handed goes to the next."""
    record = held(3, 1, handover={1: session("a", 7)})
    target = plan(c4=(1,))
    first = decide(target, see({3: "failed"}, (record,)))
    narrowed = first.steps[-1]
    assert isinstance(narrowed, Assign)
    second = decide(target, see({3: "failed"}, (narrowed.held,)))
    assert second.steps[0] == Settle(
        held(3, generation=2, left=(1,), handover={1: session("a", 7)})
    )
    third = decide(target, see({3: "failed"}, (second.steps[0].held,)))
    assert assigned(third, 4).handover == {1: session("a", 7)}


def test_cluster_that_is_ahead_of_a_lost_record_gets_a_newer_assignment() -> None:
    """It follows none that is older than its own, as 1 would be after 7."""
    seen = see({3: "active"}, (held(3, 0),), (report(3, 0, generation=7),))
    assert assigned(decide(plan(c3=(0,)), seen), 3).generation == 8


def test_changed_shard_count_is_assigned() -> None:
    record = held(3, 0)
    other = msgspec.structs.replace(record.assignment, shard_count=4)
    seen = see({3: "active"}, (Held(assignment=other),))
    assert assigned(decide(plan(c3=(0,)), seen), 3).shard_count == 8


def test_report_holds_what_the_plan_took_until_no_record_names_it() -> None:
    """A cluster that does not run holds nothing that is planned here, but somebody may start it."""
    record = held(3, 0, 1, entered={0: 4, 1: 4})
    stay = Stay(entered=4, session=session("a", 5))
    seen = see({3: "failed"}, (record,), stays={3: {(1, 8): stay}})
    kept: Any = {"troubles": {}, "sentence": "s", "observed": seen}
    taken = build_report(plan=plan(c3=(0,)), **kept)
    assert taken.holding == (1,)
    assert taken.released == {}
    planned = build_report(plan=plan(c3=(0, 1)), **kept)
    assert planned.holding == ()
    assert planned.released == {1: session("a", 5)}
    assert planned.entered == {0: 4, 1: 4}


def test_report_tells_of_troubles_and_failures() -> None:
    seen = Observed(
        units={
            3: UnitView(state="failed", detail="it crashed too often"),
            4: UnitView(state="inactive"),
        }
    )
    told = build_report(
        plan=plan(c3=(0,)),
        observed=seen,
        troubles={4: "not allowed"},
        host_troubles=(None, "no bus"),
        sentence="s",
    )
    assert [(c.cluster, c.problem) for c in told.clusters] == [
        (3, "unit failed: it crashed too often"),
        (4, "not allowed"),
    ]
    assert (told.problems, told.summary, told.plan_generation) == (("no bus",), "s", 5)


def test_plan_is_obeyed_when_nobody_is_assigned_what_it_does_not_give() -> None:
    given = plan(c3=(0, 1), c4=(2,))
    one = held(3, 0)
    assert not obeys(None, {})
    assert obeys(given, {})
    assert obeys(given, {3: one})
    assert obeys(given, {3: one, 9: held(9)}), "a cluster that is gone has nothing"
    assert not obeys(given, {3: one, 9: held(9, 7)}), "it has what is others' by now"
    other_count = msgspec.structs.replace(one.assignment, shard_count=16)
    assert not obeys(given, {3: msgspec.structs.replace(one, assignment=other_count)})
