# SPDX-License-Identifier: Apache-2.0
"""Going back to where the shards were in an earlier generation. Pure."""

from collections.abc import Iterator, Mapping
from itertools import count

import msgspec

from discluster.errors import DisclusterError
from discluster.master.planner import HostNeed
from discluster.plan import ClusterPlan, FleetPlan, HostEntry


def earlier_layout(
    old: FleetPlan, now: FleetPlan, needs: Mapping[str, HostNeed]
) -> dict[str, HostEntry]:
    """The clusters of ``old`` on those hosts that can have them; what is left out the planner must
    place. A host out of touch keeps what it has now: it would not hear of a change.

    Raises:
        DisclusterError: the number of shards was another then.
    """
    if old.shard_count != now.shard_count:
        raise DisclusterError(
            f"generation {old.generation} had {old.shard_count} shards, the fleet has"
            f" {now.shard_count}: nothing of it can be taken over",
            hint="'disclusterctl plan history' lists the others",
            code="order-refused",
        )
    fixed = {host for host, need in needs.items() if not need.in_touch and host in now.hosts}
    taken = {s for host in fixed for c in now.hosts[host].clusters.values() for s in c.shards}
    entries = {host: _entry(now.hosts[host].clusters, needs[host]) for host in fixed}
    numbers = _free_numbers(old, now)
    for host, need in needs.items():
        if host not in fixed:
            before = old.hosts.get(host)
            clusters = before.clusters if before is not None else {}
            entries[host] = _entry(_again(clusters, host, taken, now, numbers), need)
    return entries


def contradictions(old: FleetPlan, needs: Mapping[str, HostNeed]) -> Iterator[str]:
    """Why the plan will not be as it was, in sentences."""
    for host, entry in sorted(old.hosts.items()):
        shards = sum(len(cluster.shards) for cluster in entry.clusters.values())
        need = needs.get(host)
        if not shards:
            continue
        if need is None:
            yield f"{host} is not there any more: its {shards} shards go to others"
        elif not need.in_touch and need.state == "eligible":
            yield f"{host} is out of touch and keeps what it has"
        elif need.state != "eligible":
            words = "lost" if need.state == "lost" else "drained"
            yield f"{host} is {words}: its {shards} shards go to others"
        elif need.max_shards is not None and shards > need.max_shards:
            yield f"{host} takes at most {need.max_shards} shards now, it had {shards}"
        elif need.shards_per_cluster != entry.shards_per_cluster:
            sizes = f"{need.shards_per_cluster} shards now, {entry.shards_per_cluster} then"
            yield f"clusters of {host} take {sizes}: it is regrouped"


def _entry(clusters: Mapping[int, ClusterPlan], need: HostNeed) -> HostEntry:
    # With the weight of now, so that the planner sees no host whose share has changed.
    return HostEntry(
        weight=need.weight, shards_per_cluster=need.shards_per_cluster, clusters=dict(clusters)
    )


def _again(
    clusters: Mapping[int, ClusterPlan],
    host: str,
    taken: set[int],
    now: FleetPlan,
    numbers: Iterator[int],
) -> dict[int, ClusterPlan]:
    """A number that another host's cluster has by now is not used again: it names that one."""
    used = {n: (h, c.run) for h, e in now.hosts.items() for n, c in e.clusters.items()}
    again = {}
    for number, cluster in clusters.items():
        shards = tuple(shard for shard in cluster.shards if shard not in taken)
        if not shards:
            continue
        holder, run = used.get(number, (host, 0))
        # A lower run than the cluster had would hide the next restart.
        kept = msgspec.structs.replace(cluster, shards=shards, run=max(run, cluster.run))
        again[number if holder == host else next(numbers)] = kept
    return again


def _free_numbers(old: FleetPlan, now: FleetPlan) -> Iterator[int]:
    used = {n for plan in (old, now) for entry in plan.hosts.values() for n in entry.clusters}
    return count(max(used, default=-1) + 1)
