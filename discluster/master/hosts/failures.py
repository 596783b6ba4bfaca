# SPDX-License-Identifier: Apache-2.0
"""Clusters that crash again and again, and hosts that do not reach Discord. Pure.

A cluster that its supervisor gave up loses its shards to a cluster of their own elsewhere: what
crashes it may be its machine, or an event of one of its shards, and that must not take another
cluster with it. If they fail there as well, it was not the machine, and they stay.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from discluster.master.parts import is_with
from discluster.messages import ClusterView, HostReport
from discluster.plan import Failed, FleetPlan

REMEMBERED: Final = 3600.0
_CUT_OFF: Final = frozenset({"dialing", "hello", "backoff"})


class Crashed(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster in the plan that its supervisor gave up. ``again``: its shards had left another
    one that failed.
    """

    cluster: int
    host: str
    shards: tuple[int, ...]
    detail: str
    again: bool

    def in_words(self) -> str:
        told = f"cluster {self.cluster} on {self.host} has failed: {self.detail}"
        count = len(self.shards)
        if self.again:
            return f"{told}; its {count} shards had left another that failed, and stay now"
        return f"{told}; its {count} shards go elsewhere"


def crashed(
    fleet: FleetPlan, reports: Mapping[str, HostReport], connected: Collection[str]
) -> Iterator[Crashed]:
    """Those that have failed now, but for those that a rolling restart is about."""
    restarting = _restarting(fleet)
    moved = {shard for failed in fleet.failed.values() for shard in failed.shards}
    for host in sorted(connected & reports.keys() & fleet.hosts.keys()):
        planned = fleet.hosts[host].clusters
        for view in reports[host].clusters:
            plan = planned.get(view.cluster)
            if plan is None or not _has_failed(view, plan.run) or view.cluster in restarting:
                continue
            shards = tuple(s for s in plan.shards if is_with(fleet.granted.get(s), host))
            if shards and view.cluster not in fleet.failed:
                yield Crashed(
                    cluster=view.cluster,
                    host=host,
                    shards=shards,
                    detail=view.problem or view.detail or "its unit has failed",
                    again=not moved.isdisjoint(shards),
                )


def failed_after(fleet: FleetPlan, now: Collection[Crashed], *, wall: float) -> dict[int, Failed]:
    """What the fleet's plan shall say of failed clusters: their shards go elsewhere. Forgotten
    after an hour, unless the shards have failed again.

    ``wall``: seconds since 1970.
    """
    still = {shard for cluster in now for shard in cluster.shards}
    kept = {
        number: failed
        for number, failed in fleet.failed.items()
        if wall - failed.at < REMEMBERED or not still.isdisjoint(failed.shards)
    }
    new = {c.cluster: Failed(host=c.host, at=wall, shards=c.shards) for c in now if not c.again}
    return kept | new


def cut_off(reports: Mapping[str, HostReport], connected: Collection[str]) -> frozenset[str]:
    """Hosts none of whose shards gets through to Discord, while that is not so elsewhere: at least
    half of all other shards are ready.
    """
    states = {
        host: [shard.state for cluster in reports[host].clusters for shard in cluster.shards]
        for host in connected & reports.keys()
    }
    ready = {host: own.count("ready") for host, own in states.items()}
    total, all_ready = sum(map(len, states.values())), sum(ready.values())
    found = set()
    for host, own in states.items():
        others, others_ready = total - len(own), all_ready - ready[host]
        if own and _CUT_OFF.issuperset(own) and others and 2 * others_ready >= others:
            found.add(host)
    return frozenset(found)


def _has_failed(view: ClusterView, run: int) -> bool:
    return view.unit == "failed" and view.run >= run


def _restarting(fleet: FleetPlan) -> Collection[int]:
    rollout = fleet.rollout
    return rollout.underway if rollout is not None and rollout.state == "running" else ()
