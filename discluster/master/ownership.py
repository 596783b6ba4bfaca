# SPDX-License-Identifier: Apache-2.0
"""Who may run a shard now: at most one host, whatever the target says. Pure.

A shard enters a host's plan only after the host that had it reported, under a plan without it, that
it does not hold it any more. Its session comes with that report, or from the last checkpoint, and
goes into the new host's plan, where it stays until a cluster there reports the shard.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from discluster.master.checkpoints import Checkpointed
from discluster.master.slots import identify_slots, paced_hosts, share_out
from discluster.messages import HostReport
from discluster.plan import (
    ClusterPlan,
    FleetPlan,
    Grant,
    HostPlan,
    Recovery,
    Session,
    is_sound,
)
from discluster.stays import Stay, newest


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet's plan after the reports were taken in. ``changed``: it has a new generation."""

    fleet: FleetPlan
    changed: bool
    granted: tuple[int, ...] = ()
    withdrawn: tuple[int, ...] = ()


def advance(
    fleet: FleetPlan,
    reports: Mapping[str, HostReport],
    checkpoints: Mapping[int, Checkpointed] = MappingProxyType({}),
) -> Advance:
    """Grants and withdraws what the newest report of each host allows. ``checkpoints``: by shard,
    for those that are released without a word on their session.
    """
    followed = max((report.plan_generation for report in reports.values()), default=0)
    if followed > fleet.generation:
        return Advance(fleet=_overtaking(fleet, followed + 1, reports), changed=True)
    generation = fleet.generation + 1
    holders = {s: host for host, report in reports.items() for s in report.holding}
    unsure = bool(unheard(fleet, reports)) or any(
        0 < report.plan_generation < fleet.generation for report in reports.values()
    )
    granted, sessions = dict(fleet.granted), dict(fleet.sessions)
    given: list[int] = []
    taken: list[int] = []
    for shard, (target, _) in fleet.targets().items():
        before = granted.get(shard)
        if before is None:
            if shard not in holders and unsure:
                # Nobody runs it now, but somebody may be about to, under a plan that is not ours.
                continue
            before = _first_grant(holders.get(shard), target, generation)
            if fleet.recovery and shard not in holders:
                session = _last_known(shard, reports, fleet.shard_count)
                sessions |= {shard: session} if session is not None else {}
        grant, release = _next_grant(shard, before, target, reports, generation)
        if grant != granted.get(shard):
            granted[shard] = grant
            (given if grant.withdrawn is None else taken).append(shard)
        if release is not None:
            told = _told(shard, release, fleet.shard_count)
            session = _handed_on(before, told, sessions.pop(shard, None), checkpoints.get(shard))
            sessions |= {shard: session} if session is not None else {}
    for shard in _arrived(sessions, granted, reports):
        del sessions[shard]
    after = msgspec.structs.replace(fleet, granted=granted, sessions=sessions)
    slots = share_out(fleet.slots, paced_hosts(after), reports, generation)
    after = msgspec.structs.replace(after, slots=slots)
    if after == fleet:
        return Advance(fleet=fleet, changed=False)
    fleet = msgspec.structs.replace(after, generation=generation)
    return Advance(fleet=fleet, changed=True, granted=tuple(given), withdrawn=tuple(taken))


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


def _overtaking(fleet: FleetPlan, generation: int, reports: Mapping[str, HostReport]) -> FleetPlan:
    """The same target above every generation that a host follows; who owns what, the hosts say.

    A host follows a newer plan than ours when MASTER's files were lost or came from a backup. It
    refuses older plans, what it reports under a newer one says nothing about a withdrawal, and the
    owners in our files, and the sessions, are those of the past.
    """
    holders = {s: host for host, report in reports.items() for s in report.holding}
    granted = {s: Grant(host=host) for s, host in holders.items() if s < fleet.shard_count}
    slots = share_out(fleet.slots, paced_hosts(fleet), reports, generation)
    return msgspec.structs.replace(
        fleet,
        generation=generation,
        recovery=Recovery(generation=generation, hosts=tuple(sorted(fleet.hosts))),
        granted=granted,
        sessions={},
        slots=slots,
    )


def _last_known(shard: int, reports: Mapping[str, HostReport], shard_count: int) -> Session | None:
    """The session of the newest stay of which any host tells."""
    told = (_told(shard, report, shard_count) for report in reports.values())
    stays = [stay for stay in told if stay is not None]
    return max(stays, key=lambda stay: stay.entered).session if stays else None


def _first_grant(holder: str | None, target: str, generation: int) -> Grant:
    """Of a shard that nobody was given. Whoever runs it has done so for nobody knows how long."""
    return Grant(host=holder) if holder is not None else Grant(host=target, since=generation)


def _next_grant(
    shard: int, grant: Grant, target: str, reports: Mapping[str, HostReport], generation: int
) -> tuple[Grant, HostReport | None]:
    """With the report by which the old owner released the shard, if that ends its grant."""
    if grant.host == target:
        return msgspec.structs.replace(grant, withdrawn=None), None
    if grant.withdrawn is None:
        return msgspec.structs.replace(grant, withdrawn=generation), None
    report = reports.get(grant.host)
    if report is None or report.plan_generation < grant.withdrawn or shard in report.holding:
        return grant, None
    return Grant(host=target, since=generation), report


def _told(shard: int, report: HostReport, shard_count: int) -> Stay | None:
    """What a host that released the shard says about its session; None: nothing of use."""
    session = report.released.get(shard)
    if report.shard_count not in (0, shard_count) or (session and not is_sound(session)):
        return None
    if session is None and shard not in report.entered:
        return None
    return Stay(entered=report.entered.get(shard, 0), session=session)


def _handed_on(
    grant: Grant, told: Stay | None, known: Session | None, checkpoint: Checkpointed | None
) -> Session | None:
    """The session of a shard that ``grant.host`` gives up. ``known``: the one it came there with,
    if no cluster there was seen to take it: then ``told`` may be of an earlier stay of the shard.
    """
    silent = told is None or told.entered < grant.since
    if silent and checkpoint is not None and checkpoint.host == grant.host:
        told = checkpoint.stay if checkpoint.stay.entered >= grant.since else told
    return newest(told, known, grant.since)


def _arrived(
    sessions: Mapping[int, Session],
    granted: Mapping[int, Grant],
    reports: Mapping[str, HostReport],
) -> list[int]:
    """Shards that a cluster of their owner runs: the session is in that cluster's own file.

    Before that it must stay in the plan: the shard may move on before any cluster took it.
    """
    running = {host: _running(report) for host, report in reports.items()} if sessions else {}
    return [
        shard
        for shard in sessions
        if (grant := granted.get(shard)) is not None
        and grant.withdrawn is None
        and shard in running.get(grant.host, ())
    ]


def _running(report: HostReport) -> frozenset[int]:
    """Shards that a cluster itself reports, and that the host counts as held."""
    return frozenset(
        view.shard for cluster in report.clusters for view in cluster.shards
    ).intersection(report.holding)


def _runs(grant: Grant | None, host: str) -> bool:
    return grant is not None and grant.host == host and grant.withdrawn is None


def host_plan(fleet: FleetPlan, host: str) -> HostPlan:
    """The part of the fleet's plan that ``host`` may run now."""
    entry = fleet.hosts.get(host)
    clusters: dict[int, ClusterPlan] = {}
    mine: set[int] = set()
    for number, cluster in (entry.clusters if entry else {}).items():
        shards = tuple(s for s in cluster.shards if _runs(fleet.granted.get(s), host))
        if shards:
            clusters[number] = ClusterPlan(shards=shards, run=cluster.run)
            mine.update(shards)
    handover = {s: session for s, session in fleet.sessions.items() if s in mine}
    return HostPlan(
        generation=fleet.generation,
        shard_count=fleet.shard_count,
        host=host,
        gateway_url=fleet.gateway_url,
        clusters=clusters,
        identify=identify_slots(fleet, host),
        handover=handover,
        since={s: fleet.granted[s].since for s in handover},
    )
