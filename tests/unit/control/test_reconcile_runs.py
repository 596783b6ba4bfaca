# SPDX-License-Identifier: Apache-2.0
"""Clusters that the plan wants started anew: a raised run number."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from discluster.control.reconcile import (
    Assign,
    Decision,
    Observed,
    Settle,
    Start,
    Step,
    Stop,
    decide,
)
from discluster.control.reports import build_report
from discluster.control.supervisor import UnitView
from discluster.messages import ClusterReport, Held, ShardView, UnitState
from discluster.plan import ClusterPlan, HostPlan

CLUSTERS = (1, 2)


def plan(**runs: int) -> HostPlan:
    """Cluster 1 with shard 1, cluster 2 with shard 2; ``c1``, ``c2``: their runs."""
    return HostPlan(
        generation=1 + sum(runs.values()),
        shard_count=8,
        host="alpha",
        gateway_url="wss://gateway.example",
        clusters={c: ClusterPlan(shards=(c,), run=runs.get(f"c{c}", 0)) for c in CLUSTERS},
    )


def held_of(decision: Decision, cluster: int) -> Held:
    """What is stored for the cluster after the decision."""
    *_, last = [
        step.held
        for step in decision.steps
        if isinstance(step, (Assign, Settle)) and step.held.assignment.cluster == cluster
    ]
    return last


@pytest.fixture
def held() -> dict[int, Held]:
    """Both clusters as they were started first."""
    decision = decide(plan(), Observed(units={}))
    return {c: held_of(decision, c) for c in CLUSTERS}


def see(
    held: dict[int, Held], *, busy: frozenset[int] = frozenset(), **states: UnitState
) -> Observed:
    units = {c: UnitView(state=states.get(f"c{c}", "active")) for c in CLUSTERS}
    return Observed(units=units, held=held, busy=busy)


def test_a_raised_run_stops_the_cluster_and_then_starts_it(held: dict[int, Held]) -> None:
    stopping = decide(plan(c1=1), see(held))
    assert stopping.steps == (Stop(1),)
    assert stopping.sentence == "generation 2: stopping cluster 1 to start anew"
    under_way = decide(plan(c1=1), see(held, busy=frozenset({1})))
    assert under_way.steps == ()
    starting = decide(plan(c1=1), see(held, c1="inactive"))
    after = msgspec.structs.replace(held[1], run=1)
    assert starting.steps == (Assign(after), Start(1)), "the run is stored before it is started"
    assert decide(plan(c1=1), see({**held, 1: after})).steps == ()


@pytest.mark.parametrize("state", ["active", "activating"])
def test_a_cluster_that_systemd_brings_back_is_stopped_too(
    held: dict[int, Held], state: UnitState
) -> None:
    assert decide(plan(c1=1), see(held, c1=state)).steps == (Stop(1),)


def test_a_failed_cluster_is_started_by_a_new_run_and_only_by_that(held: dict[int, Held]) -> None:
    assert decide(plan(), see(held, c1="failed")).steps == ()
    revived = decide(plan(c1=1), see(held, c1="failed"))
    assert revived.steps[-1] == Start(1)
    after = {**held, 1: held_of(revived, 1)}
    assert decide(plan(c1=1), see(after, c1="failed")).steps == (), "it failed again"


def test_a_stop_that_had_to_kill_does_not_end_the_restart(held: dict[int, Held]) -> None:
    """systemd calls the unit failed when its process had to be killed."""
    assert decide(plan(c1=1), see(held, c1="failed")).steps[-1] == Start(1)


def test_a_lost_record_is_no_proof_of_a_restart(held: dict[int, Held]) -> None:
    seen = Observed(units={1: UnitView(state="active"), 2: UnitView(state="active")})
    assert Stop(1) in decide(plan(c1=1), seen).steps
    assert not [s for s in decide(plan(), seen).steps if isinstance(s, Stop)]


def test_a_plan_of_a_master_that_lost_its_files_restarts_nothing(held: dict[int, Held]) -> None:
    newer = {**held, 1: msgspec.structs.replace(held[1], run=3)}
    assert decide(plan(c1=2), see(newer)).steps == ()


def test_the_report_tells_the_run_that_was_started(held: dict[int, Held]) -> None:
    after = {**held, 1: msgspec.structs.replace(held[1], run=4)}
    report = build_report(
        plan=plan(c1=5),
        observed=see(after),
        troubles={},
        sentence="",
    )
    assert [(view.cluster, view.run) for view in report.clusters] == [(1, 4), (2, 0)]


class Restarts(RuleBasedStateMachine):
    """A host that is told to restart while everything else happens.

    ``processes``: the cluster's process by the run of the plan that was in force when it was
    started; what is checked is that a reported run was really started after it was asked for.
    """

    @initialize()
    def begin(self) -> None:
        self.runs = dict.fromkeys(CLUSTERS, 0)
        self.disk: dict[int, Held] = {}
        self.units: dict[int, UnitState] = dict.fromkeys(CLUSTERS, "inactive")
        self.processes: dict[int, int] = {}
        self.jobs: dict[int, Step] = {}
        self.starts = dict.fromkeys(CLUSTERS, 0)

    def observed(self) -> Observed:
        reports = {
            c: ClusterReport(
                cluster=c,
                pid=1,
                generation=self.disk[c].assignment.generation,
                uptime=1.0,
                handler="",
                shards=(ShardView(shard=c, state="ready"),),
            )
            for c in self.processes
            if c in self.disk
        }
        return Observed(
            units={c: UnitView(state=state) for c, state in self.units.items()},
            held=dict(self.disk),
            reports=reports,
            busy=frozenset(self.jobs),
        )

    @rule(cluster=st.sampled_from(CLUSTERS))
    def operator_restarts(self, cluster: int) -> None:
        self.runs[cluster] += 1

    @rule(limit=st.one_of(st.just(99), st.integers(0, 3)))
    def control_passes(self, limit: int) -> None:
        """With a ``limit`` it is killed in between; systemd goes on with its jobs."""
        target = plan(**{f"c{c}": run for c, run in self.runs.items()})
        for step in decide(target, self.observed()).steps[:limit]:
            if isinstance(step, (Assign, Settle)):
                self.disk[step.held.assignment.cluster] = step.held
            else:
                self.jobs[step.cluster] = step
        if limit < 99:
            for cluster in list(self.jobs):
                self.job_ends(cluster, fails=False)

    @rule(cluster=st.sampled_from(CLUSTERS), fails=st.booleans())
    def job_ends(self, cluster: int, fails: bool) -> None:
        job = self.jobs.pop(cluster, None)
        if isinstance(job, Start):
            self.units[cluster] = "failed" if fails else "active"
            self.starts[cluster] += 1
            if not fails:
                self.processes[cluster] = self.disk[cluster].run
        elif isinstance(job, Stop):
            self.units[cluster] = "failed" if fails else "inactive"
            self.processes.pop(cluster, None)

    @rule(cluster=st.sampled_from(CLUSTERS), state=st.sampled_from(["failed", "activating"]))
    def cluster_crashes(self, cluster: int, state: UnitState) -> None:
        if self.processes.pop(cluster, None) is not None and cluster not in self.jobs:
            self.units[cluster] = state

    @rule(cluster=st.sampled_from(CLUSTERS))
    def systemd_brings_it_back(self, cluster: int) -> None:
        if self.units[cluster] == "activating" and cluster not in self.jobs:
            self.units[cluster] = "active"
            self.processes[cluster] = self.disk[cluster].run

    @invariant()
    def a_run_is_never_reported_of_an_older_process(self) -> None:
        for cluster, run in getattr(self, "processes", {}).items():
            assert self.disk[cluster].run == run or cluster in self.jobs

    @invariant()
    def no_run_is_ahead_of_the_plan(self) -> None:
        assert all(held.run <= self.runs[c] for c, held in getattr(self, "disk", {}).items())

    def teardown(self) -> None:
        if not hasattr(self, "runs"):
            return
        for cluster in CLUSTERS:
            self.systemd_brings_it_back(cluster)
        for _ in range(8):
            self.control_passes(99)
            for cluster in CLUSTERS:
                self.job_ends(cluster, fails=False)
        for cluster in CLUSTERS:
            # A cluster that failed under the last run stays so; every other one runs under it.
            if self.units[cluster] != "failed":
                assert self.processes[cluster] == self.runs[cluster]
            assert self.disk[cluster].run == self.runs[cluster]
        before = dict(self.starts)
        self.control_passes(99)
        assert (self.starts, self.jobs) == (before, {}), "it comes to rest"


TestRestarts = Restarts.TestCase
TestRestarts.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
