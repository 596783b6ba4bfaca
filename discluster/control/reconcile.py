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
from discluster.plan import HostPlan
from discluster.stays import ShardKey, Stay, newest

INACTIVE = UnitView(state="inactive")


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that CONTROL knows about its host at one instant.

    ``reports``: of the clusters that are connected. ``stays``: in each cluster's session file.
    ``busy``: clusters with a start or stop under way.
    """

    units: Mapping[int, UnitView]
    reports: Mapping[int, ClusterReport] = {}
    held: Mapping[int, Held] = {}
    stays: Mapping[int, Mapping[ShardKey, Stay]] = {}
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

    def last_stay(self, shard: int, shard_count: int) -> Stay | None:
        """The newest stay on this host of ``shard``, as one of so many: in the cluster that has it,
        or had it last. If that never took the shard, with what the shard was handed.
        """
        key = (shard, shard_count)
        stamps = {
            (held.assignment.entered.get(shard, 0), shard not in held.left, cluster)
            for cluster, held in self.held.items()
            if held.assignment.shard_count == shard_count
            and (shard in held.assignment.shards or shard in (*held.leaving, *held.left))
        }
        if not stamps:
            # Our records were damaged, or it left long ago.
            found = [stays[key] for stays in self.stays.values() if key in stays]
            return max(found, key=lambda stay: stay.entered, default=None)
        entered, _, cluster = max(stamps)
        stored = self.stays.get(cluster, {}).get(key)
        if stored is not None and stored.entered >= entered:
            return stored
        handed = self.held[cluster].assignment.handover.get(shard)
        return Stay(entered=entered, session=newest(stored, handed, entered))


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


def obeys(plan: HostPlan | None, held: Mapping[int, Held]) -> bool:
    """Whether no cluster of this host is assigned a shard that ``plan`` does not give the host:
    only then may clusters that had to stop run again, since others may have their shards by now.
    """
    if plan is None:
        return False
    given = frozenset(plan.shards())
    assigned = (record.assignment for record in held.values() if record.assignment.shards)
    return all(a.shard_count == plan.shard_count and given.issuperset(a.shards) for a in assigned)


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
        yield Settle(msgspec.structs.replace(held, leaving=leaving, left=tuple(sorted(left))))


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
        yield Assign(msgspec.structs.replace(held, assignment=nothing, leaving=leaving))


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
        yield Assign(held := _next_held(plan, cluster, shards, observed))
    yield from _towards_run(plan.clusters[cluster].run, held, observed.unit(cluster))


def _towards_run(run: int, held: Held, unit: UnitView) -> Iterable[Step]:
    """A cluster that runs, or failed, under an older run than ``run`` is started anew. A plan with
    a lower one was made by a MASTER that lost its files, and asks for nothing.

    The run is stored before the start: after a CONTROL that was killed in between, the cluster is
    started once. An unknown one, as after our record was damaged, is 0: rather a restart too many
    than one that is reported and was none.
    """
    cluster, anew = held.assignment.cluster, held.run < run
    if held.assignment.shards and (unit.state == "inactive" or (unit.state == "failed" and anew)):
        if anew:
            yield Assign(msgspec.structs.replace(held, run=run))
        yield Start(cluster)
    elif unit.may_run and anew:
        yield Stop(cluster)


def _differs(assignment: Assignment, plan: HostPlan, shards: tuple[int, ...]) -> bool:
    return (assignment.shards, assignment.shard_count, assignment.gateway_url) != (
        shards,
        plan.shard_count,
        plan.gateway_url,
    )


def _next_held(plan: HostPlan, cluster: int, shards: tuple[int, ...], observed: Observed) -> Held:
    before, report = observed.held.get(cluster), observed.reports.get(cluster)
    # Shards of another count are others: nothing about them is carried on.
    last = before.assignment if before else None
    last = last if last and last.shard_count == plan.shard_count else None
    leaving = tuple(sorted(observed.claims(cluster) - set(shards)))
    left = tuple(s for s in (before.left if before and last else ()) if s not in shards)
    stayed = {*(last.shards if last else ())}.intersection(shards) | {*leaving, *left}
    entered = {s: e for s, e in (last.entered if last else {}).items() if s in stayed}
    handover = {s: x for s, x in (last.handover if last else {}).items() if s in stayed}
    for shard in (s for s in shards if s not in stayed):
        entered[shard] = plan.generation
        here = observed.last_stay(shard, plan.shard_count)
        session = newest(here, plan.handover.get(shard), plan.since.get(shard, 1))
        handover |= {shard: session} if session else {}
    newest_known = max(
        before.assignment.generation if before else 0, report.generation if report else 0
    )
    assignment = Assignment(
        cluster=cluster,
        generation=newest_known + 1,
        shard_count=plan.shard_count,
        gateway_url=plan.gateway_url,
        shards=shards,
        entered=entered,
        handover=handover,
    )
    run = before.run if before else 0
    return Held(assignment=assignment, leaving=leaving, left=left, run=run)


def _sentence(plan: HostPlan, observed: Observed, steps: list[Step]) -> str:
    told = []
    if started := [step.cluster for step in steps if isinstance(step, Start)]:
        told.append(f"starting {_clusters(started)}")
    stopped = {step.cluster for step in steps if isinstance(step, Stop)}
    if anew := stopped & plan.clusters.keys():
        told.append(f"stopping {_clusters(anew)} to start anew")
    if stopped := stopped - plan.clusters.keys():
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
