# SPDX-License-Identifier: Apache-2.0
"""Where the shards of failed clusters go: together to a host where they did not fail. Pure."""

from collections.abc import Mapping, Sequence

from discluster.master.placement.capacity import Capacity, HostNeed
from discluster.master.placement.grouping import Group
from discluster.plan import Failed


def moved(
    groups: Mapping[str, Sequence[Group]],
    hosts: Mapping[str, HostNeed],
    can: Capacity,
    failed: Mapping[int, Failed],
) -> dict[str, list[Group]]:
    """``groups`` by host, with what failed, or has lost its host, at its new one.

    That is the least loaded host with room where none of these shards failed; without one they stay
    where they are. ``groups`` may name hosts that are not planned for.
    """
    places = {host: list(own) for host, own in groups.items()}
    load = {host: sum(len(group.shards) for group in own) for host, own in places.items()}
    for source in sorted(groups):
        for group in groups[source]:
            stays = can.weights.get(source) and not group.failed
            if group.kin is None or stays:
                continue
            avoid = {cluster.host for cluster in failed.values() if _shares(cluster, group)}
            target = _least_loaded(group, hosts, can, load, avoid)
            if target is not None:
                places[source].remove(group)
                places.setdefault(target, []).insert(0, group._replace(number=None, failed=False))
                load[source] -= len(group.shards)
                load[target] = load.get(target, 0) + len(group.shards)
    return places


def _shares(cluster: Failed, group: Group) -> bool:
    return not set(cluster.shards).isdisjoint(group.shards)


def _least_loaded(
    group: Group,
    hosts: Mapping[str, HostNeed],
    can: Capacity,
    load: Mapping[str, int],
    avoid: set[str],
) -> str | None:
    size = len(group.shards)
    able = [
        host
        for host, weight in can.weights.items()
        if weight
        and host not in avoid
        and hosts[host].in_touch
        and load.get(host, 0) + size <= can.rooms[host]
    ]
    key = {host: ((load.get(host, 0) + size) / can.weights[host], host) for host in able}
    return min(able, key=key.__getitem__, default=None)
