# SPDX-License-Identifier: Apache-2.0
"""What an order would come to, before anything is done: checked, planned, and in words."""

from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from discluster import settings as declared
from discluster.console import PlanDiff
from discluster.errors import DisclusterError
from discluster.master.hosts.book import HostBook
from discluster.master.orders import orders as ordered
from discluster.master.orders.changes import few
from discluster.master.orders.orders import Orders
from discluster.master.orders.rollback import contradictions, earlier_layout
from discluster.master.planner import Target
from discluster.master.planning import Planning
from discluster.master.records.history import History
from discluster.master.settings import MasterSettings
from discluster.master.shared import Shared
from discluster.orders import (
    ClusterSize,
    Drain,
    Order,
    Rebalance,
    RemoveHost,
    Rollback,
    Undrain,
)
from discluster.plan import MAXIMUM_SHARDS_PER_CLUSTER, FleetPlan
from discluster.settings import SettingChange

NO_SUCH_HOST: Final = "no-such-host"
REFUSED: Final = "order-refused"
_LONGEST_DEADLINE: Final = 7 * 86_400.0
_NOTHING: Final = PlanDiff(generation=0, summary="nothing would change")


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """``order``: in words; ``done``: what will be in force, in sentences.

    ``host``: that it is about. ``target``: None leaves the plan as it is, and so does ``later``:
    MASTER plans when it does not wait for hosts any more. ``empties``: the host that all shards
    shall leave, within ``deadline`` seconds; ``drains``: it stays in the fleet. ``forgives``,
    ``removes``: hosts. ``holds``: the plan stays until something else changes. ``rebalances``: the
    balance is the best there is. ``settings``: to be in force.
    """

    order: str
    done: tuple[str, ...]
    orders: Orders
    host: str | None = None
    diff: PlanDiff = _NOTHING
    target: Target | None = None
    later: bool = False
    empties: str | None = None
    drains: bool = False
    deadline: float | None = None
    forgives: str | None = None
    removes: str | None = None
    holds: bool = False
    rebalances: bool = False
    settings: MasterSettings | None = None
    changes: tuple[SettingChange, ...] = ()


class Intents:
    """Makes an intent of an order; changes nothing."""

    def __init__(self, shared: Shared, *, planning: Planning, history: History) -> None:
        self._planning = planning
        self._history = history
        self._book = shared.book
        self._waiting_for = shared.waiting_for

    def of(self, order: Order, now: float) -> Intent:
        """``now``: wall-clock seconds.

        Raises:
            DisclusterError: not as things are, and why.
        """
        match order:
            case Rebalance():
                return self._rebalance()
            case Drain():
                return self._drain(order, now)
            case Undrain():
                return self._undrain(order)
            case RemoveHost():
                return self._remove(order, now)
            case ClusterSize():
                return self._resize(order)
            case Rollback():
                return self._roll_back(order)
        raise TypeError("a reload comes with its settings")

    def _rebalance(self) -> Intent:
        self._ready(calm=True)
        needs = self._planning.needs()
        target = self._planning.target(needs, even=0.0)
        diff = self._planning.changes(needs, target)
        done = ("the shards are spread afresh over the hosts",)
        if not diff.changes:
            done = ("the shards are spread as well as they can be",)
        orders = self._planning.orders
        return Intent(
            order="rebalance", done=done, orders=orders, target=target, diff=diff, rebalances=True
        )

    def _drain(self, order: Drain, now: float) -> Intent:
        fleet, host = self._ready(), self._known(order.host)
        if order.deadline is not None and not 1 <= order.deadline <= _LONGEST_DEADLINE:
            raise DisclusterError("a deadline is between 1 second and 7 days", code="bad-request")
        again = host in self._planning.orders.drained
        orders = ordered.drained(self._planning.orders, host, now=now)
        intent = self._under(
            orders,
            host,
            order=f"drain {host}",
            done=(f"{host} is drained{' already' if again else ''}: it gets no shards",),
        )
        staying = _shards_on(intent.target, host) if intent.target else _planned(fleet, host)
        if staying and not order.force:
            raise _refusal(
                f"no other host can take {_count(staying)} of {host}",
                f"{'; '.join(intent.diff.notes) or 'add a host'};"
                f" to drain what can go: disclusterctl drain {host} --force",
            )
        return msgspec.structs.replace(intent, empties=host, drains=True, deadline=order.deadline)

    def _undrain(self, order: Undrain) -> Intent:
        self._ready()
        host = self._known(order.host)
        orders = ordered.undrained(self._planning.orders, host)
        need = self._planning.needs().get(host)
        shunned = need is not None and need.state == "draining" and host not in self._book.leaving
        done = f"{host} can have shards again" if shunned else f"{host} is not drained"
        intent = self._under(orders, host, order=f"undrain {host}", done=(done,), forgiven=host)
        return msgspec.structs.replace(intent, forgives=host)

    def _remove(self, order: RemoveHost, now: float) -> Intent:
        orders = self._planning.orders
        if order.host in orders.removed and (order.host in orders.lost or not order.lost):
            done = (f"{order.host} is removed already; {_way_back(order.host)}",)
            return Intent(order=f"remove {order.host}", done=done, orders=orders)
        later = order.lost and self._waiting_for() is not None
        if not later:
            self._ready()
        host = self._known(order.host)
        self._check_removable(host, lost=order.lost)
        gone = f"{host} is removed"
        if order.lost:
            gone = f"{host} is off, as you say: its shards are given away at once"
        intent = self._under(
            ordered.removed(orders, host, lost=order.lost, now=now),
            host,
            order=f"remove {host}",
            done=(gone, _way_back(host)),
        )
        return msgspec.structs.replace(intent, empties=host, removes=host, later=later)

    def _check_removable(self, host: str, *, lost: bool) -> None:
        fleet = self._planning.planned()
        owned = sum(grant.host == host for grant in fleet.granted.values())
        owned = owned or _planned(fleet, host)
        connected = host in self._book.connected
        if lost and connected:
            raise _refusal(
                f"{host} is connected, so its machine is not off",
                f"to empty it first: disclusterctl drain {host}",
            )
        if connected and host not in self._planning.orders.drained:
            raise _refusal(f"{host} is connected", f"to empty it first: disclusterctl drain {host}")
        if owned and not lost:
            raise _refusal(
                f"{host} still has {_count(owned)}",
                "wait until it is empty ('disclusterctl status'); if its machine is off for good:"
                f" disclusterctl host remove {host} --lost",
            )

    def _resize(self, order: ClusterSize) -> Intent:
        self._ready(calm=True)
        host, size = self._known(order.host), order.shards_per_cluster
        if size is not None and not 1 <= size <= MAXIMUM_SHARDS_PER_CLUSTER:
            most = MAXIMUM_SHARDS_PER_CLUSTER
            raise DisclusterError(f"a cluster takes 1 to {most} shards", code="bad-request")
        orders = ordered.sized(self._planning.orders, host, size)
        need = self._planning.needs(orders=orders).get(host)
        takes = f"{need.shards_per_cluster} shards" if need is not None else "shards"
        whence = ", as the settings say" if size is None else ""
        name = f"shards-per-cluster {host} {'default' if size is None else size}"
        done = (f"clusters of {host} take {takes}{whence}",)
        return self._under(orders, host, order=name, done=done)

    def _roll_back(self, order: Rollback) -> Intent:
        fleet = self._ready(calm=True)
        old = self._history.plan(order.generation)
        needs = self._planning.needs()
        target = self._planning.completed(needs, earlier_layout(old, fleet, needs))
        diff = self._planning.changes(needs, target)
        done = [f"the shards are where they were in generation {order.generation}"]
        done += few(list(contradictions(old, needs)))
        done.append("this holds until hosts, settings or orders change")
        return Intent(
            order=f"rollback to generation {order.generation}",
            done=tuple(done),
            orders=self._planning.orders,
            target=target,
            diff=diff,
            holds=True,
        )

    def reload(self, edited: MasterSettings) -> Intent:
        """``edited``: the settings on disk.

        Raises:
            DisclusterError: no plan could be made with them.
        """
        planning = self._planning
        changes = tuple(declared.changes(planning.settings, edited))
        taken = declared.reloaded(planning.settings, edited)
        intent = Intent(
            order="reload",
            done=tuple(_reloaded(changes, planning.shard_count)),
            orders=planning.orders,
            settings=taken,
            changes=changes,
        )
        needs = planning.needs(settings=taken)
        if self._waiting_for() is not None or not planning.is_due(needs, taken):
            return intent
        target = planning.target(needs, settings=taken)
        diff = planning.changes(needs, target)
        return msgspec.structs.replace(intent, target=target, diff=diff)

    def _under(
        self,
        orders: Orders,
        host: str,
        *,
        order: str,
        done: tuple[str, ...],
        forgiven: str | None = None,
    ) -> Intent:
        """The plan changes if what is planned for any host does."""
        planning = self._planning
        intent = Intent(order=order, done=done, orders=orders, host=host)
        needs = planning.needs(orders=orders, forgiven=forgiven)
        if needs == planning.needs():
            return intent
        target = planning.target(needs)
        diff = planning.changes(needs, target, orders)
        return msgspec.structs.replace(intent, target=target, diff=diff)

    def _ready(self, *, calm: bool = False) -> FleetPlan:
        """``calm``: not while a rolling restart runs."""
        if (waiting_for := self._waiting_for()) is not None:
            raise _refusal(
                f"not now: {waiting_for}", "try again then; 'disclusterctl status' tells"
            )
        fleet = self._planning.planned()
        if calm and fleet.rollout is not None and fleet.rollout.state == "running":
            hint = "to pause it: disclusterctl restart --rolling --pause"
            raise _refusal("not now: a rolling restart is running", hint)
        return fleet

    def _known(self, host: str) -> str:
        known = known_hosts(self._planning.planned(), self._book)
        known -= self._planning.orders.removed.keys()
        if host not in known:
            raise DisclusterError(
                f"no host {host!r} in the fleet",
                hint=f"hosts in it: {', '.join(few(sorted(known))) or 'none'}",
                code=NO_SUCH_HOST,
            )
        return host


def known_hosts(fleet: FleetPlan, book: HostBook) -> set[str]:
    """Those of the plan, and those that are or were connected."""
    seen = {name for name, view in book.views().items() if view.state != "expected"}
    return {*fleet.hosts, *seen}


def _reloaded(changes: Collection[SettingChange], shard_count: int | None) -> Iterator[str]:
    """``shard_count``: of the fleet that runs."""
    paths = {True: list[str](), False: list[str]()}
    for change in changes:
        if change.path == "shard_count" and shard_count is not None:
            yield f"shard_count is for a new fleet: this one keeps its {shard_count} shards"
        else:
            paths[change.reloads].append(change.path)
    if paths[True]:
        yield f"in force: {', '.join(few(paths[True]))}"
    if paths[False]:
        yield f"in force when MASTER is restarted: {', '.join(few(paths[False]))}"
    if not changes:
        yield "the settings on disk are those in force"


def _way_back(host: str) -> str:
    return (
        f"MASTER lets it in again when it joins with a new token"
        f" (disclusterctl token create --host {host})"
    )


def _shards_on(target: Target, host: str) -> int:
    entry = target.hosts.get(host)
    return sum(len(c.shards) for c in entry.clusters.values()) if entry is not None else 0


def _planned(fleet: FleetPlan, host: str) -> int:
    return _shards_on(Target(hosts=fleet.hosts), host)


def _count(shards: int) -> str:
    return f"{shards} shard{'s' * (shards != 1)}"


def _refusal(message: str, hint: str) -> DisclusterError:
    return DisclusterError(message, hint=hint, code=REFUSED)
