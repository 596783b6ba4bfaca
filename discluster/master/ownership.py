# SPDX-License-Identifier: Apache-2.0
"""Who may run a shard now: at most one host, whatever the target says. Pure.

A shard enters a host's plan only after the host that had it reported, under a plan without it, that
it does not hold it any more, or is lost. Its session comes with that report, or from the last
checkpoint, and goes into the new host's plan, where it stays until that host has told of it.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import cached_property
from types import MappingProxyType

import msgspec

from discluster.master.identify.slots import paced_hosts, share_out
from discluster.master.records.checkpoints import Checkpointed
from discluster.messages import HostReport
from discluster.plan import (
    MAXIMUM_SHARDS,
    MAXIMUM_SHARDS_PER_CLUSTER,
    FleetPlan,
    Grant,
    HostEntry,
    Recovery,
    Session,
    is_sound,
)
from discluster.stays import Stay, newest


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What MASTER knows of its hosts (see :func:`advance`)."""

    reports: Mapping[str, HostReport]
    checkpoints: Mapping[int, Checkpointed]
    connected: Collection[str]
    lost: Mapping[str, int]
    moves_at_once: int


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet's plan after the reports were taken in. ``changed``: it has a new generation.
    ``granted``: shards, and the host that had each, None if nobody did; ``withdrawn``: shards, and
    the host that each is taken from.
    """

    fleet: FleetPlan
    changed: bool
    granted: dict[int, str | None] = {}
    withdrawn: dict[int, str] = {}


def retarget(fleet: FleetPlan, hosts: Mapping[str, HostEntry]) -> dict[int, Grant]:
    """The grants, if ``hosts`` is where shards shall be from now on: one that is to leave its host
    stays in its cluster there until its turn has come.
    """
    before = fleet.targets()
    after = {
        shard: host
        for host, entry in hosts.items()
        for cluster in entry.clusters.values()
        for shard in cluster.shards
    }
    granted = dict(fleet.granted)
    for shard, grant in fleet.granted.items():
        if after.get(shard) in (grant.host, None) or grant.withdrawn is not None:
            cluster = None
        elif before.get(shard, ("", 0))[0] == grant.host:
            cluster = before[shard][1]
        else:
            cluster = grant.cluster
        if cluster != grant.cluster:
            granted[shard] = msgspec.structs.replace(grant, cluster=cluster)
    return granted


def advance(
    fleet: FleetPlan,
    reports: Mapping[str, HostReport],
    checkpoints: Mapping[int, Checkpointed] = MappingProxyType({}),
    *,
    connected: Collection[str] | None = None,
    lost: Mapping[str, int] = MappingProxyType({}),
    moves_at_once: int = MAXIMUM_SHARDS,
) -> Advance:
    """Grants and withdraws what the newest report of each host allows.

    ``checkpoints``: by shard, for those that are released without a word on their session.
    ``connected``: None: all hosts that reported. ``lost``: hosts whose shards may pass on, if the
    generation that withdrew them is not above this. ``moves_at_once``: so many shards may be away
    from where they ran, to move.
    """
    known = _Known(
        reports=reports,
        checkpoints=checkpoints,
        connected=reports.keys() if connected is None else connected,
        lost=lost,
        moves_at_once=moves_at_once,
    )
    followed = max((report.plan_generation for report in known.reports.values()), default=0)
    if followed > fleet.generation:
        return Advance(fleet=_overtaking(fleet, followed + 1, known), changed=True)
    look = _Look(fleet, known)
    for target, entry in fleet.hosts.items():
        for cluster in entry.clusters.values():
            for shard in cluster.shards:
                look.at(shard, target)
    for shard in look.arrived():
        del look.sessions[shard]
    after = msgspec.structs.replace(fleet, granted=look.granted, sessions=look.sessions)
    slots = share_out(
        fleet.slots,
        paced_hosts(after),
        known.reports,
        look.generation,
        stopped=_stopped(after, known),
    )
    after = msgspec.structs.replace(after, slots=slots)
    if after == fleet:
        return Advance(fleet=fleet, changed=False)
    fleet = msgspec.structs.replace(after, generation=look.generation)
    return Advance(fleet=fleet, changed=True, granted=look.given, withdrawn=look.taken)


class _Look:
    """One look at all shards, under the next generation."""

    def __init__(self, fleet: FleetPlan, known: _Known) -> None:
        self._fleet = fleet
        self._known = known
        self._unsure = _unsure(fleet, known.reports)
        self._running: dict[str, frozenset[int]] = {}
        self.generation = fleet.generation + 1
        self.granted = dict(fleet.granted)
        self.sessions = dict(fleet.sessions)
        self.given: dict[int, str | None] = {}
        self.taken: dict[int, str] = {}

    def at(self, shard: int, target: str) -> None:
        """One shard, and the host where it shall be."""
        grant = self.granted.get(shard)
        if grant is None:
            holder = self._holders.get(shard)
            if holder is None:
                self._give_first(shard, target)
                return
            # Whoever runs it has done so for nobody knows how long.
            self.granted[shard] = grant = Grant(host=holder)
            if holder == target:
                self.given[shard] = None
        if grant.host == target:
            if grant.withdrawn is not None:
                self.given[shard] = target
            if grant.withdrawn is not None or grant.cluster is not None:
                changed = msgspec.structs.replace(grant, withdrawn=None, cluster=None)
                self.granted[shard] = changed
        elif grant.withdrawn is None:
            if self._may_leave(shard, grant):
                self.granted[shard] = msgspec.structs.replace(
                    grant, withdrawn=self.generation, cluster=None
                )
                self.taken[shard] = grant.host
        elif self._is_released(shard, grant, grant.withdrawn) and not self._holds(target, shard):
            self._hand_on(shard, grant, target)

    def _give_first(self, shard: int, target: str) -> None:
        """A shard that nobody has."""
        if self._unsure:
            # Nobody runs it now, but somebody may be about to, under a plan that is not ours.
            return
        self.granted[shard] = Grant(host=target, since=self.generation)
        self.given[shard] = None
        if self._fleet.recovery is not None:
            reports, count = self._known.reports, self._fleet.shard_count
            self._keep_session(shard, _last_known(shard, reports, count))

    def _hand_on(self, shard: int, grant: Grant, target: str) -> None:
        self.granted[shard] = Grant(host=target, since=self.generation)
        self.given[shard] = grant.host
        report = self._known.reports.get(grant.host)
        told = _told(shard, report, self._fleet.shard_count) if report is not None else None
        came_with = self.sessions.pop(shard, None)
        checkpoint = self._known.checkpoints.get(shard)
        self._keep_session(shard, _handed_on(grant, told, came_with, checkpoint))

    def _keep_session(self, shard: int, session: Session | None) -> None:
        if session is not None:
            self.sessions[shard] = session

    def _is_released(self, shard: int, grant: Grant, withdrawn: int) -> bool:
        if self._known.lost.get(grant.host, 0) >= withdrawn:
            return True
        report = self._known.reports.get(grant.host)
        return (
            report is not None
            and report.plan_generation >= withdrawn
            and shard not in report.holding
        )

    def _holds(self, host: str, shard: int) -> bool:
        """Whether a host still has a shard that is not its own, as one that was lost and is back:
        it must see a plan without it first, or it would go on with the session that it had.
        """
        report = self._known.reports.get(host)
        return report is not None and shard in report.holding

    def _may_leave(self, shard: int, grant: Grant) -> bool:
        """Whether its turn has come. Only shards that run have to wait, where moving them costs
        that.
        """
        report = self._known.reports.get(grant.host)
        if grant.cluster is None or grant.host in self._known.lost:
            return True
        if self._crowded[grant.host, grant.cluster] > 0:
            self._crowded[grant.host, grant.cluster] -= 1
            return True
        if report is None or grant.host not in self._known.connected:
            return False
        if report.leaving or shard not in self._running_on(grant.host):
            return True
        self._room -= 1
        return self._room >= 0

    @cached_property
    def _holders(self) -> dict[int, str]:
        return _holders(self._known)

    @cached_property
    def _room(self) -> int:
        """How many more may leave where they run: less those that did, and run nowhere yet."""
        under_way = sum(
            grant.host in self._known.connected
            and (grant.withdrawn is not None or self._has_not_come(shard, grant))
            for shard, grant in self._fleet.granted.items()
        )
        return self._known.moves_at_once - under_way

    def _has_not_come(self, shard: int, grant: Grant) -> bool:
        """What shall be in a cluster that its host gave up comes no more, and holds nobody up."""
        if shard not in self._fleet.sessions or shard in self._running_on(grant.host):
            return False
        return self._targets.get(shard) not in self._failed

    @cached_property
    def _targets(self) -> dict[int, tuple[str, int]]:
        return self._fleet.targets()

    @cached_property
    def _failed(self) -> frozenset[tuple[str, int]]:
        """Clusters, with their hosts."""
        return frozenset(
            (host, view.cluster)
            for host, report in self._known.reports.items()
            for view in report.clusters
            if view.unit == "failed"
        )

    @cached_property
    def _crowded(self) -> Counter[tuple[str, int]]:
        """By how many shards a cluster would be too large with those that are to leave it."""
        sizes = Counter(
            (grant.host, grant.cluster)
            for grant in self._fleet.granted.values()
            if grant.cluster is not None
        )
        for host, cluster in sizes:
            entry = self._fleet.hosts.get(host)
            planned = entry.clusters.get(cluster) if entry is not None else None
            sizes[host, cluster] += len(planned.shards) if planned is not None else 0
        return Counter({c: size - MAXIMUM_SHARDS_PER_CLUSTER for c, size in sizes.items()})

    def _running_on(self, host: str) -> frozenset[int]:
        if host not in self._running:
            report = self._known.reports.get(host)
            self._running[host] = _running(report) if report is not None else frozenset()
        return self._running[host]

    def arrived(self) -> list[int]:
        """Shards that a cluster of their owner runs, and of whose stay there MASTER has a
        checkpoint: the session with which they came is of no use any more.

        Before that it must stay in the plan: the shard may move on before any cluster took it, or
        its host be lost before it told of it.
        """
        found = []
        for shard in self.sessions:
            grant, kept = self.granted.get(shard), self._known.checkpoints.get(shard)
            if grant is None or grant.withdrawn is not None or kept is None:
                continue
            of_this_stay = kept.host == grant.host and kept.stay.entered >= grant.since
            if of_this_stay and shard in self._running_on(grant.host):
                found.append(shard)
        return found


def unheard(fleet: FleetPlan, reports: Mapping[str, HostReport]) -> list[str]:
    """Hosts that must report before anybody gets a shard of which nobody knows who has it.

    After MASTER lost its files, or got them from a backup, only the hosts know: each may run what
    it had under its last plan for as long as it has not reported a newer one.
    """
    if fleet.recovery is None:
        return []
    since = fleet.recovery.generation
    told = {host for host, report in reports.items() if report.plan_generation >= since}
    return sorted({*fleet.recovery.hosts} - told)


def _unsure(fleet: FleetPlan, reports: Mapping[str, HostReport]) -> bool:
    """Whether a host may follow a plan that MASTER does not know."""
    if fleet.recovery is None:
        return False
    since = fleet.recovery.generation
    behind = any(0 < report.plan_generation < since for report in reports.values())
    return behind or bool(unheard(fleet, reports))


def _holders(known: _Known) -> dict[int, str]:
    """Who may be running each shard. A host that follows an older plan is not believed against one
    with a newer plan: its shards were given away meanwhile.
    """
    told = [(host, report) for host, report in known.reports.items() if host not in known.lost]
    told.sort(key=lambda item: item[1].plan_generation)
    return {shard: host for host, report in told for shard in report.holding}


def _overtaking(fleet: FleetPlan, generation: int, known: _Known) -> FleetPlan:
    """The same target above every generation that a host follows; who owns what, the hosts say.

    A host follows a newer plan than ours when MASTER's files were lost or came from a backup. It
    refuses older plans, what it reports under a newer one says nothing about a withdrawal, and the
    owners in our files, and the sessions, are those of the past.
    """
    holders = _holders(known)
    granted = {s: Grant(host=host) for s, host in holders.items() if s < fleet.shard_count}
    slots = share_out(fleet.slots, paced_hosts(fleet), known.reports, generation)
    named = {host for report in known.reports.values() for host in report.panel}
    return msgspec.structs.replace(
        fleet,
        generation=generation,
        recovery=Recovery(generation=generation, hosts=tuple(sorted(named.union(fleet.hosts)))),
        granted=granted,
        sessions={},
        slots=slots,
    )


def _stopped(fleet: FleetPlan, known: _Known) -> frozenset[str]:
    """Hosts without a shard in any plan that they may still follow: lost ones whose shards have all
    passed on, since no witness renews their leases then, and those that left the fleet. Not so one
    that keeps its shards in isolation.
    """
    if _unsure(fleet, known.reports):
        return frozenset()
    left = fleet.slots.keys() - fleet.hosts.keys() - frozenset(known.connected)
    owners = {grant.host for grant in fleet.granted.values()}
    return frozenset(known.lost).union(left).difference(owners, fleet.keeping)


def _last_known(shard: int, reports: Mapping[str, HostReport], shard_count: int) -> Session | None:
    """The session of the newest stay of which any host tells."""
    told = (_told(shard, report, shard_count) for report in reports.values())
    stays = [stay for stay in told if stay is not None]
    return max(stays, key=lambda stay: stay.entered).session if stays else None


def _told(shard: int, report: HostReport, shard_count: int) -> Stay | None:
    """What a host says about the session of a shard that it released; None: nothing of use."""
    session = report.released.get(shard)
    if report.shard_count not in (0, shard_count) or (session and not is_sound(session)):
        return None
    if shard in report.holding or (session is None and shard not in report.entered):
        return None
    return Stay(entered=report.entered.get(shard, 0), session=session)


def _handed_on(
    grant: Grant, told: Stay | None, came_with: Session | None, checkpoint: Checkpointed | None
) -> Session | None:
    """The session of a shard that ``grant.host`` gives up, or is lost with. ``came_with``: the one
    it came there with, if MASTER has no word on that stay yet: ``told`` may be of an earlier one.
    """
    if checkpoint is not None and checkpoint.host == grant.host:
        stay = checkpoint.stay
        if stay.entered >= grant.since and (told is None or told.entered < stay.entered):
            told = stay
    return newest(told, came_with, grant.since)


def _running(report: HostReport) -> frozenset[int]:
    """Shards that a cluster itself reports, and that the host counts as held."""
    return frozenset(
        view.shard for cluster in report.clusters for view in cluster.shards
    ).intersection(report.holding)
