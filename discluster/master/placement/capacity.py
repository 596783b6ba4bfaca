# SPDX-License-Identifier: Apache-2.0
"""What each host can take: its weight in force, its limit, and when standby hosts are called. Pure.

Hosts are filled in three steps. First those with a weight, among them as many standby hosts as it
takes to stand in for the weight that was lost. What does not fit there goes to all standby hosts;
what does not fit there either stays on hosts that are being drained.
"""

from collections.abc import Mapping
from functools import reduce
from math import gcd, lcm
from typing import Literal

import msgspec

HostState = Literal["eligible", "draining", "lost"]


class HostNeed(msgspec.Struct, frozen=True, kw_only=True):
    """A host to plan for. ``in_touch``: it may get more than it has. ``max_shards``: its limit.
    ``standby``: it gets shards only when others are lost or full. ``state``: one that is draining,
    or has ``weight`` 0, keeps only what fits nowhere else; one that is lost has nothing, and its
    weight says how much standby hosts take over.
    """

    weight: float = 1.0
    shards_per_cluster: int = 16
    in_touch: bool = True
    max_shards: int | None = None
    standby: bool = False
    state: HostState = "eligible"

    @property
    def empties(self) -> bool:
        """It is there, and its shards shall go elsewhere."""
        return self.state == "draining" or (self.state == "eligible" and self.weight == 0)

    @property
    def takes(self) -> bool:
        """It is there to have shards, now or, on standby, when others are lost."""
        return self.state == "eligible" and self.weight > 0


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """``weights``, ``reserve``, ``last``: what the three steps share out by, in whole numbers.
    ``rooms``: how many shards each host may have.
    """

    weights: dict[str, int]
    reserve: dict[str, int]
    last: dict[str, int]
    rooms: dict[str, int]


def capacity(shard_count: int, hosts: Mapping[str, HostNeed], have: Mapping[str, int]) -> Capacity:
    """``have``: how many shards each host has."""
    takers = {host: need for host, need in hosts.items() if need.takes}
    whole = _whole(
        {host: need.weight for host, need in hosts.items() if need.takes or need.state == "lost"}
    )
    standby = {host: whole[host] for host, need in takers.items() if need.standby}
    regular = {host: whole[host] for host, need in takers.items() if not need.standby}
    lost = sum(weight for host, weight in whole.items() if _is_missed(hosts[host]))
    return Capacity(
        weights=_with_standby(regular, standby, lost),
        reserve=standby,
        last={host: have.get(host, 0) for host, need in hosts.items() if need.empties},
        rooms={host: _room(need, have.get(host, 0), shard_count) for host, need in hosts.items()},
    )


def _room(need: HostNeed, have: int, shard_count: int) -> int:
    if need.state == "lost":
        return 0
    limit = shard_count if need.max_shards is None else need.max_shards
    return limit if need.in_touch and need.takes else min(limit, have)


def _is_missed(need: HostNeed) -> bool:
    return need.state == "lost" and not need.standby


def _with_standby(
    regular: Mapping[str, int], standby: Mapping[str, int], lost: int
) -> dict[str, int]:
    """Standby hosts count for the weight that was lost, at most for their own."""
    if not lost or not standby:
        return dict(regular)
    own = sum(standby.values())
    stand_in, everything = min(lost, own), own
    return {host: weight * everything for host, weight in regular.items()} | {
        host: weight * stand_in for host, weight in standby.items()
    }


def _whole(weights: Mapping[str, float]) -> dict[str, int]:
    """The same proportions in whole numbers: a share that is whole must not look as if rounding had
    taken something from it.
    """
    ratios = {host: weight.as_integer_ratio() for host, weight in weights.items()}
    common = lcm(*(denominator for _, denominator in ratios.values()))
    whole = {host: above * (common // below) for host, (above, below) in ratios.items()}
    divisor = reduce(gcd, whole.values(), 0) or 1
    return {host: weight // divisor for host, weight in whole.items()}
