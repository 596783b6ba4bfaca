# SPDX-License-Identifier: Apache-2.0
"""Who may run a shard now: at most one host, whatever the target says. Pure.

A shard enters a host's plan only after the host that had it reported, under a plan without it, that
it does not hold it any more. Its session comes with that report and goes into the new host's plan,
where it stays until a cluster there reports the shard.
"""

from collections.abc import Mapping, Sequence

import msgspec

from discluster.messages import HostReport
from discluster.plan import (
    ClusterPlan,
    FleetPlan,
    Grant,
    HostPlan,
    IdentifySlots,
    Session,
    is_sound,
)


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet's plan after the reports were taken in. ``changed``: it has a new generation."""

    fleet: FleetPlan
    changed: bool
    granted: tuple[int, ...] = ()
    withdrawn: tuple[int, ...] = ()


def advance(fleet: FleetPlan, reports: Mapping[str, HostReport]) -> Advance:
    """Grants and withdraws what the newest report of each host allows."""
    newest = max((report.plan_generation for report in reports.values()), default=0)
    if newest > fleet.generation:
        return Advance(fleet=_overtaking(fleet, newest + 1), changed=True)
    generation = fleet.generation + 1
    holders = {s: host for host, report in reports.items() for s in report.holding}
    old_plans = any(0 < report.plan_generation < fleet.generation for report in reports.values())
    granted, sessions = dict(fleet.granted), dict(fleet.sessions)
    given: list[int] = []
    taken: list[int] = []
    for shard, (target, _) in fleet.targets().items():
        before = granted.get(shard)
        if before is None and shard not in holders and old_plans:
            # Nobody runs it now, but somebody may be about to, under a plan that is not ours.
            continue
        before = before or Grant(host=holders.get(shard, target))
        after, session = _next_grant(shard, before, target, reports, generation)
        if after != granted.get(shard):
            granted[shard] = after
            (given if after.withdrawn is None else taken).append(shard)
        if session is not None and is_sound(session):
            sessions[shard] = _further_on(session, sessions.get(shard))
    for shard in _arrived(sessions, granted, reports):
        del sessions[shard]
    if granted == fleet.granted and sessions == fleet.sessions:
        return Advance(fleet=fleet, changed=False)
    fleet = msgspec.structs.replace(
        fleet, generation=generation, granted=granted, sessions=sessions
    )
    return Advance(fleet=fleet, changed=True, granted=tuple(given), withdrawn=tuple(taken))


def _overtaking(fleet: FleetPlan, generation: int) -> FleetPlan:
    """The same plan above every generation that a host follows.

    A host follows a newer plan than ours when MASTER's files were lost or came from a backup. It
    refuses older plans, and what it reports under a newer one says nothing about a withdrawal.
    """
    granted = {
        shard: grant
        if grant.withdrawn is None
        else msgspec.structs.replace(grant, withdrawn=generation)
        for shard, grant in fleet.granted.items()
    }
    return msgspec.structs.replace(fleet, generation=generation, granted=granted)


def _next_grant(
    shard: int, grant: Grant, target: str, reports: Mapping[str, HostReport], generation: int
) -> tuple[Grant, Session | None]:
    if grant.host == target:
        return Grant(host=target), None
    if grant.withdrawn is None:
        return Grant(host=grant.host, withdrawn=generation), None
    report = reports.get(grant.host)
    if report is None or report.plan_generation < grant.withdrawn or shard in report.holding:
        return grant, None
    return Grant(host=target), report.released.get(shard)


def _further_on(released: Session, known: Session | None) -> Session:
    """The session to hand on. ``known``: one that the releasing host was given and that no cluster
    there was seen to take; what it released may then be of an earlier stay of the shard.
    """
    if known is None:
        return released
    return (
        released if released.session_id == known.session_id and released.seq > known.seq else known
    )


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


def host_plan(fleet: FleetPlan, host: str, paced: Sequence[str]) -> HostPlan:
    """The part of the fleet's plan that ``host`` may run now. ``paced``: :func:`paced_hosts`."""
    entry = fleet.hosts.get(host)
    clusters: dict[int, ClusterPlan] = {}
    mine: set[int] = set()
    for number, cluster in (entry.clusters if entry else {}).items():
        shards = tuple(s for s in cluster.shards if fleet.granted.get(s) == Grant(host=host))
        if shards:
            clusters[number] = ClusterPlan(shards=shards)
            mine.update(shards)
    return HostPlan(
        generation=fleet.generation,
        shard_count=fleet.shard_count,
        host=host,
        gateway_url=fleet.gateway_url,
        clusters=clusters,
        identify=identify_slots(fleet, host, paced),
        handover={s: session for s, session in fleet.sessions.items() if s in mine},
    )


def paced_hosts(fleet: FleetPlan) -> tuple[str, ...]:
    """Hosts that may have shards to identify: those with clusters, and those yet to let go."""
    with_clusters = {host for host, entry in fleet.hosts.items() if entry.clusters}
    return tuple(sorted(with_clusters | {grant.host for grant in fleet.granted.values()}))


def identify_slots(fleet: FleetPlan, host: str, paced: Sequence[str]) -> IdentifySlots:
    """The host's place among those that may identify, in the order of their names.

    A host that is not among them has nothing to identify; its slot is one that nobody else has.
    """
    names = sorted({*paced, host})
    return IdentifySlots(
        max_concurrency=fleet.max_concurrency,
        slot=names.index(host),
        slots=len(names),
        after=fleet.pace_after,
    )
