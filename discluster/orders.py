# SPDX-License-Identifier: Apache-2.0
"""What an operator can order of MASTER, and what MASTER answers: ``POST /v1/orders`` takes each
:data:`Order` and answers :class:`Ordered`; ``GET /v1/moves`` tells how far the newest is.
"""

from typing import Literal

import msgspec

from discluster.bounds import Count, Seconds
from discluster.console import PlanDiff
from discluster.messages import Message
from discluster.settings import SettingChange


class Rebalance(Message, frozen=True, kw_only=True):
    """Plan afresh, to the best balance now. ``dry_run``, as in all orders: only tell what for."""

    dry_run: bool = False


class Drain(Message, frozen=True, kw_only=True):
    """Move all shards off ``host``, and give it none. ``deadline``: seconds from now after which
    what is still there counts as failed. ``force``: also if nobody can take them all.
    """

    host: str
    deadline: Seconds | None = None
    force: bool = False
    dry_run: bool = False


class Undrain(Message, frozen=True, kw_only=True):
    """Let ``host`` have shards again, also one that counts as unfit."""

    host: str
    dry_run: bool = False


class RemoveHost(Message, frozen=True, kw_only=True):
    """Forget ``host``; it may join again with a new token. ``lost``: the operator asserts that its
    machine is off, so its shards are given away at once.
    """

    host: str
    lost: bool = False
    dry_run: bool = False


class ClusterSize(Message, frozen=True, kw_only=True):
    """Shards in one cluster of ``host``; None: as in the settings."""

    host: str
    shards_per_cluster: Count | None = None
    dry_run: bool = False


class Reload(Message, frozen=True, kw_only=True):
    """Take the settings as they stand on disk."""

    dry_run: bool = False


class Rollback(Message, frozen=True, kw_only=True):
    """Put the shards where they were in ``generation``."""

    generation: Count
    dry_run: bool = False


Order = Rebalance | Drain | Undrain | RemoveHost | ClusterSize | Reload | Rollback


class Ordered(Message, frozen=True, kw_only=True):
    """An order was taken, or would be. ``done``: in sentences, what is in force from now on, or
    would be. ``generation``: of the plan that carries it out. ``serial``: the number of this order,
    see :class:`MovesStatus`; 0: nothing is to be moved, or it was a dry run.
    """

    diff: PlanDiff
    done: tuple[str, ...]
    generation: int
    serial: int = 0
    settings: tuple[SettingChange, ...] = ()


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """Shards that an order moves from one host to another, or between the clusters of one.

    ``source``: None if no host had them; ``target``: None if no host can take them. ``moved``: how
    many are ready at the target. ``waits``: why the others are not, in words.
    """

    source: str | None
    target: str | None
    total: int
    moved: int
    waits: str | None = None


class MovesStatus(Message, frozen=True, kw_only=True):
    """How far the newest order is, also when it is done.

    ``serial`` grows with each order. ``order``: in words. ``age``: seconds since it was given, and
    what it took once it has ended; ``deadline``: seconds until then. ``problem``: why it failed, or
    cannot end as things are.
    """

    serial: int
    order: str
    state: Literal["running", "done", "failed"]
    age: float
    total: int
    moved: int
    deadline: float | None = None
    routes: tuple[Route, ...] = ()
    problem: str | None = None
    hint: str | None = None


operator_order = msgspec.json.Decoder(Order)
