# SPDX-License-Identifier: Apache-2.0
"""Fleets, plans and reports in few words, for the tests of MASTER."""

from collections.abc import Iterable, Mapping

from discluster.master.identify.slots import share_out
from discluster.master.parts import host_plan
from discluster.messages import ClusterView, HostReport, ShardState, ShardView
from discluster.plan import ClusterPlan, FleetPlan, Grant, HostEntry, HostPlan, Session

GATEWAY = "wss://gateway.example.net"


def session(name: str = "s", seq: int = 1) -> Session:
    return Session(session_id=name, resume_url="wss://resume.example.net", seq=seq)


def fleet(
    targets: Mapping[str, Mapping[int, Iterable[int]]],
    *,
    generation: int = 1,
    shard_count: int | None = None,
    granted: Mapping[int, Grant] | None = None,
    sessions: Mapping[int, Session] | None = None,
    max_concurrency: int = 1,
) -> FleetPlan:
    """``targets``: host -> cluster -> shards. Without ``granted`` nobody was given anything yet."""
    hosts = {
        host: HostEntry(clusters={n: ClusterPlan(shards=tuple(s)) for n, s in clusters.items()})
        for host, clusters in targets.items()
    }
    shards = [s for e in hosts.values() for c in e.clusters.values() for s in c.shards]
    paced = {host for host, entry in hosts.items() if entry.clusters}
    paced |= {grant.host for grant in (granted or {}).values()}
    return FleetPlan(
        generation=generation,
        shard_count=shard_count or max(shards, default=0) + 1,
        gateway_url=GATEWAY,
        max_concurrency=max_concurrency,
        hosts=hosts,
        granted=dict(granted or {}),
        slots=share_out(
            {},
            paced,
            {host: report(0) for host in paced},
            generation,
        ),
        sessions=dict(sessions or {}),
    )


def report(
    plan_generation: int,
    running: Iterable[int] = (),
    *,
    holding: Iterable[int] | None = None,
    released: Mapping[int, Session] | None = None,
    cluster: int = 0,
    state: ShardState = "ready",
    fatal: int | None = None,
) -> HostReport:
    """``running``: shards that a cluster reports itself; ``holding``: those if not given."""
    views = tuple(ShardView(shard=s, state=state, fatal=fatal, problem=None) for s in running)
    clusters = (ClusterView(cluster=cluster, unit="active", connected=True, shards=views),)
    return HostReport(
        plan_generation=plan_generation,
        holding=tuple(v.shard for v in views) if holding is None else tuple(holding),
        released=dict(released or {}),
        clusters=clusters if views else (),
    )


def part_of(plan: FleetPlan, host: str) -> HostPlan:
    return host_plan(plan, host)


def planned(plan: FleetPlan, host: str) -> set[int]:
    """Shards that ``host`` may run under ``plan``."""
    return set(part_of(plan, host).shards())
