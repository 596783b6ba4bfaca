# SPDX-License-Identifier: Apache-2.0
"""What tests of the planner ask of a target, told apart from how the planner makes one."""

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from itertools import product

from discluster.master.planner import HostNeed
from discluster.plan import ClusterPlan, HostEntry

Layout = Mapping[str, HostEntry]


def shards_of(entry: HostEntry) -> list[int]:
    return [shard for cluster in entry.clusters.values() for shard in cluster.shards]


def homes(layout: Layout) -> dict[int, str]:
    return {shard: host for host, entry in layout.items() for shard in shards_of(entry)}


def clusters(layout: Layout) -> dict[int, tuple[int, ...]]:
    """The shards of each cluster."""
    return {n: c.shards for entry in layout.values() for n, c in entry.clusters.items()}


def numbers(layout: Layout) -> dict[str, int]:
    return {host: len(shards_of(entry)) for host, entry in layout.items()}


def moved(before: Layout, after: Layout) -> list[int]:
    """Shards that are on another host than before; one that was nowhere did not move."""
    was, now = homes(before), homes(after)
    return [shard for shard, host in was.items() if now.get(shard, host) != host]


def entry(*clusters: Iterable[int], first: int = 0, size: int = 4, weight: float = 1) -> HostEntry:
    """A host with these clusters, numbered from ``first``."""
    return HostEntry(
        weight=weight,
        shards_per_cluster=size,
        clusters={first + at: ClusterPlan(shards=tuple(c)) for at, c in enumerate(clusters)},
    )


def laid_out(
    *hosts: int, size: int = 4, weights: Iterable[float] | None = None
) -> dict[str, HostEntry]:
    """Hosts a, b, … with so many shards each, in clusters of ``size``, in order."""
    layout, at, number = {}, 0, 0
    for name, count, weight in zip("abcdefghij", hosts, weights or [1] * len(hosts), strict=False):
        lots = [range(n, min(n + size, at + count)) for n in range(at, at + count, size)]
        layout[name] = entry(*lots, first=number, size=size, weight=weight)
        at, number = at + count, number + len(lots)
    return layout


def fewest_moves(count: int, before: Layout, needs: Mapping[str, HostNeed]) -> int:
    """Lower bound for a fleet without limits: no shares that lie within one of the exact ones ask
    for fewer. Counts shards that must leave their host.
    """
    total = sum(Fraction(need.weight) for need in needs.values())
    now = {host: len(shards_of(before[host])) if host in before else 0 for host in needs}
    exact = {host: count * Fraction(need.weight) / total for host, need in needs.items()}
    floors = {host: int(amount) for host, amount in exact.items()}
    spare = count - sum(floors.values())
    # Rounding up a host that is above its rounded-down share saves exactly one move.
    saving = sum(now[h] > floors[h] for h in needs if exact[h] != floors[h])
    kept = sum(min(now[h], floors[h]) for h in needs) + min(spare, saving)
    return sum(len(shards_of(each)) for each in before.values()) - kept


def by_brute_force(
    count: int,
    hosts: list[str],
    before: Mapping[int, str],
    allowed: Callable[[dict[str, int]], bool],
) -> int:
    """The fewest moves to any of all layouts whose numbers by host are ``allowed``."""
    fewest = count
    for layout in product(hosts, repeat=count):
        moves = sum(before.get(shard, host) != host for shard, host in enumerate(layout))
        if moves < fewest and allowed({host: layout.count(host) for host in hosts}):
            fewest = moves
    return fewest
