# SPDX-License-Identifier: Apache-2.0
"""The fleet as its hosts run it, for a MASTER that has lost its plan. Pure.

The first plan is then made from this, so that nothing is closed, and no shard identifies.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec

from discluster.bounds import MAXIMUM_SHARDS, MOST_RUNS, fresh_clusters
from discluster.messages import HostReport
from discluster.plan import MAXIMUM_SHARDS_PER_CLUSTER, ClusterPlan, FleetPlan, HostEntry


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """What runs: as shards of ``shard_count``, in which clusters of which hosts."""

    shard_count: int
    hosts: dict[str, HostEntry]


def adoption(reports: Mapping[str, HostReport]) -> Adoption | None:
    """None if no host follows a plan. The number of shards is the one of most shards; hosts that
    run another are as good as empty.
    """
    counts = Counter[int]()
    for report in reports.values():
        if 0 < report.shard_count <= MAXIMUM_SHARDS:
            counts[report.shard_count] += 1 + len(report.holding)
    if not counts:
        return None
    most = max(counts, key=lambda number: (counts[number], number))
    hosts = {}
    taken: set[int] = set()
    numbers: set[int] = set()
    # Whoever follows the newest plan is believed first.
    for host, report in sorted(reports.items(), key=lambda item: -item[1].plan_generation):
        if report.shard_count == most:
            clusters = _clusters(report, taken, numbers, most)
            taken.update(s for cluster in clusters.values() for s in cluster.shards)
            numbers.update(clusters)
            size = max((len(cluster.shards) for cluster in clusters.values()), default=1)
            hosts[host] = HostEntry(clusters=clusters, shards_per_cluster=size)
    return Adoption(shard_count=most, hosts=hosts)


def is_behind(fleet: FleetPlan, reports: Mapping[str, HostReport]) -> bool:
    """Whether MASTER's files are older than what a host follows: they came from a backup."""
    return any(report.plan_generation > fleet.generation for report in reports.values())


def caught_up(fleet: FleetPlan, reports: Mapping[str, HostReport]) -> FleetPlan:
    """The plan with the target that the hosts' reports show; what none of them runs, and hosts that
    did not report, as in the files.
    """
    found = adoption(reports)
    if found is None or found.shard_count != fleet.shard_count:
        return fleet
    running = {s for e in found.hosts.values() for c in e.clusters.values() for s in c.shards}
    used = {n for entry in found.hosts.values() for n in entry.clusters}
    spare = fresh_clusters({*used, *(n for e in fleet.hosts.values() for n in e.clusters)})
    hosts = {}
    for host in sorted(fleet.hosts.keys() | found.hosts.keys()):
        before = fleet.hosts.get(host, HostEntry())
        clusters = dict(found.hosts[host].clusters) if host in found.hosts else {}
        for number, cluster in before.clusters.items():
            rest = tuple(shard for shard in cluster.shards if shard not in running)
            if rest:
                own = number if number not in used else next(spare)
                clusters[own] = msgspec.structs.replace(cluster, shards=rest)
        hosts[host] = msgspec.structs.replace(before, clusters=clusters)
    return msgspec.structs.replace(fleet, hosts=hosts)


def _clusters(
    report: HostReport, taken: set[int], numbers: set[int], shard_count: int
) -> dict[int, ClusterPlan]:
    """What a host holds, in the clusters that report it. What none reports is of one that does not
    answer: it goes to those that are there and report nothing, or to the first.
    """
    free = {s for s in report.holding if 0 <= s < shard_count} - taken
    views = {v.cluster: v for v in report.clusters if v.cluster not in numbers}
    shards: dict[int, set[int]] = {}
    for number, view in sorted(views.items()):
        shards[number] = free.intersection(shard.shard for shard in view.shards)
        free -= shards[number]
    if free and views:
        mute = [number for number, own in shards.items() if not own]
        shards[mute[0] if mute else min(views)] |= free
    return {
        # More than a cluster takes no CONTROL of ours reports.
        number: ClusterPlan(
            shards=tuple(sorted(own))[:MAXIMUM_SHARDS_PER_CLUSTER],
            run=min(views[number].run, MOST_RUNS),
        )
        for number, own in shards.items()
        if own
    }
