# SPDX-License-Identifier: Apache-2.0
"""Where every shard shall be: hosts with weights in, clusters with shards out. Pure.

Shards are shared out by weight to within one shard. What is already in place stays, as far as the
shares allow, so the number of shards that move is the least possible for these shares.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain

import msgspec

from discluster.errors import ConfigurationError
from discluster.plan import ClusterPlan, HostEntry


class HostNeed(msgspec.Struct, frozen=True, kw_only=True):
    """A host to plan for. ``weight`` 0 gives it no shards; ``in_touch``: it may get more than it
    has.
    """

    weight: float = 1.0
    shards_per_cluster: int = 16
    in_touch: bool = True


def plan_fleet(
    shard_count: int, hosts: Mapping[str, HostNeed], current: Mapping[str, HostEntry]
) -> dict[str, HostEntry]:
    """The target for every host in ``hosts``; hosts in ``current`` alone lose their shards.

    Raises:
        ConfigurationError: no host can take a shard.
    """
    quota = quotas(shard_count, hosts, {host: _count(entry) for host, entry in current.items()})
    kept = {host: list(_kept(current.get(host), quota[host], shard_count)) for host in hosts}
    placed = set(chain.from_iterable(kept.values()))
    homeless = iter([shard for shard in range(shard_count) if shard not in placed])
    numbers = _unused_numbers(current)
    plan = {}
    for host in sorted(hosts):
        added = [next(homeless) for _ in range(quota[host] - len(kept[host]))]
        clusters = _clusters(current.get(host), kept[host], added, hosts[host], numbers)
        plan[host] = HostEntry(
            weight=hosts[host].weight,
            shards_per_cluster=hosts[host].shards_per_cluster,
            clusters=clusters,
        )
    return plan


def quotas(
    shard_count: int, hosts: Mapping[str, HostNeed], current: Mapping[str, int]
) -> dict[str, int]:
    """How many shards each host gets: its share by weight, and a host out of touch at most what it
    has; what it does not get is shared out among the others.
    """
    share = _shares(shard_count, hosts, current)
    full = {
        host: current.get(host, 0)
        for host, need in hosts.items()
        if not need.in_touch and share[host] > current.get(host, 0)
    }
    if not full:
        return share
    others = {host: need for host, need in hosts.items() if host not in full}
    return full | quotas(shard_count - sum(full.values()), others, current)


def _shares(
    shard_count: int, hosts: Mapping[str, HostNeed], current: Mapping[str, int]
) -> dict[str, int]:
    """The share by weight, rounded down, and the rest one by one.

    The rest goes to hosts that rounding took from, at most one each: first to those that would
    otherwise have to give a shard away, then by the size of what rounding took.
    """
    # Fractions: a share that is whole must not look like one that rounding took from.
    total = sum(Fraction(need.weight) for need in hosts.values())
    if total <= 0:
        raise ConfigurationError(
            "no host can take a shard: there is none, or all weights are 0",
            hint="give at least one host in master.yaml a weight above 0",
        )
    exact = {host: shard_count * Fraction(need.weight) / total for host, need in hosts.items()}
    share = {host: int(amount) for host, amount in exact.items()}
    rest = shard_count - sum(share.values())
    first = sorted(
        (host for host in hosts if exact[host] > share[host]),
        key=lambda h: (current.get(h, 0) <= share[h], share[h] - exact[h], h),
    )
    for host in first[:rest]:
        share[host] += 1
    return share


def _count(entry: HostEntry) -> int:
    return sum(len(cluster.shards) for cluster in entry.clusters.values())


def _kept(entry: HostEntry | None, quota: int, shard_count: int) -> Iterator[int]:
    """The shards that stay: whole clusters first, so that what goes comes from the last ones."""
    if entry is None:
        return
    size = entry.shards_per_cluster
    full_first = sorted(entry.clusters.items(), key=lambda item: (len(item[1].shards) < size, item))
    shards = [s for _, cluster in full_first for s in cluster.shards if s < shard_count]
    yield from shards[:quota]


def _clusters(
    entry: HostEntry | None,
    kept: Sequence[int],
    added: Sequence[int],
    need: HostNeed,
    numbers: Iterator[int],
) -> dict[int, ClusterPlan]:
    size = need.shards_per_cluster
    stay = set(kept)
    groups: dict[int, list[int]] = {}
    if entry is not None:
        for number, cluster in sorted(entry.clusters.items()):
            if shards := [shard for shard in cluster.shards if shard in stay]:
                groups[number] = shards
    if not _well_filled(groups, size):
        groups = _regrouped(groups, size, numbers)
    _fill(groups, added, size, numbers)
    before = entry.clusters if entry is not None else {}
    return {
        n: ClusterPlan(shards=tuple(sorted(shards)), run=before[n].run if n in before else 0)
        for n, shards in groups.items()
    }


def _well_filled(groups: Mapping[int, Sequence[int]], size: int) -> bool:
    """All clusters full, but for one that may hold fewer."""
    short = [group for group in groups.values() if len(group) != size]
    return len(short) <= 1 and all(len(group) < size for group in short)


def _regrouped(
    groups: Mapping[int, Sequence[int]], size: int, numbers: Iterator[int]
) -> dict[int, list[int]]:
    """The same shards in clusters of another size, under the same numbers as far as they go."""
    shards = sorted(chain.from_iterable(groups.values()))
    reusable = chain(sorted(groups), numbers)
    return {next(reusable): shards[at : at + size] for at in range(0, len(shards), size)}


def _fill(
    groups: dict[int, list[int]], added: Sequence[int], size: int, numbers: Iterator[int]
) -> None:
    rest = list(added)
    for group in groups.values():
        room = size - len(group)
        group += rest[:room]
        del rest[:room]
    for at in range(0, len(rest), size):
        groups[next(numbers)] = rest[at : at + size]


def _unused_numbers(current: Mapping[str, HostEntry]) -> Iterator[int]:
    """Cluster numbers that no cluster of the fleet has."""
    used = {number for entry in current.values() for number in entry.clusters}
    number = max(used, default=-1)
    while True:
        number += 1
        yield number
