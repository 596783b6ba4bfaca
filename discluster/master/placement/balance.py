# SPDX-License-Identifier: Apache-2.0
"""What shards cost, from what hosts report, and whether it pays to move some for it. Pure.

A cost says how much of its host a shard takes, relative to other shards; only their proportions
count. By ``guilds`` it is the number of guilds on the shard. By ``load`` it is three parts CPU time
and one part memory, each relative to the fleet's average shard: a host that is short of CPU delays
events at once, while memory grows with CPU, and slowly. The CPU time of a cluster is spread over
its shards by the events that each brought since the last look, its memory evenly. Where the CPU
time is not known, the rate of events stands in for it.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from discluster.master.placement.capacity import HostNeed, capacity
from discluster.messages import ClusterView, HostReport
from discluster.plan import HostEntry

Balanced = Literal["shards", "guilds", "load"]

_CPU: Final = 0.75
_MEMORY: Final = 0.25
# Even an idle shard is a connection with a buffer.
_LEAST: Final = 0.05


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a better target is adopted, and why, in words."""

    adopt: bool
    reason: str


def guild_costs(reports: Iterable[HostReport]) -> dict[int, float]:
    """Guilds by shard, where they are known."""
    return {
        shard.shard: float(max(1, shard.guilds))
        for report in reports
        for cluster in report.clusters
        for shard in cluster.shards
        if shard.guilds is not None
    }


def events_of(reports: Iterable[HostReport]) -> dict[int, int]:
    """Events that each shard brought since it is where it is."""
    return {
        shard.shard: shard.events
        for report in reports
        for cluster in report.clusters
        for shard in cluster.shards
    }


def load_costs(reports: Iterable[HostReport], earlier: Mapping[int, int]) -> dict[int, float]:
    """Load by shard, 1 for the average one, where it is known. ``earlier``: :func:`events_of` the
    reports before.
    """
    running = [cluster for report in reports for cluster in report.clusters if cluster.shards]
    cpu = _relative({view.cluster: view.cpu for view in running}, running)
    rate = _relative({view.cluster: view.event_rate for view in running}, running)
    memory = _relative({view.cluster: view.memory for view in running}, running)
    costs: dict[int, float] = {}
    for view in running:
        busy = cpu.get(view.cluster, rate.get(view.cluster))
        size = memory.get(view.cluster)
        if busy is None and size is None:
            continue
        number = len(view.shards)
        for shard, part in _parts(view, earlier).items():
            parts = [
                (_CPU, busy * part * number) if busy is not None else (0.0, 0.0),
                (_MEMORY, size) if size is not None else (0.0, 0.0),
            ]
            known = sum(weight for weight, _ in parts)
            costs[shard] = max(_LEAST, sum(weight * cost for weight, cost in parts) / known)
    return costs


def _relative(
    values: Mapping[int, float | None], running: Iterable[ClusterView]
) -> dict[int, float]:
    """What a shard of each cluster takes, relative to the average shard of all known clusters."""
    sizes = {view.cluster: len(view.shards) for view in running}
    known = {cluster: value for cluster, value in values.items() if value is not None}
    total = sum(known.values())
    if total <= 0:
        return {}
    average = total / sum(sizes[cluster] for cluster in known)
    return {cluster: value / sizes[cluster] / average for cluster, value in known.items()}


def _parts(view: ClusterView, earlier: Mapping[int, int]) -> dict[int, float]:
    """Which part of the cluster's CPU time each of its shards takes."""
    recent = {s.shard: s.events - earlier[s.shard] for s in view.shards if s.shard in earlier}
    # A count that went back began anew: the shard came from elsewhere.
    sound = {shard: number for shard, number in recent.items() if number >= 0}
    if not sum(sound.values()):
        return {shard.shard: 1 / len(view.shards) for shard in view.shards}
    usual = sum(sound.values()) / len(sound)
    events = {shard.shard: sound.get(shard.shard, usual) for shard in view.shards}
    total = sum(events.values())
    return {shard: number / total for shard, number in events.items()}


def averaged(
    before: Mapping[int, float], now: Mapping[int, float], part: float
) -> dict[int, float]:
    """``before``, brought that ``part`` of the way towards ``now``."""
    moved = {
        shard: before[shard] + part * (now[shard] - before[shard]) for shard in before & now.keys()
    }
    return {**before, **now, **moved}


def complete(known: Mapping[int, float], shard_count: int) -> dict[int, float]:
    """A cost for every shard: for those that are not known the average of those that are."""
    inside = {shard: cost for shard, cost in known.items() if shard < shard_count}
    usual = sum(inside.values()) / len(inside) if inside else 1.0
    return dict.fromkeys(range(shard_count), usual) | inside


def excess(
    layout: Mapping[str, HostEntry], hosts: Mapping[str, HostNeed], costs: Mapping[int, float]
) -> dict[str, float]:
    """By what part of its share each host is above it (negative: below)."""
    load = {
        host: sum(costs[shard] for cluster in entry.clusters.values() for shard in cluster.shards)
        for host, entry in layout.items()
    }
    weights = capacity(0, hosts, {}).weights
    total, everything = sum(weights.values()), sum(load.values())
    shares = {host: everything * (weight / total) for host, weight in weights.items() if weight}
    return {host: load.get(host, 0.0) / share - 1 for host, share in shares.items() if share}


def worthwhile(
    before: Mapping[str, HostEntry],
    after: Mapping[str, HostEntry],
    hosts: Mapping[str, HostNeed],
    costs: Mapping[int, float],
    *,
    gain: float,
    balance: Balanced = "load",
) -> Verdict:
    """Whether ``after`` takes at least ``gain`` of its share off the host that is furthest above
    its share in ``before``.
    """
    was, then = excess(before, hosts, costs), excess(after, hosts, costs)
    if not was or not then:
        return Verdict(adopt=False, reason="no host has a share")
    worst = max(was, key=lambda host: (was[host], host))
    most = max(then.values())
    carries = f"{worst} carries {_percent(was[worst])} more than its share of the {balance}"
    number = _moves(before, after)
    moves = "1 shard" if number == 1 else f"{number} shards"
    if was[worst] - most < gain:
        reason = f"{carries}; moving {moves} would leave a host with {_percent(most)} more"
        return Verdict(adopt=False, reason=reason)
    left = f"{_percent(max(0.0, most))} more than its share"
    return Verdict(adopt=True, reason=f"{carries}; with {moves} moved no host has over {left}")


def _percent(part: float) -> str:
    return f"{part:.0%}".replace("%", " %")


def _moves(before: Mapping[str, HostEntry], after: Mapping[str, HostEntry]) -> int:
    where = {
        shard: host
        for host, entry in before.items()
        for cluster in entry.clusters.values()
        for shard in cluster.shards
    }
    return sum(
        where.get(shard, host) != host
        for host, entry in after.items()
        for cluster in entry.clusters.values()
        for shard in cluster.shards
    )
