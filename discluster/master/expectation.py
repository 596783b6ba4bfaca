# SPDX-License-Identifier: Apache-2.0
"""Which hosts MASTER plans for, and which it still waits for. Pure."""

from collections.abc import Collection, Mapping

import msgspec

from discluster.master.planner import HostNeed
from discluster.master.settings import HostSettings, MasterSettings
from discluster.plan import FleetPlan


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the hosts at one instant. ``removed``: those that the operator took out of
    the fleet.

    ``patient``: whether hosts that are not there are waited for; ``until``: when that ends, in
    words.
    """

    fleet: FleetPlan | None
    configured: Collection[str]
    connected: Collection[str]
    unattended: Collection[str]
    removed: frozenset[str] = frozenset()
    patient: bool
    until: str

    @property
    def expected(self) -> frozenset[str]:
        """Hosts that should be there."""
        if self.fleet is None:
            return frozenset(self.configured) - self.removed
        lost = {host for host, away in self.fleet.away.items() if away.state == "lost"}
        return frozenset(self.fleet.hosts.keys() - lost - self.removed)

    @property
    def missing(self) -> list[str]:
        """Hosts that are still waited for."""
        missing = self.expected.difference(self.connected, self.unattended)
        return sorted(missing) if self.patient else []

    def obstacle(self, discord: str | None) -> str | None:
        """Why nothing is planned now, in words. ``discord``: what is waited for there."""
        if missing := self.missing:
            return f"waiting for {', '.join(missing)}, until {self.until} at the latest"
        if self.fleet is not None:
            return None
        if not self.connected:
            return "waiting for the first host to connect"
        if not self.expected and self.patient:
            return (
                f"waiting for hosts until {self.until}: master.yaml does not list the hosts to"
                " expect"
            )
        return discord


def host_needs(
    settings: MasterSettings,
    fleet: FleetPlan | None,
    connected: Collection[str],
    leaving: Collection[str] = (),
) -> dict[str, HostNeed]:
    """All hosts that are connected, those that have shards already, which they keep without getting
    more, and those that are lost. One that is ``leaving``, or that does not reach Discord, is
    planned for like one that is drained.
    """
    planned = fleet.hosts if fleet is not None else {}
    away = fleet.away if fleet is not None else {}
    with_clusters = {host for host, entry in planned.items() if entry.clusters}
    lost = {host for host, told in away.items() if told.state == "lost"}
    unfit = {host for host, told in away.items() if told.state == "unfit"}
    needs = {}
    for name in sorted({*connected, *with_clusters, *lost}):
        own = settings.hosts.get(name) or HostSettings()
        goes = name in leaving or name in unfit
        needs[name] = HostNeed(
            weight=own.weight,
            shards_per_cluster=own.shards_per_cluster or settings.shards_per_cluster,
            in_touch=name in connected,
            max_shards=own.max_shards,
            standby=own.standby,
            state="lost" if name in lost else "draining" if goes else "eligible",
        )
    return needs


def nothing_to_wait_for(
    host: str, expectation: Expectation, needs: Mapping[str, HostNeed], leaving: Collection[str]
) -> bool:
    """Whether a host that said goodbye may go: it is not ``leaving`` with its clusters, or it owns
    no shard any more, or nobody can take what it owns.
    """
    fleet = expectation.fleet
    if host not in leaving or fleet is None:
        return True
    if all(grant.host != host for grant in fleet.granted.values()):
        return True
    takers = any(
        name in needs and needs[name].weight > 0 and needs[name].state == "eligible"
        for name in expectation.connected
    )
    return not takers or bool(expectation.missing)
