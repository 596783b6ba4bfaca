# SPDX-License-Identifier: Apache-2.0
"""What lies between a fleet's plan and another target, shard by shard, in words. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from discluster.console import PlanChange, PlanDiff
from discluster.master.orders.orders import Orders
from discluster.master.planner import HostNeed
from discluster.plan import FleetPlan, HostEntry

# Hosts, or pairs of hosts, that a sentence names; of more it says the sum.
MANY: Final = 8
_NOTHING: Mapping[str, str] = MappingProxyType({})


def departures(
    needs: Mapping[str, HostNeed],
    known: Collection[str],
    *,
    orders: Orders,
    leaving: Collection[str] = (),
) -> dict[str, str]:
    """Hosts that shall have no shards, and why, in words. ``known``: hosts of the plan in force.
    ``leaving``: hosts whose clusters are being stopped.
    """
    told = {}
    for host in sorted({*needs, *known}):
        need = needs.get(host)
        if host in orders.lost:
            told[host] = f"{host} is off, as the operator says"
        elif need is None:
            told[host] = f"{host} was removed" if host in orders.removed else f"{host} left"
        elif need.state == "lost":
            told[host] = f"{host} is lost"
        elif host in leaving:
            told[host] = f"{host} goes down"
        elif host in orders.drained:
            told[host] = f"{host} is drained"
        elif need.state == "draining":
            told[host] = f"{host} does not reach Discord"
        elif need.weight == 0:
            told[host] = f"the weight of {host} is 0"
    return told


def describe_changes(
    fleet: FleetPlan,
    target: Mapping[str, HostEntry],
    *,
    departed: Mapping[str, str] = _NOTHING,
    notes: Iterable[str] = (),
) -> PlanDiff:
    """The moves from the plan in force to ``target``, each with its reason. ``departed``: as
    :func:`departures` has it. ``notes``: the planner's.
    """
    changes = _changes(fleet, target, departed)
    return PlanDiff(
        generation=fleet.generation,
        summary=_summary(changes),
        changes=changes,
        pending=_pending(fleet),
        notes=tuple(notes),
    )


def describe_reason(
    before: FleetPlan | None,
    after: FleetPlan,
    *,
    departed: Mapping[str, str] = _NOTHING,
    departed_before: Mapping[str, str] = _NOTHING,
) -> str:
    """Why ``after`` was planned, in words. ``departed_before``: when ``before`` was planned."""
    if before is None:
        return f"first plan, for {listed(after.hosts)}"
    told = []
    if new := after.hosts.keys() - before.hosts.keys():
        told.append(f"{listed(new)} joined")
    told += _gone(
        {
            host: words
            for host, words in departed.items()
            if departed_before.get(host) != words and _has_shards(before, host)
        }
    )
    if back := sorted(departed_before.keys() & after.hosts.keys() - departed.keys() - {*new}):
        told.append(f"{listed(back)} can have shards again")
    if gone := sorted(before.hosts.keys() - after.hosts.keys() - departed.keys()):
        told.append(f"{listed(gone)} left")
    if given_up := sorted(after.failed.keys() - before.failed.keys()):
        told.append(f"cluster {', '.join(map(str, given_up))} failed")
    if before.gateway_url != after.gateway_url:
        told.append(f"the gateway is {after.gateway_url} now")
    if before.max_concurrency != after.max_concurrency:
        told.append(f"max_concurrency is {after.max_concurrency} now")
    return "; ".join(told) or "weights, limits or cluster sizes changed"


def listed(hosts: Collection[str]) -> str:
    """By name, if they are few."""
    return ", ".join(sorted(hosts)) if len(hosts) <= MANY else f"{len(hosts)} hosts"


def few(told: Sequence[str]) -> list[str]:
    """The first ones, and how many more there are."""
    more = len(told) - MANY
    return [*told[:MANY], *([f"and {more} more"] if more > 0 else [])]


def _gone(departed: Mapping[str, str]) -> list[str]:
    """A sentence for each host, or one for all to whom the same happened."""
    if len(departed) <= MANY:
        return list(departed.values())
    alike = Counter(words.replace(host, "a host", 1) for host, words in departed.items())
    return [f"{words} ({count} times)" for words, count in sorted(alike.items())]


def moves_in_words(before: FleetPlan | None, after: FleetPlan) -> str:
    """What moved from one plan to the next: ``4 shards from a to b``; empty if nothing."""
    if before is None:
        return f"{len(after.targets())} shards placed"
    counted = _counted(_changes(before, after.hosts, _NOTHING))
    return f"moves {', '.join(counted)}" if counted else ""


def _changes(
    fleet: FleetPlan, target: Mapping[str, HostEntry], departed: Mapping[str, str]
) -> tuple[PlanChange, ...]:
    before = fleet.targets()
    after = {
        shard: (host, number)
        for host, entry in target.items()
        for number, cluster in entry.clusters.items()
        for shard in cluster.shards
    }
    return tuple(
        PlanChange(
            shard=shard,
            source=before.get(shard),
            target=after.get(shard),
            reason=_reason(before.get(shard), after.get(shard), fleet, target, departed),
        )
        for shard in sorted(before.keys() | after.keys())
        if before.get(shard) != after.get(shard)
    )


def _summary(changes: tuple[PlanChange, ...]) -> str:
    if not changes:
        return "nothing would change"
    return f"{_shards(len(changes))} would move: {', '.join(_counted(changes))}"


def _counted(changes: Iterable[PlanChange]) -> list[str]:
    moves = Counter(
        (c.source[0] if c.source else "nowhere", c.target[0] if c.target else "nowhere")
        for c in changes
    )
    regrouped = sum(count for (source, target), count in moves.items() if source == target)
    moved = {pair: n for pair, n in sorted(moves.items()) if pair[0] != pair[1]}
    if len(moved) > MANY:
        sources, targets = ({pair[side] for pair in moved} for side in (0, 1))
        moved = {(listed(sources), listed(targets)): sum(moved.values())}
    told = [f"{n} from {s} to {t}" for (s, t), n in moved.items()]
    if regrouped:
        told.append(f"{regrouped} to another cluster of the same host")
    return told


def _reason(
    source: tuple[str, int] | None,
    target: tuple[str, int] | None,
    fleet: FleetPlan,
    after: Mapping[str, HostEntry],
    departed: Mapping[str, str],
) -> str:
    before = fleet.hosts
    if source is None:
        return "the shard has no host yet"
    if target is None:
        return f"{departed.get(source[0], source[0] + ' is full')}, and no host can take the shard"
    if source[1] in fleet.failed:
        return f"cluster {source[1]} on {source[0]} failed"
    if source[0] == target[0]:
        size = after[target[0]].shards_per_cluster
        return f"clusters of {target[0]} take {size} shards"
    if source[0] in departed:
        return departed[source[0]]
    if source[0] not in after or after[source[0]].weight == 0:
        return f"{source[0]} gets no shards any more"
    if target[0] not in before:
        return f"{target[0]} joined and takes its share"
    if not before[target[0]].clusters:
        return f"{target[0]} takes its share"
    if before[target[0]].weight != after[target[0]].weight:
        return f"{target[0]}'s share by weight grew"
    return f"evens out {source[0]} and {target[0]}"


def _pending(fleet: FleetPlan) -> tuple[str, ...]:
    """Moves that are decided already and wait for the old host to let go."""
    targets = fleet.targets()
    waiting = Counter(
        (grant.host, targets[shard][0])
        for shard, grant in fleet.granted.items()
        if shard in targets and grant.host != targets[shard][0]
    )
    return tuple(
        f"{_shards(count)} on {'its' if count == 1 else 'their'} way from {source} to {target}:"
        f" {source} has not released {'it' if count == 1 else 'them'} yet"
        for (source, target), count in sorted(waiting.items())
    )


def _has_shards(plan: FleetPlan, host: str) -> bool:
    return host in plan.hosts and bool(plan.hosts[host].clusters)


def _shards(count: int) -> str:
    return f"{count} shard{'s' * (count != 1)}"
