# SPDX-License-Identifier: Apache-2.0
"""Watches what hosts carry, and says when shards should move for it: the shell around
:mod:`discluster.master.placement.balance`.

What was measured is averaged over a sixth of ``rebalance_pause``, so that neither a busy minute nor
noise moves anything. Between two moves for load, and from MASTER's start to the first, lies a whole
pause.
"""

from collections.abc import Collection, Mapping
from math import exp
from typing import Final

import msgspec

from discluster.clock import Clock
from discluster.master.placement.balance import (
    Balanced,
    averaged,
    complete,
    events_of,
    excess,
    guild_costs,
    load_costs,
    worthwhile,
)
from discluster.master.planner import HostNeed, Target, plan_fleet
from discluster.master.settings import MasterSettings
from discluster.messages import HostReport
from discluster.plan import FleetPlan

_WINDOWS: Final = 6
_LOOKS: Final = 10  # in one window


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A target that is worth its moves, and why, in words."""

    target: Target
    reason: str


class Balancer:
    """One for MASTER's life; a change of ``balance`` begins anew."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._moved_at = clock.monotonic()
        self._balance: Balanced = "shards"
        self._known: dict[int, float] = {}
        self._events: dict[int, int] = {}
        self._looked_at: float | None = None
        self._fresh = False

    def observe(self, settings: MasterSettings, reports: Collection[HostReport]) -> None:
        """Takes the newest reports in, when it is time to look."""
        if settings.balance != self._balance:
            self._balance, self._known, self._events = settings.balance, {}, {}
            self._looked_at = None
        window = settings.rebalance_pause / _WINDOWS
        now = self._clock.monotonic()
        since = None if self._looked_at is None else now - self._looked_at
        if self._balance == "shards" or (since is not None and since < window / _LOOKS):
            return
        part = 1.0 if since is None else 1 - exp(-since / window)
        self._known = averaged(self._known, self._measured(reports), part)
        self._looked_at, self._fresh = now, True

    def _measured(self, reports: Collection[HostReport]) -> dict[int, float]:
        if self._balance == "guilds":
            return guild_costs(reports)
        costs = load_costs(reports, self._events)
        self._events = events_of(reports)
        return costs

    def costs(self, settings: MasterSettings, shard_count: int) -> dict[int, float] | None:
        """Of every shard; None where their number is balanced. With nothing known all cost alike,
        so that a MASTER that has just started moves nothing for it.
        """
        if settings.balance == "shards":
            return None
        known = self._known if settings.balance == self._balance else {}
        return complete(known, shard_count)

    def proposal(
        self, settings: MasterSettings, fleet: FleetPlan, hosts: Mapping[str, HostNeed]
    ) -> Proposal | None:
        """A better target for a fleet at rest, at most one for each look."""
        costs = self.costs(settings, fleet.shard_count)
        rested = self._clock.monotonic() - self._moved_at >= settings.rebalance_pause
        if costs is None or not rested or not self._fresh:
            return None
        self._fresh = False
        if not _is_at_rest(fleet, hosts):
            return None
        gain = settings.rebalance_gain
        if max(excess(fleet.hosts, hosts, costs).values(), default=0.0) < gain:
            return None
        target = plan_fleet(
            fleet.shard_count,
            hosts,
            fleet.hosts,
            max_concurrency=fleet.max_concurrency,
            costs=costs,
            # Half of it is left, so that what is adopted is not at the edge again at once.
            even=gain / 2,
            failed=fleet.failed,
        )
        verdict = worthwhile(
            fleet.hosts, target.hosts, hosts, costs, gain=gain, balance=settings.balance
        )
        return Proposal(target=target, reason=verdict.reason) if verdict.adopt else None

    def moved(self) -> None:
        """Shards were moved for their load just now."""
        self._moved_at = self._clock.monotonic()


def _is_at_rest(fleet: FleetPlan, hosts: Mapping[str, HostNeed]) -> bool:
    """Everybody with shards is there, and no shard is on its way."""
    present = all(
        host in hosts and hosts[host].in_touch and hosts[host].state != "lost"
        for host, entry in fleet.hosts.items()
        if entry.clusters
    )
    targets = fleet.targets()
    return present and all(
        shard in fleet.granted
        and fleet.granted[shard].host == host
        and fleet.granted[shard].withdrawn is None
        for shard, (host, _) in targets.items()
    )
