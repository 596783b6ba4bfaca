# SPDX-License-Identifier: Apache-2.0
"""What the parts of MASTER's loop have in common."""

from collections.abc import Callable
from dataclasses import dataclass

from discluster.clock import Clock
from discluster.master.hosts.book import HostBook
from discluster.master.records.events import EventLog
from discluster.plan import FleetPlan


@dataclass(frozen=True, kw_only=True)
class Shared:
    """``fleet``: the plan in force, None before the first; ``adopt`` stores a plan and takes it.

    ``waiting_for``: what MASTER still waits for, in words; until then it plans and restarts
    nothing. ``blocked``: why no shard may dial, ``refused``: why none may identify, in words.
    ``wake``: called when a pass is due.
    """

    book: HostBook
    events: EventLog
    clock: Clock
    fleet: Callable[[], FleetPlan | None]
    adopt: Callable[[FleetPlan], None]
    waiting_for: Callable[[], str | None]
    blocked: Callable[[], str | None]
    refused: Callable[[], str | None]
    wake: Callable[[], None]
