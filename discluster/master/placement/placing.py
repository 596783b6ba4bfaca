# SPDX-License-Identifier: Apache-2.0
"""Which shards stay on a host, and which go to which other one. Pure.

How many these are is decided before. Here is chosen so that the shards of an identify bucket
(``shard_id % max_concurrency``) are on one host as far as possible.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice

from discluster.master.placement.grouping import Group

Bucket = Callable[[int], int]


def kept(groups: Iterable[Group], quota: int, bucket: Bucket) -> list[int]:
    """At most ``quota`` shards of a host that stay: whole clusters, in the order given, and the
    best part of the next one.
    """
    stay: list[int] = []
    for group in groups:
        room = quota - len(stay)
        if len(group.shards) <= room:
            stay += group.shards
        elif room:
            stay += _best_part(group.shards, room, Counter(map(bucket, stay)), bucket)
            break
    return stay


def _best_part(
    shards: Sequence[int], room: int, kindred: Mapping[int, int], bucket: Bucket
) -> list[int]:
    """``room`` of the shards: buckets of which the host keeps most, and whole ones first."""
    lots = _by_bucket(shards, bucket)
    ranked = sorted(lots, key=lambda number: (-kindred.get(number, 0), number))
    chosen: list[int] = []
    rest: list[int] = []
    for number in ranked:
        whole = len(lots[number]) <= room - len(chosen)
        (chosen if whole else rest).extend(lots[number])
    return chosen + rest[: room - len(chosen)]


def dealt(
    homeless: Iterable[int],
    rooms: Mapping[str, int],
    homes: Mapping[str, Sequence[int]],
    bucket: Bucket,
) -> dict[str, list[int]]:
    """``homeless`` shards by the host that gets them, until all ``rooms`` are taken.

    A bucket goes whole to the host that has most of it, else to one with room for all of it; what
    is left is dealt out host by host.
    """
    lots = _by_bucket(sorted(homeless), bucket)
    free = {host: rooms[host] for host in sorted(rooms) if rooms[host] > 0}
    given: dict[str, list[int]] = {host: [] for host in free}
    for number, host in _relatives(lots, free, homes, bucket):
        if len(lots[number]) <= free[host]:
            free[host] -= len(lots[number])
            given[host] += lots.pop(number)
    for number, host in _whole(lots, free):
        given[host] += lots.pop(number)
    rest = chain.from_iterable(lots[number] for number in sorted(lots))
    for host, room in free.items():
        given[host] += islice(rest, room)
    return given


def _by_bucket(shards: Iterable[int], bucket: Bucket) -> dict[int, list[int]]:
    lots: dict[int, list[int]] = {}
    for shard in shards:
        lots.setdefault(bucket(shard), []).append(shard)
    return lots


def _relatives(
    lots: Mapping[int, Sequence[int]],
    free: Mapping[str, int],
    homes: Mapping[str, Sequence[int]],
    bucket: Bucket,
) -> list[tuple[int, str]]:
    """Each bucket with the host among those with room that has most of it, largest part first."""
    parts = [
        (-count, number, host)
        for host in free
        for number, count in Counter(map(bucket, homes.get(host, ()))).items()
        if number in lots
    ]
    best: dict[int, str] = {}
    for _, number, host in sorted(parts):
        best.setdefault(number, host)
    return list(best.items())


def _whole(lots: Mapping[int, Sequence[int]], free: dict[str, int]) -> list[tuple[int, str]]:
    """Buckets that fit whole, large ones first, and where; ``free`` is what is left then."""
    by_size: dict[int, deque[int]] = {}
    for number in sorted(lots):
        by_size.setdefault(len(lots[number]), deque()).append(number)
    sizes = sorted(by_size, reverse=True)
    placed = []
    for host in free:
        for size in sizes:
            while by_size[size] and size <= free[host]:
                free[host] -= size
                placed.append((by_size[size].popleft(), host))
    return placed
