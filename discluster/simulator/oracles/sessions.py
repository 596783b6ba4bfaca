# SPDX-License-Identifier: Apache-2.0
"""O-06, O-09 and O-12: dead sessions are left, living ones are not doubled and not killed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from discluster.simulator import ledger
from discluster.simulator.ledger import Record, Shard
from discluster.simulator.oracles.evidence import DROPPED, Evidence
from discluster.simulator.oracles.verdict import Limits, Verdict

_LEAST_INVALID_WAIT: Final = 1.0
# Timers of event loops have a resolution of a millisecond and may be that much early; real seconds.
_EARLY_TIMER: Final = 0.002


def invalid_sessions_are_left(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """O-06: after INVALID_SESSION a shard waits before IDENTIFY, and the session is forgotten.

    One that the connection's sudden end may have swallowed counts for nothing.
    """
    told: dict[str, ledger.InvalidSession] = {}
    waiting: dict[object, ledger.InvalidSession] = {}  # by shard, and by connection without one
    least = _LEAST_INVALID_WAIT - limits.simulated(_EARLY_TIMER)
    kinds = (ledger.InvalidSession, ledger.Close, ledger.Resume, ledger.Identify)
    for record in evidence.of(*kinds):
        if isinstance(record, ledger.InvalidSession) and not record.resumable:
            waiting[record.shard or record.connection] = record
            if record.session is not None:
                told[record.session] = record
        elif isinstance(record, ledger.Close) and record.by == "tcp":
            delivery = limits.simulated(limits.delivery)
            first = record.time - delivery - evidence.lost(record, delivery, limits)
            for unheard in (told, waiting):
                _forget(unheard, record.connection, first)
        elif isinstance(record, ledger.Resume) and record.session in told:
            text = f"session {record.session} was used again after INVALID_SESSION"
            numbers = [told[record.session].n, record.n]
            yield Verdict(oracle="O-06", text=text, records=numbers)
        elif isinstance(record, ledger.Identify):
            invalid = waiting.pop(record.shard, None) or waiting.pop(record.connection, None)
            if invalid is not None and record.time - invalid.time < least:
                waited = record.time - invalid.time
                text = f"shard {record.shard} identified {waited:.3f} s after INVALID_SESSION"
                yield Verdict(oracle="O-06", text=text, records=[invalid.n, record.n])


def _forget(
    told: dict[str, ledger.InvalidSession] | dict[object, ledger.InvalidSession],
    connection: int | None,
    first: float,
) -> None:
    """What this connection was told since `first` did not arrive."""
    unheard = [k for k, v in told.items() if v.connection == connection and v.time > first]
    for key in unheard:
        del told[key]  # type: ignore[arg-type]  # the key is one of its own


def shards_are_connected_once(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """O-09: a shard has one authenticated connection; two overlap for no more than a moment.

    A connection that the simulator does not read from is not judged: its end cannot be seen.
    """
    begun: dict[Shard, dict[int, Record]] = defaultdict(dict)
    owner: dict[int, Shard] = {}
    overlaps: list[tuple[Record, Record, float]] = []
    impaired = evidence.impaired()
    kinds = (ledger.Ready, ledger.Resumed, ledger.Close, ledger.InvalidSession)
    for record in evidence.of(*kinds):
        connection = record.connection
        if connection is None or connection in impaired:
            continue
        if isinstance(record, ledger.Ready | ledger.Resumed) and record.shard is not None:
            begun[record.shard][connection] = record
            owner[connection] = record.shard
        elif connection in owner:
            shard = owner.pop(connection)
            mine = begun[shard].pop(connection)
            overlaps += [(mine, other, record.time) for other in begun[shard].values()]
    for living in begun.values():
        overlaps += [(mine, other, now) for mine, other in combinations(living.values(), 2)]
    for mine, other, end in overlaps:
        seconds = end - max(mine.time, other.time)
        if seconds > limits.simulated(limits.overlap):
            text = f"shard {mine.shard} had two connections at once for {seconds:.3f} s"
            yield Verdict(oracle="O-09", text=text, records=sorted((mine.n, other.n)))


def sessions_are_not_closed_by_accident(
    evidence: Evidence, limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-12: a shard that comes back did not close with 1000 or 1001, which ends its session.

    Only coming back tells an accident from the final stop.
    """
    closed: dict[Shard, ledger.Close] = {}
    for record in evidence.of(ledger.Close, ledger.Identify, ledger.Resume):
        if record.shard is None:
            continue
        if isinstance(record, ledger.Close):
            if record.by == "client" and record.code in (1000, 1001) and record.authenticated:
                closed[record.shard] = record
        elif record.shard in closed:
            close = closed.pop(record.shard)
            text = f"shard {record.shard} closed with {close.code}, and came back"
            yield Verdict(oracle="O-12", text=text, records=[close.n, record.n])


def died(close: ledger.Close) -> bool:
    """Whether the client may have died with the connection, and what it knew with it."""
    return close.by == "tcp" and close.reason != DROPPED
