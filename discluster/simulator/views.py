# SPDX-License-Identifier: Apache-2.0
"""What the control API shows. Times are simulated seconds."""

from __future__ import annotations

from typing import Literal

import msgspec

from discluster.simulator.ledger import Shard


class ShardView(msgspec.Struct, frozen=True, kw_only=True):
    """One living session. `acknowledged`: the last sequence that the client said it has seen."""

    shard: Shard
    session: str
    state: Literal["connected", "detached"]
    connection: int | None
    seq: int
    acknowledged: int
    guilds: int
    since: float


class BudgetView(msgspec.Struct, frozen=True, kw_only=True):
    """Daily session starts; `reset_after` is 0 while none was used."""

    total: int
    remaining: int
    reset_after: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Totals.

    identifies, resumes: all that arrived, refused ones included. closes: by whom and with which
    code, as in "client:4000", or "tcp" alone. sent: dispatches created, in all sessions;
    acknowledged: those covered by a heartbeat or a RESUME; unacknowledged: open in living
    sessions; lost: never acknowledged in ended ones. identify_gap_min: least gap in any lane.
    records: number of the ledger's newest record. now: simulated seconds since the start. seed:
    of all that is random.
    """

    identifies: int
    identifies_rejected: int
    identify_gap_min: float | None
    resumes: int
    resumed: int
    connections: int
    closes: dict[str, int]
    heartbeats: int
    sent: int
    acknowledged: int
    unacknowledged: int
    lost: int
    violations: int
    budget: BudgetView
    records: int
    now: float
    seed: int
