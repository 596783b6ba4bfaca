# SPDX-License-Identifier: Apache-2.0
"""The fleet in words: what MASTER knows, as a snapshot for operators. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from discluster import __version__
from discluster.clearance import rejection
from discluster.console import FleetStatus, HostStatus, IdentifyStatus, RolloutStatus, Trouble
from discluster.master.hosts.absences import (
    Absence,
    Presence,
    Whereabouts,
    absence_troubles,
    crash_troubles,
    host_state,
)
from discluster.master.hosts.failures import Crashed
from discluster.master.hosts.lost import Losses
from discluster.master.ownership import unheard
from discluster.master.planner import HostNeed
from discluster.master.sentence import state_in_words
from discluster.messages import ClusterView, HostReport
from discluster.orders import MovesStatus
from discluster.plan import FleetPlan

Standing = Literal["eligible", "draining", "drained", "standby", "unfit"]
_RESUME: Final = "mend what ends the sessions, then: disclusterctl identify resume"
_SPEND: Final = "'disclusterctl identify resume --reserve' lets the reserve be spent as well"


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """One host as MASTER knows it. ``seen``: seconds since its last word, None if never;
    ``report_age``: seconds since its last report.
    """

    state: Presence
    seen: float | None = None
    report_age: float = 0.0
    version: str = ""
    report: HostReport | None = None
    refused_plan: str | None = None


class MasterView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the status is made from."""

    fleet: FleetPlan | None
    hosts: Mapping[str, HostView]
    shards_per_cluster: Mapping[str, int]
    weights: Mapping[str, float]
    identify: IdentifyStatus
    waiting_for: str | None
    recommended: int | None
    discord_trouble: Trouble | None
    uptime: float
    losses: Losses = Losses()
    crashed: tuple[Crashed, ...] = ()
    needs: Mapping[str, HostNeed] = {}
    notes: tuple[str, ...] = ()
    rollout: RolloutStatus | None = None
    moves: MovesStatus | None = None
    troubles: tuple[Trouble, ...] = ()


def fatal_block(reports: Mapping[str, HostReport]) -> str | None:
    """Why nobody may dial: Discord rejected what all shards have in common, on some host."""
    for host, report in sorted(reports.items()):
        shards = (shard for cluster in report.clusters for shard in cluster.shards)
        if (text := rejection(shards) or report.rejected) is not None:
            return f"on {host}, {text}"
    return None


def fleet_status(view: MasterView) -> FleetStatus:
    """The snapshot that ``disclusterctl status`` shows."""
    hosts = tuple(_host(name, host, view) for name, host in sorted(view.hosts.items()))
    troubles = tuple(_troubles(view))
    count = view.fleet.shard_count if view.fleet else 0
    ready = len({s for host in hosts for s in _ready(host)})
    return FleetStatus(
        version=__version__,
        generation=view.fleet.generation if view.fleet else 0,
        shard_count=count,
        shards_ready=ready,
        shards_planned=sum(host.shards_planned for host in hosts),
        recommended=view.recommended,
        state=_state(view, hosts, ready, count),
        uptime=view.uptime,
        identify=view.identify,
        troubles=troubles,
        hosts=hosts,
        rollout=view.rollout,
    )


def _ready(host: HostStatus) -> Iterator[int]:
    if host.state in ("connected", "unattended"):
        for cluster in host.clusters:
            yield from (shard.shard for shard in cluster.shards if shard.state == "ready")


def _host(name: str, host: HostView, view: MasterView) -> HostStatus:
    report = host.report
    planned = 0
    if view.fleet is not None and name in view.fleet.hosts:
        planned = sum(len(c.shards) for c in view.fleet.hosts[name].clusters.values())
    state = host_state(name, host.state, view.fleet)
    # Of a host that is down or lost the last report may still tell of shards.
    listed = report.clusters if report and state not in ("down", "lost") else ()
    clusters = tuple(_aged(c, host.report_age) for c in listed)
    ready = sum(s.state == "ready" for cluster in clusters for s in cluster.shards)
    return HostStatus(
        host=name,
        state=state,
        standing=_standing(name, planned, view),
        seen=host.seen,
        version=host.version,
        weight=view.weights.get(name, 1.0),
        shards_per_cluster=view.shards_per_cluster.get(name, 0),
        plan_generation=report.plan_generation if report else 0,
        shards_planned=planned,
        shards_ready=ready,
        clusters=clusters,
        problems=report.problems if report else (),
        summary=report.summary if report else "",
    )


def _standing(name: str, planned: int, view: MasterView) -> Standing:
    need = view.needs.get(name)
    away = view.fleet.away.get(name) if view.fleet is not None else None
    if away is not None and away.state == "unfit":
        return "unfit"
    if need is not None and need.state == "draining":
        granted = view.fleet.granted.values() if view.fleet is not None else ()
        return "draining" if planned or any(g.host == name for g in granted) else "drained"
    return "standby" if need is not None and need.standby else "eligible"


def _aged(cluster: ClusterView, age: float) -> ClusterView:
    """The same with its ages counted on to now."""
    replace = msgspec.structs.replace
    shards = tuple(
        replace(
            s,
            since=s.since + age,
            event_age=None if s.event_age is None else s.event_age + age,
        )
        for s in cluster.shards
    )
    uptime = None if cluster.uptime is None else cluster.uptime + age
    return replace(cluster, shards=shards, uptime=uptime)


def _state(view: MasterView, hosts: tuple[HostStatus, ...], ready: int, count: int) -> str:
    if view.fleet is None:
        return view.waiting_for or "about to plan"
    present = [h for h in hosts if h.state in ("connected", "unattended")]
    states = Counter(s.state for h in present for c in h.clusters for s in c.shards)
    away = {s.shard for h in hosts if h not in present for c in h.clusters for s in c.shards}
    return state_in_words(
        states,
        count=count,
        ready=ready,
        away=len(away),
        identify=view.identify,
        waiting=view.waiting_for,
    )


def _troubles(view: MasterView) -> Iterator[Trouble]:
    reports = {name: host.report for name, host in view.hosts.items() if host.report is not None}
    if view.discord_trouble is not None:
        yield view.discord_trouble
    if (block := fatal_block(reports)) is not None:
        yield Trouble(
            severity="error",
            text=block,
            hint="those that are connected stay so, but no shard of the fleet dials until no"
            " cluster reports this any more: mend the cause, then restart the clusters",
        )
    elif view.identify.blocked is not None and (view.identify.waiting or view.identify.closed):
        yield Trouble(
            severity="error" if view.identify.closed else "warning",
            text=view.identify.blocked,
            hint=_RESUME if view.identify.closed else _SPEND,
        )
    yield from _stopped(view.identify)
    yield from _recovery(view.fleet, reports)
    shards = Whereabouts(view.fleet)
    for name, host in sorted(view.hosts.items()):
        sight = Absence(
            host=name,
            state=host_state(name, host.state, view.fleet),
            seen=host.seen,
            shards=shards,
            losses=view.losses,
            waiting=view.waiting_for is not None,
        )
        yield from absence_troubles(sight)
        if host.refused_plan is not None:
            text = f"{name} refused its plan: {host.refused_plan}"
            yield Trouble(severity="error", text=text, host=name)
    yield from crash_troubles(shards, view.crashed)
    yield from view.troubles
    for note in view.notes:
        yield Trouble(severity="warning", text=note)
    yield from _count_notice(view)
    if view.rollout is not None:
        yield from _rollout_notice(view.rollout)
    if view.moves is not None:
        yield _moves_notice(view.moves)


def _recovery(fleet: FleetPlan | None, reports: Mapping[str, HostReport]) -> Iterator[Trouble]:
    """Shards that nobody gets, since a host that is away may run them."""
    ungranted = fleet.targets().keys() - fleet.granted.keys() if fleet else ()
    if fleet is None or not ungranted or not (away := unheard(fleet, reports)):
        return
    yield Trouble(
        severity="warning",
        text=f"MASTER's files were older than the fleet: {len(ungranted)} shards wait, since"
        f" {', '.join(away)} may run them",
        hint="they are given out when these hosts have connected",
    )


def _stopped(identify: IdentifyStatus) -> Iterator[Trouble]:
    """Shards that the guard holds back: those with the same reason in one."""
    alike: dict[str, list[int]] = defaultdict(list)
    for stop in identify.stopped:
        alike[stop.why].append(stop.shard)
    for why, shards in alike.items():
        listed = ", ".join(map(str, shards[:8])) + (" ..." if len(shards) > 8 else "")
        yield Trouble(
            severity="error",
            text=f"shard{'s' if len(shards) > 1 else ''} {listed} held back: {why}",
            hint=_RESUME,
        )


def _count_notice(view: MasterView) -> Iterator[Trouble]:
    if view.fleet is None or view.recommended is None:
        return
    if view.recommended != view.fleet.shard_count:
        yield Trouble(
            severity="notice",
            text=f"Discord recommends {view.recommended} shards, the fleet runs"
            f" {view.fleet.shard_count}",
            hint="the count of a running fleet does not change by itself",
        )


def _rollout_notice(rollout: RolloutStatus) -> Iterator[Trouble]:
    """A rolling restart that is not done."""
    clusters = rollout.clusters
    restarted = sum(cluster.state == "restarted" for cluster in clusters)
    told = f"{restarted} of {len(clusters)} clusters restarted"
    hint = "go on with it: disclusterctl restart --rolling --continue"
    if rollout.state == "running":
        underway = [cluster for cluster in clusters if cluster.state == "underway"]
        now = ", ".join(f"cluster {c.cluster} on {c.host}" for c in underway) or "none just now"
        hint = "look at it: disclusterctl restart --rolling --continue"
        text = f"rolling restart: {told}, under way: {now}"
        yield Trouble(severity="notice", text=text, hint=hint)
    elif rollout.state == "paused":
        yield Trouble(severity="warning", text=f"rolling restart paused: {told}", hint=hint)
    else:
        text = f"rolling restart stopped, {told}: {rollout.problem}"
        yield Trouble(severity="error", text=text, hint=f"mend it, then {hint}")


def _moves_notice(moves: MovesStatus) -> Trouble:
    """An order that has shards to move yet."""
    told = f"{moves.order}: {moves.moved} of {moves.total} shards moved"
    if moves.problem is None:
        return Trouble(severity="notice", text=told, hint="look at it: disclusterctl moves")
    return Trouble(severity="warning", text=f"{told}; {moves.problem}", hint=moves.hint)
