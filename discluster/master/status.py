# SPDX-License-Identifier: Apache-2.0
"""The fleet in words: what MASTER knows, as a snapshot for operators. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from discluster import __version__
from discluster.clearance import rejection
from discluster.console import FleetStatus, HostStatus, IdentifyStatus, Trouble
from discluster.messages import ClusterView, HostReport
from discluster.plan import FleetPlan


class HostView(msgspec.Struct, frozen=True, kw_only=True):
    """One host as MASTER knows it. ``seen``: seconds since its last word, None if never;
    ``report_age``: seconds since its last report.
    """

    state: Literal["connected", "unattended", "silent", "expected"]
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
    clusters = tuple(_aged(c, host.report_age) for c in report.clusters) if report else ()
    ready = sum(s.state == "ready" for cluster in clusters for s in cluster.shards)
    return HostStatus(
        host=name,
        state=host.state,
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
    waiting = view.waiting_for
    if view.fleet is None:
        return waiting or "about to plan"
    if ready == count:
        return f"all {count} shards ready" + (f"; {waiting}" if waiting else "")
    present = [h for h in hosts if h.state in ("connected", "unattended")]
    states = Counter(s.state for h in present for c in h.clusters for s in c.shards)
    lost = {s.shard for h in hosts if h not in present for c in h.clusters for s in c.shards}
    counts = [
        (states["waiting"], "waiting for their turn to identify"),
        (states["identifying"], "identifying"),
        (states["resuming"], "resuming"),
        (states["backoff"], "pausing before they try again"),
        (states["held"], "held back"),
        (states["fatal"], "rejected by Discord"),
        (states["dialing"] + states["hello"] + states["idle"], "connecting"),
        (states["closing"], "closing"),
        (len(lost), "on hosts out of touch"),
    ]
    details = [f"{number} {words}" for number, words in counts if number]
    unseen = count - ready - sum(number for number, _ in counts)
    if unseen > 0:
        details.append(f"{unseen} not running")
    told = [f"{ready} of {count} shards ready", ", ".join(details), waiting or ""]
    return "; ".join(words for words in told if words)


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
    elif view.identify.blocked is not None and view.identify.waiting:
        yield Trouble(severity="warning", text=f"identifies wait: {view.identify.blocked}")
    for name, host in sorted(view.hosts.items()):
        yield from _host_troubles(name, host, view.fleet, waiting=view.waiting_for is not None)
    yield from _count_notice(view)


def _host_troubles(
    name: str, host: HostView, fleet: FleetPlan | None, *, waiting: bool
) -> Iterator[Trouble]:
    planned = bool(fleet and name in fleet.hosts and fleet.hosts[name].clusters)
    if host.state == "silent":
        seen = f"for {host.seen:.0f} s" if host.seen is not None else "since MASTER started"
        yield Trouble(
            severity="error" if planned else "warning",
            text=f"{name} has been silent {seen}"
            + ("; its shards stay its own" if planned else ""),
            hint=f"on {name}: systemctl status discluster-control",
            host=name,
        )
    elif host.state == "unattended" and planned:
        yield Trouble(
            severity="warning",
            text=f"{name} is unattended: its CONTROL was stopped, its clusters run on",
            hint=f"on {name}: systemctl start discluster-control",
            host=name,
        )
    elif host.state == "expected" and planned:
        yield Trouble(
            severity="warning" if waiting else "error",
            text=f"{name} is expected, but has not connected since MASTER started; its shards stay"
            " its own",
            hint=f"on {name}: systemctl status discluster-control",
            host=name,
        )
    if host.refused_plan is not None:
        yield Trouble(
            severity="error", text=f"{name} refused its plan: {host.refused_plan}", host=name
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
