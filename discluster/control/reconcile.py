# SPDX-License-Identifier: Apache-2.0
"""CONTROL's decision: from its host's plan and what runs, to the next safe steps. Pure.

A shard never has two clusters: it enters a cluster's assignment only when no other cluster on this
host may still hold it. What a cluster may hold is read from disk (:class:`Held`), so a CONTROL that
was killed between two steps decides the same.
"""

from collections.abc import Iterable, Mapping

import msgspec

from discluster.control.supervisor import UnitView
from discluster.messages import Assignment, ClusterReport, Held
from discluster.plan import HostPlan, Session

INACTIVE = UnitView(state="inactive")


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that CONTROL knows about its host at one instant.

    ``reports``: of the clusters that are connected. ``sessions``: of each cluster's session file.
    ``busy``: clusters with a start or stop under way.
    """

    units: Mapping[int, UnitView]
    reports: Mapping[int, ClusterReport] = {}
    held: Mapping[int, Held] = {}
    sessions: Mapping[int, Mapping[int, Session]] = {}
    busy: frozenset[int] = frozenset()

    def unit(self, cluster: int) -> UnitView:
        return self.units.get(cluster, INACTIVE)

    def may_run(self, cluster: int) -> bool:
        """Whether a process of this cluster may exist, or come back without our doing."""
        return self.unit(cluster).may_run or cluster in self.busy or cluster in self.reports

    def claims(self, cluster: int) -> frozenset[int]:
        """Shards that this cluster runs, or would run if somebody started it this instant."""
        held = self.held.get(cluster)
        report = self.reports.get(cluster)
        shards = {view.shard for view in report.shards} if report else set()
        if held is not None:
            shards.update(held.assignment.shards, held.leaving)
        return frozenset(shards)

    def holding(self, plan: HostPlan | None) -> frozenset[int]:
        """Shards that any cluster of this host may run. A cluster that does not run holds none of
        those that ``plan`` gives this host; what the plan took away it holds until its assignment
        on disk does not name it any more.
        """
        planned = frozenset(plan.shards()) if plan else None
        held: set[int] = set()
        for cluster in self.clusters():
            if self.may_run(cluster):
                held |= self.claims(cluster)
            elif planned is not None:
                held |= self.claims(cluster) - planned
        return frozenset(held)

    def clusters(self) -> frozenset[int]:
        """All that are known here by anybody."""
        return frozenset({*self.units, *self.held, *self.reports, *self.busy})

    def session_here(self, shard: int) -> Session | None:
        """The newest session of ``shard`` that this host knows.

        It is with the cluster that has the shard, or had it last. Sequences tell nothing about
        that: a session that was begun later starts at 1 again.
        """
        last = self._last_with(shard)
        if last is not None:
            return self._session_of(shard, last)
        found = [sessions[shard] for sessions in self.sessions.values() if shard in sessions]
        return max(found, key=lambda session: session.seq, default=None)

    def _last_with(self, shard: int) -> int | None:
        for cluster, held in self.held.items():
            if shard in held.assignment.shards or shard in held.leaving:
                return cluster
        return next((c for c, held in self.held.items() if shard in held.left), None)

    def _session_of(self, shard: int, cluster: int) -> Session | None:
        """From the cluster's file, or what was handed to it if it never took that."""
        stored = self.sessions.get(cluster, {}).get(shard)
        given = self.held[cluster].assignment.handover.get(shard)
        if stored is None or given is None:
            return stored or given
        same = stored.session_id == given.session_id
        return given if same and given.seq > stored.seq else stored


class Assign(msgspec.Struct, frozen=True, tag=True):
    """Store this for the cluster, then tell it."""

    held: Held


class Settle(msgspec.Struct, frozen=True, tag=True):
    """The cluster let go of what was leaving: store that."""

    held: Held


class Start(msgspec.Struct, frozen=True, tag=True):
    """Start the cluster's unit."""

    cluster: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Stop the cluster's unit; its sessions stay resumable."""

    cluster: int


Step = Assign | Settle | Start | Stop


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The steps to take now, none of which depends on another's end, and one sentence."""

    steps: tuple[Step, ...]
    sentence: str


def decide(plan: HostPlan | None, observed: Observed) -> Decision:
    """The next safe steps towards ``plan``.

    Without a plan nothing is touched: what runs was started under a plan that somebody else can
    still know.
    """
    if plan is None:
        running = [c for c, unit in observed.units.items() if unit.may_run]
        left = f"; {_clusters(running)} left alone" if running else ""
        return Decision(steps=(), sentence=f"no plan yet{left}")
    steps: list[Step] = []
    for cluster in sorted(observed.held):
        steps += _settle(cluster, observed)
    # A cluster whose record changes in this pass is looked at again in the next.
    done = {step.held.assignment.cluster for step in steps if isinstance(step, Settle)}
    done |= observed.busy
    claims = {cluster: observed.claims(cluster) for cluster in observed.clusters()}
    for cluster in sorted(plan.clusters.keys() - done):
        elsewhere = frozenset().union(*(held for c, held in claims.items() if c != cluster))
        steps += _towards(plan, cluster, elsewhere, observed)
    for cluster in sorted({*observed.units, *observed.held} - plan.clusters.keys() - done):
        steps += _away_with(cluster, observed)
    return Decision(steps=tuple(steps), sentence=_sentence(plan, observed, steps))


def _settle(cluster: int, observed: Observed) -> Iterable[Step]:
    held = observed.held[cluster]
    leaving = _still_leaving(cluster, held, observed)
    assigned = {
        shard
        for other, record in observed.held.items()
        for shard in (*record.assignment.shards, *(record.leaving if other != cluster else ()))
    }
    left = ({*held.left, *held.leaving} - {*leaving}) - assigned
    if leaving != held.leaving or left != {*held.left}:
        yield Settle(Held(assignment=held.assignment, leaving=leaving, left=tuple(sorted(left))))


def _still_leaving(cluster: int, held: Held, observed: Observed) -> tuple[int, ...]:
    """What the cluster has not let go of. One that does not run has let go: whoever starts it now
    makes it read an assignment without these shards.
    """
    report = observed.reports.get(cluster)
    if report is not None and report.generation == held.assignment.generation:
        still = {view.shard for view in report.shards}
        return tuple(shard for shard in held.leaving if shard in still)
    return held.leaving if observed.may_run(cluster) else ()


def _away_with(cluster: int, observed: Observed) -> Iterable[Step]:
    if observed.unit(cluster).may_run:
        yield Stop(cluster)
        return
    held = observed.held.get(cluster)
    if held is not None and held.assignment.shards:
        # Somebody may start the unit by hand; it must find nothing to run.
        nothing = msgspec.structs.replace(
            held.assignment, generation=held.assignment.generation + 1, shards=()
        )
        leaving = tuple(sorted(observed.claims(cluster)))
        yield Assign(Held(assignment=nothing, leaving=leaving, left=held.left))


def _towards(
    plan: HostPlan, cluster: int, elsewhere: frozenset[int], observed: Observed
) -> Iterable[Step]:
    wanted = plan.clusters[cluster].shards
    held = observed.held.get(cluster)
    # What it is letting go of itself comes back only once that is done: then its session is known.
    taken = elsewhere | frozenset(held.leaving if held else ())
    shards = tuple(shard for shard in wanted if shard not in taken)
    report = observed.reports.get(cluster)
    # A cluster follows no assignment older than its own, as after our record of it was damaged.
    ahead = held and report and report.generation > held.assignment.generation
    if held is None or ahead or _differs(held.assignment, plan, shards):
        yield Assign(_next_held(plan, cluster, shards, observed))
    unit = observed.unit(cluster)
    if shards and unit.state == "inactive":
        yield Start(cluster)


def _differs(assignment: Assignment, plan: HostPlan, shards: tuple[int, ...]) -> bool:
    return (assignment.shards, assignment.shard_count, assignment.gateway_url) != (
        shards,
        plan.shard_count,
        plan.gateway_url,
    )


def _next_held(plan: HostPlan, cluster: int, shards: tuple[int, ...], observed: Observed) -> Held:
    before = observed.held.get(cluster)
    kept = set(before.assignment.shards) if before else set()
    handover = {}
    for shard in shards:
        if shard not in kept:
            if session := _session_for(shard, plan, observed):
                handover[shard] = session
        elif before and shard in before.assignment.handover:
            # The cluster may not have seen it yet; its own file wins if it has.
            handover[shard] = before.assignment.handover[shard]
    leaving = observed.claims(cluster) - set(shards)
    left = [shard for shard in (before.left if before else ()) if shard not in shards]
    for shard in (*leaving, *left):
        # If the cluster never took it, this is the only place where it is.
        if before and shard in before.assignment.handover:
            handover[shard] = before.assignment.handover[shard]
    report = observed.reports.get(cluster)
    newest = max(before.assignment.generation if before else 0, report.generation if report else 0)
    assignment = Assignment(
        cluster=cluster,
        generation=newest + 1,
        shard_count=plan.shard_count,
        gateway_url=plan.gateway_url,
        shards=shards,
        handover=handover,
    )
    return Held(
        assignment=assignment,
        leaving=tuple(sorted(leaving)),
        left=tuple(left),
    )


def _session_for(shard: int, plan: HostPlan, observed: Observed) -> Session | None:
    """The newest known session of a shard that is newly assigned.

    What the plan hands over comes from the host that had the shard last; a session in a file here
    is newer only if it is the same session further on, or if the plan hands over nothing.
    """
    here = observed.session_here(shard)
    given = plan.handover.get(shard)
    if given is None or here is None:
        return given or here
    if here.session_id == given.session_id:
        return max(given, here, key=lambda session: session.seq)
    return given


def _sentence(plan: HostPlan, observed: Observed, steps: list[Step]) -> str:
    told = []
    if started := [step.cluster for step in steps if isinstance(step, Start)]:
        told.append(f"starting {_clusters(started)}")
    if stopped := [step.cluster for step in steps if isinstance(step, Stop)]:
        told.append(f"stopping {_clusters(stopped)}")
    if assigned := [step.held.assignment for step in steps if isinstance(step, Assign)]:
        shards = sum(len(assignment.shards) for assignment in assigned)
        told.append(f"assigning {shards} shards to {_clusters(a.cluster for a in assigned)}")
    if settled := [step.held.assignment.cluster for step in steps if isinstance(step, Settle)]:
        told.append(f"{_clusters(settled)} released what was asked")
    if failed := [c for c in plan.clusters if observed.unit(c).state == "failed"]:
        told.append(f"{_clusters(failed)} failed")
    coming = [c for c in plan.clusters if observed.unit(c).state == "activating"]
    if coming := [c for c in coming if c not in observed.busy]:
        why = observed.unit(coming[0]).detail
        told.append(f"{_clusters(coming)} coming back" + (f" ({why})" if why else ""))
    if observed.busy:
        told.append(f"waiting for {_clusters(observed.busy)}")
    if told:
        return f"generation {plan.generation}: {'; '.join(told)}"
    return f"nothing to do: {_clusters(plan.clusters)} run generation {plan.generation}"


def _clusters(numbers: Iterable[int]) -> str:
    listed = sorted(numbers)
    if not listed:
        return "no clusters"
    if len(listed) > 8:
        return f"{len(listed)} clusters"
    return f"cluster{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"
