# SPDX-License-Identifier: Apache-2.0
"""Each host's part of the fleet's plan. Pure."""

from collections import defaultdict

from discluster.master.identify.slots import identify_slots
from discluster.messages import HostReport
from discluster.plan import ClusterPlan, FleetPlan, Grant, HostPlan


class HostPlans:
    """The parts of one plan, made from one look at all shards."""

    def __init__(self, fleet: FleetPlan) -> None:
        self.fleet = fleet
        self._coming: dict[str, list[int]] = defaultdict(list)
        self._staying: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for shard in fleet.sessions:
            grant = fleet.granted.get(shard)
            if grant is not None and grant.withdrawn is None:
                self._coming[grant.host].append(shard)
        self._taken_from: set[str] = set()
        for shard, grant in fleet.granted.items():
            if grant.withdrawn is not None:
                self._taken_from.add(grant.host)
            elif grant.cluster is not None:
                self._staying[grant.host][grant.cluster].append(shard)

    def of(self, host: str) -> HostPlan:
        """What ``host`` may run now."""
        fleet = self.fleet
        clusters = self._clusters(host)
        mine = {shard for cluster in clusters.values() for shard in cluster.shards}
        coming = sorted(mine.intersection(self._coming.get(host, ())))
        return HostPlan(
            generation=fleet.generation,
            shard_count=fleet.shard_count,
            host=host,
            gateway_url=fleet.gateway_url,
            clusters=clusters,
            identify=identify_slots(fleet, host),
            handover={shard: fleet.sessions[shard] for shard in coming},
            since={shard: fleet.granted[shard].since for shard in coming},
            witnesses=fleet.witnesses,
        )

    def must_report(self, host: str, report: HostReport) -> bool:
        """Whether somebody waits until ``host`` has reported the newest generation, whatever is in
        its part: it gives up a shard, it is a witness of a host that does, or MASTER recovers.
        """
        fleet = self.fleet
        if host in self._taken_from:
            return True
        if fleet.recovery is not None and report.plan_generation < fleet.recovery.generation:
            return True
        lost = {name for name in self._taken_from if _is_lost(fleet, name)}
        # Any that was a witness is one for as long as the panel that came after is not everywhere.
        return bool(lost) and (
            host in fleet.witnesses or host in fleet.panel_before or host in report.panel
        )

    def _clusters(self, host: str) -> dict[int, ClusterPlan]:
        entry = self.fleet.hosts.get(host)
        planned = entry.clusters if entry is not None else {}
        staying = self._staying.get(host, {})
        clusters = {}
        for number in [*planned, *(n for n in staying if n not in planned)]:
            plan = planned.get(number)
            granted = self.fleet.granted
            shards = [s for s in plan.shards if is_with(granted.get(s), host)] if plan else []
            if shards := sorted({*shards, *staying.get(number, ())}):
                run = plan.run if plan is not None else 0
                clusters[number] = ClusterPlan(shards=tuple(shards), run=run)
        return clusters


def _is_lost(fleet: FleetPlan, host: str) -> bool:
    away = fleet.away.get(host)
    return away is not None and away.state == "lost"


def is_with(grant: Grant | None, host: str) -> bool:
    """Whether ``host`` may run the shard of this grant."""
    return grant is not None and grant.host == host and grant.withdrawn is None


def host_plan(fleet: FleetPlan, host: str) -> HostPlan:
    """The part of one host alone."""
    return HostPlans(fleet).of(host)
