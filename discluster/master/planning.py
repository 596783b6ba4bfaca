# SPDX-License-Identifier: Apache-2.0
"""When MASTER plans anew, and from what: the shell around :mod:`discluster.master.planner`."""

import math
from collections.abc import Callable, Mapping

import msgspec

from discluster.console import PlanDiff
from discluster.errors import ConfigurationError
from discluster.master.adoption import adoption
from discluster.master.balancer import Balancer
from discluster.master.desk import DiscordDesk
from discluster.master.expectation import host_needs
from discluster.master.hosts.lost import forgotten
from discluster.master.orders.changes import (
    departures,
    describe_changes,
    describe_reason,
    moves_in_words,
)
from discluster.master.orders.orders import Orders, obeying
from discluster.master.outline import Outline, fingerprint, held, outline, settled
from discluster.master.ownership import Advance, retarget
from discluster.master.planner import HostNeed, Target, plan_fleet
from discluster.master.records.history import History
from discluster.master.settings import MasterSettings
from discluster.master.shared import Shared
from discluster.master.store import MasterStore
from discluster.plan import FleetPlan, HostEntry


class Planning:
    """Settings and orders in force, what the plan in force was made from, and the next one."""

    def __init__(
        self,
        shared: Shared,
        *,
        settings: MasterSettings,
        store: MasterStore,
        history: History,
        discord: DiscordDesk,
        settle: Callable[[FleetPlan], Advance],
    ) -> None:
        """``settle``: a new plan with its ownership brought up to date.

        Raises:
            StateError: the stored orders are damaged.
        """
        self._settings = settings
        self._store = store
        self._orders = store.orders()
        self._history = history
        self._discord = discord
        self._settle = settle
        self._events = shared.events
        self._book = shared.book
        self._clock = shared.clock
        self._fleet = shared.fleet
        self._waiting_for = shared.waiting_for
        self._adopt = shared.adopt
        self._balancer = Balancer(clock=shared.clock)
        self._planned_with: Outline | None = None
        self._departed: dict[str, str] = {}
        self._complaint = ""
        self._notes: tuple[str, ...] = ()
        self._old_leases_end = self._clock.monotonic() + self._orders.lease + settings.lease_margin
        self._remember_lease()

    @property
    def settings(self) -> MasterSettings:
        """Those in force; they change on a reload."""
        return self._settings

    @property
    def orders(self) -> Orders:
        """Those in force."""
        return self._orders

    @property
    def notes(self) -> tuple[str, ...]:
        """What does not fit into the plan in force, and what would help, in sentences."""
        return self._notes

    @property
    def longest_lease(self) -> float:
        """Seconds; what a host may go by that has not heard this MASTER: its predecessor may have
        told it a longer lease than the settings have now.
        """
        return max(self._orders.lease, self._settings.lease)

    def _remember_lease(self) -> None:
        """Before any host hears of a longer one, and when all that are longer have ended."""
        over = self._clock.monotonic() >= self._old_leases_end
        if over or self._settings.lease > self._orders.lease:
            self.obey(msgspec.structs.replace(self._orders, lease=self._settings.lease))

    def follow(self, settings: MasterSettings) -> None:
        """Takes new settings."""
        self._settings = settings
        self._history.keep = settings.history
        self._discord.follow(settings)

    def obey(self, orders: Orders) -> None:
        """Takes new orders, stored first."""
        if orders != self._orders:
            self._store.save_orders(orders)
            self._orders = orders

    def needs(
        self,
        *,
        settings: MasterSettings | None = None,
        orders: Orders | None = None,
        forgiven: str | None = None,
    ) -> dict[str, HostNeed]:
        """What is planned for each host, under these settings and orders or those in force.
        ``forgiven``: a host that counts as fit.
        """
        fleet = self._fleet()
        if fleet is not None and forgiven is not None:
            fleet = _forgiven(fleet, forgiven)
        chosen = settings or self._settings
        needs = host_needs(chosen, fleet, self._book.connected, self._book.leaving)
        return obeying(needs, orders or self._orders)

    def forgive(self, host: str) -> None:
        """Lets ``host`` count as fit again."""
        fleet = self._fleet()
        if fleet is not None and (after := _forgiven(fleet, host)) != fleet:
            self._adopt(after)

    def forget(self, host: str) -> None:
        """``host`` was removed from the fleet."""
        fleet = self._fleet()
        if fleet is not None and host in fleet.away:
            self._adopt(forgotten(fleet, host))

    def is_due(self, needs: dict[str, HostNeed], settings: MasterSettings) -> bool:
        """Whether MASTER would plan anew with these."""
        now = self._outline(needs, settings)
        return now is not None and not self._is_settled(now)

    @property
    def shard_count(self) -> int | None:
        """Of the fleet that runs, None before the first plan."""
        fleet = self._fleet()
        return fleet.shard_count if fleet is not None else None

    def planned(self) -> FleetPlan:
        """The plan in force.

        Raises:
            ConfigurationError: there is none yet.
        """
        fleet = self._fleet()
        if fleet is None:
            raise ConfigurationError(self._waiting_for() or "there is no plan yet", code="no-plan")
        return fleet

    def diff(self, settings: MasterSettings) -> PlanDiff:
        """What would change if MASTER planned now with ``settings``.

        Raises:
            ConfigurationError: there is no plan yet, or no host could take a shard.
        """
        needs = self.needs(settings=settings)
        return self.changes(needs, self.target(needs, settings=settings))

    def changes(
        self, needs: Mapping[str, HostNeed], target: Target, orders: Orders | None = None
    ) -> PlanDiff:
        """From the plan in force to ``target``, made from ``needs``, under ``orders`` or those in
        force.
        """
        departed = self._departures(needs, orders or self._orders)
        return describe_changes(self.planned(), target.hosts, departed=departed, notes=target.notes)

    def target(
        self,
        needs: dict[str, HostNeed],
        *,
        settings: MasterSettings | None = None,
        even: float | None = None,
    ) -> Target:
        """Where every shard shall be. ``even``: see :func:`plan_fleet`.

        Raises:
            ConfigurationError: there is no plan yet, or no host could take a shard.
        """
        hosts = self.planned().hosts
        return self._target(self._known_outline(needs, settings), hosts, settings, even)

    def completed(self, needs: Mapping[str, HostNeed], layout: Mapping[str, HostEntry]) -> Target:
        """``layout`` where the hosts can hold it, and its other shards elsewhere.

        Raises:
            ConfigurationError: no host could take a shard.
        """
        fleet = self.planned()
        # With costs the planner moves only what it must: nobody is uneven enough to give or take.
        costs = dict.fromkeys(range(fleet.shard_count), 1.0)
        return plan_fleet(
            fleet.shard_count,
            needs,
            layout,
            max_concurrency=fleet.max_concurrency,
            costs=costs,
            even=math.inf,
            failed=fleet.failed,
        )

    def plan_if_due(self) -> str:
        """Plans anew when what a plan is made from has changed, or when hosts carry too unequal
        loads; what was done, in words.
        """
        self._remember_lease()
        self._balancer.observe(self._settings, self._book.reports().values())
        needs = self.needs()
        now = self._outline(needs) if self._waiting_for() is None else None
        if now is None:
            return ""
        before = self._fleet()
        if before is not None and self._is_settled(now):
            return self._even_out(before, now)
        found = adoption(self._book.reports()) if before is None else None
        current = before.hosts if before is not None else found.hosts if found else {}
        try:
            return self._plan(now, self._target(now, current))
        except ConfigurationError as error:
            return self._complain(f"cannot plan: {error.render()}")

    def _even_out(self, fleet: FleetPlan, now: Outline) -> str:
        if self._orders.holds is not None:
            return ""
        proposal = self._balancer.proposal(self._settings, fleet, now.needs)
        if proposal is None:
            return ""
        self._balancer.moved()
        return self._plan(now, proposal.target, proposal.reason)

    def rebalanced(self) -> None:
        """The operator had the shards spread afresh."""
        self._balancer.moved()

    def carry_out(self, target: Target, reason: str, *, hold: bool = False) -> int:
        """Makes ``target`` the plan; its generation. ``hold``: until something else changes than
        the outline is now, over a restart of MASTER too.

        Raises:
            ConfigurationError: a plan needs what Discord has not told yet.
        """
        self._plan(self._known_outline(self.needs()), target, reason, hold=hold)
        return self.planned().generation

    def _target(
        self,
        now: Outline,
        current: Mapping[str, HostEntry],
        settings: MasterSettings | None = None,
        even: float | None = None,
    ) -> Target:
        return plan_fleet(
            now.shard_count,
            now.needs,
            current,
            max_concurrency=now.max_concurrency,
            costs=self._balancer.costs(settings or self._settings, now.shard_count),
            even=even,
            failed=now.failed,
        )

    def _known_outline(
        self, needs: dict[str, HostNeed], settings: MasterSettings | None = None
    ) -> Outline:
        now = self._outline(needs, settings)
        if now is None:
            raise ConfigurationError(f"not now: {self._discord.waiting_for}", code="no-plan")
        return now

    def _outline(
        self, needs: dict[str, HostNeed], settings: MasterSettings | None = None
    ) -> Outline | None:
        fleet, chosen = self._fleet(), settings or self._settings
        found = adoption(self._book.reports()) if fleet is None else None
        return outline(
            fleet,
            self._discord,
            needs,
            pace_after=chosen.pace_after,
            found=found.shard_count if found is not None else None,
            balance=chosen.balance,
        )

    def _is_settled(self, now: Outline) -> bool:
        if self._planned_with is None and self._orders.holds == fingerprint(now):
            self._planned_with = held(now)
        return self._planned_with is not None and settled(self._planned_with, now)

    def _departures(self, needs: Mapping[str, HostNeed], orders: Orders) -> dict[str, str]:
        fleet = self._fleet()
        known = fleet.hosts if fleet is not None else {}
        return departures(needs, known, orders=orders, leaving=self._book.leaving)

    def _complain(self, complaint: str) -> str:
        if complaint != self._complaint:
            self._events.record("plan", complaint, severity="warning")
        self._complaint = complaint
        return complaint

    def _plan(self, now: Outline, target: Target, reason: str = "", *, hold: bool = False) -> str:
        holds = fingerprint(now) if hold else None
        self.obey(msgspec.structs.replace(self._orders, holds=holds))
        self._planned_with = held(now) if hold else now
        self._complaint, self._notes = "", target.notes
        before = self._fleet()
        fleet = _outlined(before, now, target.hosts)
        if fleet == before:
            return ""
        departed = self._departures(now.needs, self._orders)
        reason = reason or describe_reason(
            before, fleet, departed=departed, departed_before=self._departed
        )
        self._departed = departed
        # Ownership is settled before anything is stored or pushed: a shard is granted, or it is
        # not in a host's plan.
        step = self._settle(msgspec.structs.replace(fleet, reason=reason))
        generation = max(step.fleet.generation, fleet.generation + 1)
        after = msgspec.structs.replace(step.fleet, generation=generation)
        moves = moves_in_words(before, after)
        self._history.record(before, after, moves=moves)
        self._adopt(after)
        words = f"planned generation {generation}: {reason}"
        told = f"{words}; {moves}" if moves else words
        self._events.record("plan", told, generation=generation)
        return words


def _forgiven(fleet: FleetPlan, host: str) -> FleetPlan:
    # Other entries say who owns what.
    told = fleet.away.get(host)
    return forgotten(fleet, host) if told is not None and told.state == "unfit" else fleet


def _outlined(before: FleetPlan | None, now: Outline, target: Mapping[str, HostEntry]) -> FleetPlan:
    """The plan in force with another outline and target."""
    plan = before or FleetPlan(
        generation=0, shard_count=now.shard_count, gateway_url=now.gateway_url
    )
    return msgspec.structs.replace(
        plan,
        shard_count=now.shard_count,
        gateway_url=now.gateway_url,
        max_concurrency=now.max_concurrency,
        pace_after=now.pace_after,
        hosts=dict(target),
        granted=retarget(plan, target),
    )
