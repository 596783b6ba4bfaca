# SPDX-License-Identifier: Apache-2.0
"""Where every shard shall be: hosts with weights in, clusters with shards out. Pure.

Shards are shared out by weight to within one shard, or, by what they cost, to within what whole
shards allow. What is already in place stays as far as the shares allow, so the number of shards
that move is the least possible for these shares.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from types import MappingProxyType

import msgspec

from discluster.bounds import fresh_clusters
from discluster.master.placement.capacity import Capacity, HostNeed, capacity
from discluster.master.placement.grouping import Group, grouped, groups_of, kin_of
from discluster.master.placement.loads import Scales, placed
from discluster.master.placement.misfits import misfits, nobody
from discluster.master.placement.placing import dealt, kept
from discluster.master.placement.quotas import quotas
from discluster.master.placement.suspects import moved
from discluster.plan import ClusterPlan, Failed, HostEntry

__all__ = ["HostNeed", "Target", "plan_fleet"]

_NONE_FAILED: Mapping[int, Failed] = MappingProxyType({})


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """``hosts``: what each shall run. ``notes``: what does not fit, and what would help, in words;
    shards that fit nowhere are in no cluster.
    """

    hosts: dict[str, HostEntry]
    notes: tuple[str, ...] = ()


def plan_fleet(
    shard_count: int,
    hosts: Mapping[str, HostNeed],
    current: Mapping[str, HostEntry],
    *,
    max_concurrency: int = 1,
    costs: Mapping[int, float] | None = None,
    even: float | None = None,
    failed: Mapping[int, Failed] = _NONE_FAILED,
) -> Target:
    """The target for every host in ``hosts``; hosts in ``current`` alone lose their shards.

    ``costs``: of each shard; without them the number of shards is balanced. With them only hosts
    that are new, or whose weight changed, are brought to their shares, or all to within ``even`` of
    it. ``failed``: as in :class:`FleetPlan`; the clusters named there lose their shards.

    Raises:
        ConfigurationError: no host can have a shard.
    """
    kin = kin_of(failed)
    groups = {host: groups_of(entry, shard_count, kin, failed) for host, entry in current.items()}
    can = capacity(shard_count, hosts, _numbers(groups))
    groups = moved(groups, hosts, can, failed) if kin else groups
    task = _Task(
        shard_count=shard_count,
        hosts=hosts,
        groups=groups,
        kin=kin,
        lanes=max_concurrency,
        capacity=can,
        quota=quotas(shard_count, can, _numbers(groups), _pinned(groups)),
    )
    if not any(task.quota.values()):
        raise nobody(hosts)
    if costs is None or not any(groups.get(host) for host in can.weights):
        homes = _by_number(task)
    else:
        scope = {host: _tolerance(need, current.get(host), even) for host, need in hosts.items()}
        within = {host: part for host, part in scope.items() if part is not None}
        homes = _by_cost(task, costs, within)
    return Target(
        hosts=_entries(task, homes, current, _unused_numbers(current, failed)),
        notes=misfits(shard_count, hosts, {host: len(shards) for host, shards in homes.items()}),
    )


class _Task(msgspec.Struct, frozen=True, kw_only=True):
    """``groups``: the clusters in place. ``kin``: as by :func:`kin_of`. ``lanes``: identify
    buckets. ``quota``: number of shards by host.
    """

    shard_count: int
    hosts: Mapping[str, HostNeed]
    groups: Mapping[str, list[Group]]
    kin: Mapping[int, int]
    lanes: int
    capacity: Capacity
    quota: Mapping[str, int]

    def bucket(self, shard: int) -> int:
        return shard % self.lanes

    def kept(self, host: str, quota: int) -> list[int]:
        return kept(self.groups.get(host, ()), quota, self.bucket)

    def homeless(self, homes: Mapping[str, list[int]]) -> list[int]:
        """Those that are nowhere; those that are in place now come first, since rooms may end."""
        at_home = set(chain.from_iterable(homes.values()))
        running = {s for own in self.groups.values() for group in own for s in group.shards}
        nowhere = (shard for shard in range(self.shard_count) if shard not in at_home)
        return sorted(nowhere, key=lambda shard: (shard not in running, shard))


def _numbers(groups: Mapping[str, list[Group]]) -> dict[str, int]:
    return {host: sum(len(group.shards) for group in own) for host, own in groups.items()}


def _pinned(groups: Mapping[str, list[Group]]) -> dict[str, int]:
    """How many shards of failed clusters each host has."""
    suspect = {host: [g for g in own if g.kin is not None] for host, own in groups.items()}
    return {host: number for host, number in _numbers(suspect).items() if number}


def _by_number(task: _Task) -> dict[str, list[int]]:
    homes = {host: task.kept(host, quota) for host, quota in task.quota.items()}
    rooms = {host: quota - len(homes[host]) for host, quota in task.quota.items()}
    homeless = task.homeless(homes)[: sum(rooms.values())]
    for host, shards in dealt(homeless, rooms, homes, task.bucket).items():
        homes[host] += shards
    return homes


def _by_cost(
    task: _Task, costs: Mapping[int, float], within: Mapping[str, float]
) -> dict[str, list[int]]:
    """``within``: how far from their shares hosts may be that are brought to them."""
    can = task.capacity
    # Whether standby hosts are called, and what is left where it is, goes by number.
    most = {host: can.rooms[host] if can.weights.get(host) else n for host, n in task.quota.items()}
    homes = {host: task.kept(host, number) for host, number in most.items()}
    rooms = {host: number - len(homes[host]) for host, number in most.items()}
    homeless = task.homeless(homes)[: sum(rooms.values())]
    weights = can.reserve | {host: weight for host, weight in can.weights.items() if weight}
    everything = sum(weights.values())
    parts = {host: weight / everything for host, weight in weights.items()}
    loads = {host: sum(costs[shard] for shard in shards) for host, shards in homes.items()}
    for host, shards in placed(homeless, rooms, parts, loads, costs).items():
        homes[host] += shards
    shares = _shares(task, homes, costs)
    scales = Scales(homes, task.kin, shares=shares, rooms=can.rooms, costs=costs)
    scales.even_out(within)
    return scales.homes(homes)


def _shares(
    task: _Task, homes: Mapping[str, list[int]], costs: Mapping[int, float]
) -> dict[str, float]:
    """What each host that gives and takes should carry; the others keep what they carry."""
    weights = {h: w for h, w in task.capacity.weights.items() if w and task.hosts[h].in_touch}
    everything = sum(weights.values())
    load = sum(costs[shard] for host in weights for shard in homes[host])
    return {host: load * (weight / everything) for host, weight in weights.items()}


def _tolerance(need: HostNeed, before: HostEntry | None, even: float | None) -> float | None:
    """How far from its share a host may be; None: it is not brought to it."""
    if even is not None:
        return even
    new = before is None or not before.clusters or before.weight != need.weight
    return 0.0 if new else None


def _entries(
    task: _Task,
    homes: Mapping[str, list[int]],
    current: Mapping[str, HostEntry],
    numbers: Iterator[int],
) -> dict[str, HostEntry]:
    entries = {}
    for host, need in sorted(task.hosts.items()):
        before = current.get(host, HostEntry())
        clusters = grouped(
            task.groups.get(host, ()),
            homes[host],
            need.shards_per_cluster,
            kin=task.kin,
            order=lambda shard: (task.bucket(shard), shard),
            level=before.shards_per_cluster != need.shards_per_cluster,
            numbers=numbers,
        )
        entries[host] = HostEntry(
            weight=need.weight,
            shards_per_cluster=need.shards_per_cluster,
            clusters={n: _cluster(shards, before, n) for n, shards in clusters.items()},
        )
    return entries


def _cluster(shards: list[int], before: HostEntry, number: int) -> ClusterPlan:
    old = before.clusters.get(number)
    return ClusterPlan(shards=tuple(sorted(shards)), run=old.run if old else 0)


def _unused_numbers(current: Mapping[str, HostEntry], failed: Collection[int]) -> Iterator[int]:
    """Cluster numbers that no cluster of the fleet has, or had when it failed."""
    return fresh_clusters({*failed, *chain(*(entry.clusters for entry in current.values()))})
