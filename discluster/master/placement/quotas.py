# SPDX-License-Identifier: Apache-2.0
"""How many shards each host gets: by weight to within one shard, and within its limit. Pure."""

from collections.abc import Mapping
from types import MappingProxyType

from discluster.master.placement.capacity import Capacity

_NONE: Mapping[str, int] = MappingProxyType({})


def quotas(
    count: int, capacity: Capacity, have: Mapping[str, int], pinned: Mapping[str, int] = _NONE
) -> dict[str, int]:
    """Number of shards by host; together fewer than ``count`` if they do not fit.

    ``have``: how many each host has. ``pinned``: how many of these came from failed clusters. A
    host that is above its share on their account gives nothing away for it, and nobody else does
    to fill the place that they left.
    """
    rooms = capacity.rooms
    quota = dict.fromkeys(rooms, 0) | _with_pinned(count, capacity, have, pinned)
    for weights in (capacity.reserve, capacity.last):
        rest = count - sum(quota.values())
        if rest:
            free = {host: rooms[host] - quota[host] for host in weights}
            above = {host: have.get(host, 0) - quota[host] for host in weights}
            for host, more in fill(rest, weights, free, above).items():
                quota[host] += more
    return quota


def _with_pinned(
    count: int, capacity: Capacity, have: Mapping[str, int], pinned: Mapping[str, int]
) -> dict[str, int]:
    weights, rooms = capacity.weights, capacity.rooms
    share = fill(count, weights, rooms, have)
    above = [host for host in sorted(pinned) if host in weights and have[host] > share[host]]
    if not above:
        return share
    total = sum(weights.values())
    # The share rounded up: which way it is rounded depends on what others have.
    most = {host: max(share[host], -(-count * weights[host] // total)) for host in above}
    held = {host: min(rooms[host], have[host], most[host] + pinned[host]) for host in above}
    extra = {host: max(0, number - share[host]) for host, number in held.items()}
    # It is taken off the shares of hosts that have less than theirs, so nobody gives it away.
    lack = {host: max(0, number - have.get(host, 0)) for host, number in share.items()}
    less = fill(sum(extra.values()), lack, lack, {})
    return {host: share[host] + extra.get(host, 0) - less[host] for host in share}


def fill(
    count: int, weights: Mapping[str, int], rooms: Mapping[str, int], have: Mapping[str, int]
) -> dict[str, int]:
    """Shares of ``count`` by weight; what a host has no room for is shared among the others."""
    quota = dict.fromkeys(weights, 0)
    free = {host: weight for host, weight in weights.items() if weight}
    rest = count
    while free:
        total = sum(free.values())
        exact = {host: divmod(rest * weight, total) for host, weight in free.items()}
        full = [host for host, (share, _) in exact.items() if share > rooms[host]]
        if not full:
            share = _rounded(rest, exact, rooms, have)
            if sum(share.values()) == rest:
                return quota | share
            full = [host for host in free if share[host] == rooms[host]]
        for host in full:
            quota[host] = rooms[host]
            rest -= rooms[host]
            del free[host]
    return quota


def _rounded(
    count: int,
    exact: Mapping[str, tuple[int, int]],
    rooms: Mapping[str, int],
    have: Mapping[str, int],
) -> dict[str, int]:
    """Shares rounded down, and what is left of ``count`` one by one. ``exact``: in whole and
    part.

    It goes to hosts with room that rounding took from, at most one each: first to those that would
    otherwise have to give a shard away, then by the size of what rounding took.
    """
    share = {host: whole for host, (whole, _) in exact.items()}
    first = sorted(
        (host for host, (whole, part) in exact.items() if part and whole < rooms[host]),
        key=lambda host: (have.get(host, 0) <= share[host], -exact[host][1], host),
    )
    for host in first[: count - sum(share.values())]:
        share[host] += 1
    return share
