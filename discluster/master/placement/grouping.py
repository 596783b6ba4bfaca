# SPDX-License-Identifier: Apache-2.0
"""The shards of one host in clusters: as few clusters as the size allows, and few changes. Pure.

Shards of a cluster that failed share clusters with nobody else, so that what made it fail takes
nothing healthy along.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from discluster.plan import Failed, HostEntry


class Group(NamedTuple):
    """Shards that are in one cluster. ``number``: None where they need a new one. ``kin``: the
    failed cluster that they come from. ``full``: no further shard fits in. ``failed``: that cluster
    is this one.
    """

    number: int | None
    shards: Sequence[int]
    kin: int | None = None
    full: bool = False
    failed: bool = False


def kin_of(failed: Mapping[int, Failed]) -> dict[int, int]:
    """Shard -> the newest failed cluster that it was in."""
    return {shard: number for number in sorted(failed) for shard in failed[number].shards}


def groups_of(
    entry: HostEntry, shard_count: int, kin: Mapping[int, int], failed: Collection[int]
) -> list[Group]:
    """The clusters of a host in the plan in force, in the order in which they are kept: those with
    something to keep apart, then full ones, then the others.
    """
    groups: list[Group] = []
    for number, cluster in sorted(entry.clusters.items()):
        shards = [shard for shard in cluster.shards if shard < shard_count]
        full = len(shards) >= entry.shards_per_cluster
        if kin:
            groups += _apart(number, shards, kin, full=full, failed=number in failed)
        elif shards:
            groups.append(Group(number, shards, full=full))
    return sorted(groups, key=lambda group: (group.kin is None, not group.full))


def _apart(
    number: int, shards: Sequence[int], kin: Mapping[int, int], *, full: bool, failed: bool
) -> Iterator[Group]:
    """One group for each kind of shards; the healthy ones keep the number."""
    kinds: dict[int | None, list[int]] = {}
    for shard in shards:
        kinds.setdefault(kin.get(shard), []).append(shard)
    free = None if failed else number
    for kind in sorted(kinds, key=_healthy_first):
        yield Group(free, kinds[kind], kind, full and len(kinds) == 1, failed)
        free = None


def _healthy_first(kind: int | None) -> tuple[bool, int]:
    return kind is not None, kind or 0


def grouped(
    groups: Iterable[Group],
    shards: Iterable[int],
    size: int,
    *,
    kin: Mapping[int, int],
    order: Callable[[int], tuple[int, int]],
    level: bool,
    numbers: Iterator[int],
) -> dict[int, list[int]]:
    """The clusters for the ``shards`` of a host, of which some are in ``groups`` already.

    ``order``: in which new ones are put into clusters. ``level``: all are full but one, also where
    that costs moves between clusters and saves none.
    """
    homeless = set(shards)
    kinds: dict[int | None, dict[int, list[int]]] = {None: {}}
    for group in groups:
        if group.number is not None and (stay := [s for s in group.shards if s in homeless]):
            kinds.setdefault(group.kin, {})[group.number] = stay
            homeless.difference_update(stay)
    pools: dict[int | None, list[int]] = {}
    for shard in sorted(homeless, key=order):
        pools.setdefault(kin.get(shard), []).append(shard)
    clusters: dict[int, list[int]] = {}
    for kind in sorted(kinds.keys() | pools.keys(), key=_healthy_first):
        mine, pool = kinds.get(kind, {}), pools.get(kind, [])
        clusters |= _filled(mine, pool, size, level=level, numbers=numbers)
    return clusters


def _filled(
    clusters: Mapping[int, list[int]],
    pool: list[int],
    size: int,
    *,
    level: bool,
    numbers: Iterator[int],
) -> dict[int, list[int]]:
    """``clusters`` with ``pool`` added, none larger than ``size``."""
    rest = list(pool)
    kept: dict[int, list[int]] = {}
    for number in sorted(clusters):
        kept[number] = clusters[number][:size]
        rest += clusters[number][size:]
    needed = -(-(sum(map(len, kept.values())) + len(rest)) // size)
    while len(kept) > needed:
        rest += kept.pop(_shortest(kept))
    _fill(kept, rest, size)
    if level and not rest:
        _level(kept, size)
    fresh = iter(rest)
    while batch := list(islice(fresh, size)):
        kept[next(numbers)] = batch
    return kept


def _fill(clusters: Mapping[int, list[int]], rest: list[int], size: int) -> None:
    for cluster in clusters.values():
        room = size - len(cluster)
        cluster += rest[:room]
        del rest[:room]


def _level(clusters: Mapping[int, list[int]], size: int) -> None:
    """Fills the long ones of those that are not full from the short ones."""
    partial = [number for number in clusters if len(clusters[number]) < size]
    partial.sort(key=lambda number: (len(clusters[number]), -number))
    while len(partial) > 1:
        source, target = clusters[partial[0]], clusters[partial[-1]]
        moving = min(len(source), size - len(target))
        target += source[-moving:]
        del source[-moving:]
        partial.pop(-1 if len(target) == size else 0)


def _shortest(clusters: Mapping[int, list[int]]) -> int:
    return min(clusters, key=lambda number: (len(clusters[number]), -number))
