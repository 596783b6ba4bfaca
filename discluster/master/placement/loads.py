# SPDX-License-Identifier: Apache-2.0
"""Placing by what shards cost, guilds or load, instead of by their number. Pure.

Homeless shards go to the least loaded host, the costliest first. A shard that has a place moves
only to relieve a host that is above its share, or to fill one that is below it, and then the
costliest that fits, so that few move. Where a host is full, or no single shard fits, a costly one
changes places with a cheaper one.
"""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterable, Iterator, Mapping
from math import inf

import msgspec

_ROUNDS = 10


def placed(
    homeless: Iterable[int],
    rooms: Mapping[str, int],
    weights: Mapping[str, float],
    loads: Mapping[str, float],
    costs: Mapping[int, float],
) -> dict[str, list[int]]:
    """``homeless`` shards by the host that gets them, until all ``rooms`` are taken."""
    free = {host: room for host, room in rooms.items() if room > 0 and weights.get(host)}
    queue = [(loads.get(host, 0.0) / weights[host], host) for host in free]
    heapq.heapify(queue)
    given: dict[str, list[int]] = {host: [] for host in free}
    for shard in sorted(homeless, key=lambda shard: (-costs[shard], shard)):
        if not queue:
            break
        load, host = queue[0]
        given[host].append(shard)
        free[host] -= 1
        if free[host]:
            heapq.heapreplace(queue, (load + costs[shard] / weights[host], host))
        else:
            heapq.heappop(queue)
    return given


class Exchange(msgspec.Struct, frozen=True):
    """``shard`` goes from ``source`` to ``target``, and ``back``, if any, the other way."""

    source: str
    target: str
    shard: int
    back: int | None = None


class Scales:
    """What the hosts carry while shards are moved to and fro."""

    def __init__(
        self,
        homes: Mapping[str, Iterable[int]],
        fixed: Collection[int],
        *,
        shares: Mapping[str, float],
        rooms: Mapping[str, int],
        costs: Mapping[int, float],
    ) -> None:
        """``homes``: shards by host; those in ``fixed`` stay. ``shares``: of all costs, by host;
        only these hosts give and take.
        """
        every = {host: list(homes.get(host, ())) for host in sorted(shares) if shares[host] > 0}
        self._costs = costs
        self._shares = shares
        self._loads = {host: sum(costs[s] for s in every[host]) for host in every}
        self._over = {host: self._loads[host] / shares[host] for host in every}
        self._free = {host: rooms[host] - len(every[host]) for host in every}
        self._movable = {
            host: sorted((costs[s], s) for s in every[host] if s not in fixed) for host in every
        }
        number = sum(map(len, every.values()))
        # Half a shard more or less is as near to a share as whole shards come.
        self._grain = sum(self._loads.values()) / number / 2 if number else 0.0
        self.moves: list[Exchange] = []

    def homes(self, before: Mapping[str, list[int]]) -> dict[str, list[int]]:
        """``before``, after all moves."""
        where = {shard: host for host, shards in before.items() for shard in shards}
        for move in self.moves:
            where[move.shard] = move.target
            if move.back is not None:
                where[move.back] = move.source
        after: dict[str, list[int]] = {host: [] for host in before}
        for shard, host in where.items():
            after[host].append(shard)
        return after

    def even_out(self, tolerance: Mapping[str, float]) -> None:
        """Brings the hosts in ``tolerance`` to within that part of their shares."""
        for _ in range(_ROUNDS):
            before = len(self.moves)
            ranked = sorted((h for h in tolerance if h in self._over), key=self._rank, reverse=True)
            for host in ranked:
                self._relieve(host, tolerance[host])
            for host in reversed(ranked):
                self._supply(host, tolerance[host])
            if len(self.moves) == before:
                return

    def _rank(self, host: str) -> tuple[float, str]:
        return self._over[host], host

    def _excess(self, host: str) -> float:
        return self._loads[host] - self._shares[host]

    def _relieve(self, host: str, tolerance: float) -> None:
        slack = max(self._shares[host] * tolerance, self._grain)
        while self._excess(host) > slack:
            found = (exchange for h in self._takers() if (exchange := self._exchange(host, h)))
            exchange = next(found, None)
            if exchange is None:
                return
            self._do(exchange)

    def _takers(self) -> Iterator[str]:
        """Hosts below their shares, the least loaded first."""
        # Nearly always the first one will do, and sorting them all takes long.
        first = min(self._over, key=self._over.__getitem__)
        if self._over[first] < 1:
            yield first
            yield from sorted((h for h in self._over if self._over[h] < 1), key=self._rank)[1:]

    def _supply(self, host: str, tolerance: float) -> None:
        slack = max(self._shares[host] * tolerance, self._grain)
        while -self._excess(host) > slack:
            most = max(self._over, key=self._over.__getitem__)
            exchange = self._exchange(most, host) if self._excess(most) > 0 else None
            if exchange is None:
                return
            self._do(exchange)

    def _exchange(self, source: str, target: str) -> Exchange | None:
        """What brings both nearer to their shares."""
        gap = min(self._excess(source), -self._excess(target))
        single = self._single(source, target, gap) if self._free[target] > 0 else None
        return single or self._swap(source, target, gap)

    def _single(self, source: str, target: str, gap: float) -> Exchange | None:
        movable = self._movable[source]
        at = bisect_right(movable, (gap, inf))
        if at:
            return Exchange(source, target, movable[at - 1][1])
        if movable and self._helps(source, target, movable[0][0]):
            return Exchange(source, target, movable[0][1])
        return None

    def _helps(self, source: str, target: str, cost: float) -> bool:
        """Whether the target is less above its share then than the source is now, and neither is
        further off than the worse of the two.
        """
        excess, lack = self._over[source] - 1, 1 - self._over[target]
        above = cost / self._shares[target] - lack
        below = cost / self._shares[source] - excess
        return above < excess and below < max(excess, lack)

    def _swap(self, source: str, target: str, gap: float) -> Exchange | None:
        """The one that makes up for most of the gap, if it is worth two moves."""
        worth = min(gap / 2, self._grain)
        theirs = self._movable[target]
        best: tuple[float, Exchange] | None = None
        for cost, shard in self._movable[source]:
            at = bisect_left(theirs, (cost - gap, -1))
            gain = cost - theirs[at][0] if at < len(theirs) else 0.0
            if gain >= worth and (best is None or gain > best[0]):
                best = gain, Exchange(source, target, shard, theirs[at][1])
        return best[1] if best else None

    def _do(self, exchange: Exchange) -> None:
        self._move(exchange.shard, exchange.source, exchange.target)
        if exchange.back is not None:
            self._move(exchange.back, exchange.target, exchange.source)
        self.moves.append(exchange)

    def _move(self, shard: int, source: str, target: str) -> None:
        cost = self._costs[shard]
        del self._movable[source][bisect_left(self._movable[source], (cost, shard))]
        insort(self._movable[target], (cost, shard))
        for host, change in ((source, -cost), (target, cost)):
            self._loads[host] += change
            self._over[host] = self._loads[host] / self._shares[host]
        self._free[source] += 1
        self._free[target] -= 1
