# SPDX-License-Identifier: Apache-2.0
"""What lies between a fleet's plan and another target, shard by shard, in words. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping

from discluster.console import PlanChange, PlanDiff
from discluster.plan import FleetPlan, HostEntry


def describe_changes(fleet: FleetPlan, target: Mapping[str, HostEntry]) -> PlanDiff:
    """The moves from the plan in force to ``target``, each with its reason."""
    before = fleet.targets()
    after = {
        shard: (host, number)
        for host, entry in target.items()
        for number, cluster in entry.clusters.items()
        for shard in cluster.shards
    }
    changes = tuple(
        PlanChange(
            shard=shard,
            source=before.get(shard),
            target=after.get(shard),
            reason=_reason(before.get(shard), after.get(shard), fleet.hosts, target),
        )
        for shard in sorted(before.keys() | after.keys())
        if before.get(shard) != after.get(shard)
    )
    return PlanDiff(
        generation=fleet.generation,
        summary=_summary(changes),
        changes=changes,
        pending=_pending(fleet),
    )


def describe_reason(
    before: FleetPlan | None, after: FleetPlan, *, leaving: Collection[str] = ()
) -> str:
    """Why ``after`` was planned, in words. ``leaving``: hosts whose clusters are being stopped."""
    if before is None:
        return f"first plan, for {', '.join(sorted(after.hosts))}"
    told = []
    if new := sorted(after.hosts.keys() - before.hosts.keys()):
        told.append(f"{', '.join(new)} joined")
    if down := sorted(h for h in leaving if h in before.hosts and before.hosts[h].weight > 0):
        told.append(f"{', '.join(down)} {'goes' if len(down) == 1 else 'go'} down")
    if gone := sorted(before.hosts.keys() - after.hosts.keys()):
        told.append(f"{', '.join(gone)} left")
    if before.gateway_url != after.gateway_url:
        told.append(f"the gateway is {after.gateway_url} now")
    if before.max_concurrency != after.max_concurrency:
        told.append(f"max_concurrency is {after.max_concurrency} now")
    return "; ".join(told) or "weights or cluster sizes changed"


def _summary(changes: tuple[PlanChange, ...]) -> str:
    if not changes:
        return "nothing would change"
    moves = Counter(
        (c.source[0] if c.source else "nowhere", c.target[0] if c.target else "nowhere")
        for c in changes
    )
    regrouped = sum(count for (source, target), count in moves.items() if source == target)
    told = [f"{n} from {s} to {t}" for (s, t), n in sorted(moves.items()) if s != t]
    if regrouped:
        told.append(f"{regrouped} to another cluster of the same host")
    return f"{len(changes)} shards would move: {', '.join(told)}"


def _reason(
    source: tuple[str, int] | None,
    target: tuple[str, int] | None,
    before: Mapping[str, HostEntry],
    after: Mapping[str, HostEntry],
) -> str:
    if target is None:
        return "the shard does not exist any more"
    if source is None:
        return "the shard has no host yet"
    if source[0] == target[0]:
        size = after[target[0]].shards_per_cluster
        return f"clusters of {target[0]} take {size} shards"
    if source[0] not in after or after[source[0]].weight == 0:
        return f"{source[0]} gets no shards any more"
    if target[0] not in before or not before[target[0]].clusters:
        return f"{target[0]} joined and takes its share"
    return f"{target[0]}'s share by weight grew"


def _pending(fleet: FleetPlan) -> tuple[str, ...]:
    """Moves that are decided already and wait for the old host to let go."""
    targets = fleet.targets()
    waiting = Counter(
        (grant.host, targets[shard][0])
        for shard, grant in fleet.granted.items()
        if shard in targets and grant.host != targets[shard][0]
    )
    return tuple(
        f"{count} shards on their way from {source} to {target}: {source} has not released them yet"
        for (source, target), count in sorted(waiting.items())
    )
