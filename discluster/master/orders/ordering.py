# SPDX-License-Identifier: Apache-2.0
"""Carries out the operator's orders, and tells how far they are."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import msgspec

from discluster import settings as declared
from discluster.console import PlanHistory
from discluster.errors import DocumentError
from discluster.master.orders import orders as ordered
from discluster.master.orders.intents import Intent, Intents, known_hosts
from discluster.master.orders.moves import Sight, progress
from discluster.master.orders.orders import Task
from discluster.master.planning import Planning
from discluster.master.records.history import History
from discluster.master.settings import MasterSettings
from discluster.master.shared import Shared
from discluster.orders import MovesStatus, Order, Ordered
from discluster.plan import FleetPlan

# Seconds between two looks at how far the moves are, and shards that are looked at in a second: a
# look at 65,536 takes 0.4 s.
_LOOK: Final = 0.5
_LOOKED_AT: Final = 10_000
NO_MOVES: Final = "no-moves"


class OrderDesk:
    """One for MASTER's life. Nothing here waits, so there is never more than one order at work."""

    def __init__(self, shared: Shared, *, planning: Planning, history: History) -> None:
        self._planning = planning
        self._history = history
        self._book = shared.book
        self._events = shared.events
        self._clock = shared.clock
        self._fleet = shared.fleet
        self._blocked = shared.blocked
        self._refused = shared.refused
        self._wake = shared.wake
        self._looked = float("-inf")
        self._intents = Intents(shared, planning=planning, history=history)
        # The newest order while there are shards that it has yet to move, also after its deadline.
        self.unfinished: MovesStatus | None = None
        # Called with the new settings after a reload.
        self.followers: list[Callable[[MasterSettings], None]] = []
        # Called with a host that is about to be removed.
        self.removers: list[Callable[[str], None]] = []

    def take(self, order: Order) -> Ordered:
        """Carries ``order`` out, or says what it would do.

        Raises:
            DisclusterError: not as things are, and why.
        """
        return self._answer(self._intents.of(order, self._clock.wall()), dry_run=order.dry_run)

    def reload(self, edited: MasterSettings, *, dry_run: bool = False) -> Ordered:
        """Takes the settings on disk, as far as they take effect without a restart.

        Raises:
            DisclusterError: no plan could be made with them; those before stay in force.
        """
        return self._answer(self._intents.reload(edited), dry_run=dry_run)

    def history(self) -> PlanHistory:
        """The plans that moved shards."""
        return self._history.told(self._fleet())

    def earlier_plan(self, generation: int) -> FleetPlan:
        """The targets of ``generation``.

        Raises:
            DisclusterError: it is not kept.
        """
        return self._history.plan(generation)

    def moves(self) -> MovesStatus | None:
        """How far the newest order is, None if no order ever moved a shard."""
        orders, fleet = self._planning.orders, self._fleet()
        if orders.task is None or fleet is None:
            return None
        if orders.task.ended is not None:
            return orders.task.ended
        if self.unfinished is not None and self.unfinished.serial == orders.serial:
            return self.unfinished
        return progress(orders.task, orders.serial, self._sight(fleet))

    def advance(self) -> str:
        """Writes down that the newest order has ended; in words, if it has just now."""
        for host in self._planning.orders.removed:
            self._book.forget(host, self.refusal(host) or "")
        orders, fleet, now = self._planning.orders, self._fleet(), self._clock.monotonic()
        if orders.task is None or fleet is None or not orders.task.moves:
            self.unfinished = None
            return ""
        if now - self._looked < _LOOK + len(orders.task.moves) / _LOOKED_AT:
            return ""
        self._looked = now
        task = msgspec.structs.replace(orders.task, ended=None)
        status = progress(task, orders.serial, self._sight(fleet))
        self.unfinished = status if status.state != "done" else None
        if orders.task.ended is not None:
            if status.state == "done":
                self._planning.obey(ordered.settled(orders))
            return ""
        return self._end(status) if status.state != "running" else ""

    def _end(self, status: MovesStatus) -> str:
        self._planning.obey(ordered.ended(self._planning.orders, status))
        if status.state == "done":
            told = f"{status.order} is done: {status.moved} shards moved in {status.age:.0f} s"
            self._events.record("order", told)
        else:
            told = f"{status.order} failed: {status.problem}"
            self._events.record("order", told, severity="error")
        return told

    def refusal(self, host: str) -> str | None:
        """Why a host that dials is not let in, in words."""
        if host not in self._planning.orders.removed:
            return None
        return (
            f"{host} was removed from the fleet; it is let in again when it joins with a new token"
            f" (on MASTER's machine: disclusterctl token create --host {host})"
        )

    @property
    def settings(self) -> MasterSettings:
        """Those in force."""
        return self._planning.settings

    def known(self) -> set[str]:
        """The hosts of the plan, and those that are or were connected; removed ones too."""
        fleet = self._fleet()
        seen = {name for name, view in self._book.views().items() if view.state != "expected"}
        return seen if fleet is None else known_hosts(fleet, self._book)

    def removed(self) -> Collection[str]:
        """Hosts that are turned away since the operator removed them."""
        return self._planning.orders.removed.keys()

    def readmit(self, host: str) -> None:
        """It has joined with a token."""
        self._planning.obey(ordered.readmitted(self._planning.orders, host))

    def _answer(self, intent: Intent, *, dry_run: bool) -> Ordered:
        fleet = self._fleet()
        generation, serial = fleet.generation if fleet is not None else 0, 0
        if not dry_run:
            generation, serial = self._carry_out(intent, generation)
        return Ordered(
            diff=intent.diff,
            done=intent.done,
            generation=generation,
            serial=serial,
            settings=intent.changes,
        )

    def _carry_out(self, intent: Intent, generation: int) -> tuple[int, int]:
        """Generation and serial number. What is ordered is on disk before it is begun."""
        task = self._task(intent)
        orders = intent.orders if task is None else ordered.begun(intent.orders, task)
        told = f"{intent.order}, by the operator: {'; '.join(intent.done)}"
        if task is not None or orders != self._planning.orders or intent.changes or intent.target:
            self._events.record("order", told, host=intent.host)
        for remover in self.removers if intent.removes is not None else ():
            remover(str(intent.removes))
        self._planning.obey(orders)
        self._looked = float("-inf")
        if intent.forgives is not None:
            self._planning.forgive(intent.forgives)
        if intent.settings is not None:
            self._follow(intent.settings)
        if intent.target is not None and not intent.later:
            generation = self._planning.carry_out(
                intent.target, f"{intent.order}, by the operator", hold=intent.holds
            )
        if intent.removes is not None:
            self._planning.forget(intent.removes)
        if intent.rebalances:
            self._planning.rebalanced()
        self._wake()
        return generation, orders.serial if task is not None else 0

    def _task(self, intent: Intent) -> Task | None:
        fleet = self._fleet()
        moves = {c.shard: c.source[0] if c.source else None for c in intent.diff.changes}
        if intent.empties is not None and fleet is not None:
            granted = {s for s, grant in fleet.granted.items() if grant.host == intent.empties}
            moves |= dict.fromkeys(sorted(granted), intent.empties)
        if not moves:
            return None
        now = self._clock.wall()
        return Task(
            order=intent.order,
            began=now,
            moves=moves,
            deadline=None if intent.deadline is None else now + intent.deadline,
            drained=intent.empties if intent.drains else None,
        )

    def _follow(self, settings: MasterSettings) -> None:
        views = self._book.views()
        for host in self._planning.settings.hosts.keys() - settings.hosts.keys():
            if host in views and views[host].state == "expected":
                self._book.forget(host, "")
        self._book.expect(settings.hosts, None)
        self._planning.follow(settings)
        for follower in self.followers:
            follower(settings)

    def _sight(self, fleet: FleetPlan) -> Sight:
        return Sight(
            fleet=fleet,
            reports=self._book.reports(),
            connected=self._book.connected,
            now=self._clock.wall(),
            blocked=self._blocked(),
            refused=self._refused(),
        )


def edited_settings(path: Path) -> MasterSettings:
    """The settings on disk.

    Raises:
        DocumentError: with every fault in the file.
        ConfigurationError: the file is missing or cannot be read.
    """
    try:
        return declared.load(path, MasterSettings)
    except DocumentError as error:
        hint = "the settings in force stay; correct the file and reload again"
        raise DocumentError(error.problems, hint=hint) from None
