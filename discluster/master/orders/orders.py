# SPDX-License-Identifier: Apache-2.0
"""What the operator ordered and what is in force until another order ends it. Pure."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec

from discluster.master.planner import HostNeed
from discluster.orders import MovesStatus
from discluster.plan import MAXIMUM_SHARDS_PER_CLUSTER

V = TypeVar("V")
_Size = Annotated[int, msgspec.Meta(ge=1, le=MAXIMUM_SHARDS_PER_CLUSTER)]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The moves that the newest order asked for.

    ``order``: in words. ``began``, ``deadline``: wall-clock seconds. ``moves``: the host of each
    shard then. ``drained``: the host that they leave. ``ended``: how it ended.
    """

    order: str
    began: float
    moves: dict[int, str | None]
    deadline: float | None = None
    drained: str | None = None
    ended: MovesStatus | None = None


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force, by host.

    ``drained``, ``removed``: since when, in wall-clock seconds. ``lost``: the removed ones of which
    the operator asserts that they are off. ``sizes``: shards per cluster, before the settings'.
    ``serial``: of ``task``. ``holds``: the outline (:func:`discluster.master.outline.fingerprint`)
    to which no plan is made, since the operator went back behind it. ``lease``: the longest that a
    host may go by, in seconds; no order, but needed for as long.
    """

    drained: dict[str, float] = {}
    removed: dict[str, float] = {}
    lost: frozenset[str] = frozenset()
    sizes: dict[str, _Size] = {}
    serial: int = 0
    task: Task | None = None
    holds: str | None = None
    lease: float = 0.0


def drained(orders: Orders, host: str, *, now: float) -> Orders:
    """One that is drained already keeps its time."""
    return msgspec.structs.replace(orders, drained={host: now} | orders.drained)


def undrained(orders: Orders, host: str) -> Orders:
    return msgspec.structs.replace(orders, drained=_without(orders.drained, host))


def removed(orders: Orders, host: str, *, lost: bool, now: float) -> Orders:
    """Nothing else is remembered of a host that is removed."""
    return msgspec.structs.replace(
        orders,
        removed=orders.removed | {host: now},
        lost=orders.lost | {host} if lost else orders.lost - {host},
        drained=_without(orders.drained, host),
        sizes=_without(orders.sizes, host),
    )


def readmitted(orders: Orders, host: str) -> Orders:
    """It joined again."""
    return msgspec.structs.replace(
        orders, removed=_without(orders.removed, host), lost=orders.lost - {host}
    )


def sized(orders: Orders, host: str, size: int | None) -> Orders:
    """``size``: None for that of the settings."""
    sizes = _without(orders.sizes, host)
    return msgspec.structs.replace(orders, sizes=sizes if size is None else sizes | {host: size})


def begun(orders: Orders, task: Task) -> Orders:
    """``task`` takes the place of the one before it."""
    return msgspec.structs.replace(orders, task=task, serial=orders.serial + 1)


def ended(orders: Orders, status: MovesStatus) -> Orders:
    """The task that is under way ended as ``status`` says."""
    assert orders.task is not None
    # What is late is watched until it is there.
    moves = {} if status.state == "done" else orders.task.moves
    task = msgspec.structs.replace(orders.task, ended=status, moves=moves)
    return msgspec.structs.replace(orders, task=task)


def settled(orders: Orders) -> Orders:
    """What came too late is there."""
    assert orders.task is not None
    return msgspec.structs.replace(orders, task=msgspec.structs.replace(orders.task, moves={}))


def obeying(needs: Mapping[str, HostNeed], orders: Orders) -> dict[str, HostNeed]:
    """What is planned for each host under the orders."""
    return {
        host: _ordered(need, orders, host)
        for host, need in needs.items()
        if host not in orders.removed
    }


def _ordered(need: HostNeed, orders: Orders, host: str) -> HostNeed:
    if host in orders.sizes:
        need = msgspec.structs.replace(need, shards_per_cluster=orders.sizes[host])
    if host in orders.drained and need.state == "eligible":
        need = msgspec.structs.replace(need, state="draining")
    return need


def _without(mapping: Mapping[str, V], host: str) -> dict[str, V]:
    return {name: value for name, value in mapping.items() if name != host}
