# SPDX-License-Identifier: Apache-2.0
"""O-01 to O-03: how often, in which order and what for shards identify."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Final

from discluster.simulator import ledger
from discluster.simulator.ledger import Record, Shard
from discluster.simulator.oracles.evidence import DROPPED, Evidence
from discluster.simulator.oracles.verdict import Limits, Verdict

# A shard may hang up on its own IDENTIFY, before READY, this often in so many simulated seconds:
# it may be killed while it starts. Who does it again and again burns the budget.
_ABANDONED: Final = 5
_ABANDONED_PERIOD: Final = 600.0


def identifies_are_spaced(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """O-01: in each lane, IDENTIFYs arrive at least the interval apart."""
    least = limits.identify_interval - limits.jitter - 1e-6
    for record in evidence.of(ledger.Identify):
        if record.gap is None:
            continue
        if record.gap + evidence.lost(record, record.gap, limits) < least:
            text = f"lane {record.lane}: only {record.gap:.3f} s after the previous IDENTIFY"
            yield Verdict(oracle="O-01", text=text, records=[record.n])


def buckets_start_in_order(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """O-02, soft: of a cold start, shards of a bucket identify before those of the next.

    A bucket is `shard_id // max_concurrency`. What counts is each shard's first IDENTIFY.
    """
    latest: dict[int, ledger.Identify] = {}
    seen: set[Shard] = set()
    for record in evidence.of(ledger.Identify):
        shard = record.shard
        if shard is None or shard in seen:
            continue
        seen.add(shard)
        bucket, before = shard[0] // limits.max_concurrency, latest.get(shard[1])
        if before is None or before.shard is None:
            latest[shard[1]] = record
        elif bucket < before.shard[0] // limits.max_concurrency:
            text = f"shard {shard} began after shard {before.shard} of a later bucket"
            yield Verdict(oracle="O-02", text=text, records=[before.n, record.n], soft=True)
        else:
            latest[shard[1]] = record


def budget_is_kept(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """O-03: IDENTIFYs stay within the budget less the reserve, and are not thrown away.

    That each is for a session that was really lost follows with O-05 (the last one could still be
    resumed), O-09 (it is still connected) and O-12 (the client ended it itself): an accepted
    IDENTIFY is a session. The exhaustion of the simulated budget is noted on the spot, see
    `rules_are_kept`.
    """
    if limits.budget is not None:
        spent = [record for record in evidence.of(ledger.Identify) if record.lane is not None]
        most = limits.budget - limits.reserve
        for crowd in crowds(spent, most, limits.budget_period):
            text = f"{len(crowd)} IDENTIFYs in {limits.budget_period:g} s, {most} were allowed"
            yield Verdict(oracle="O-03", text=text, records=[crowd[0].n, crowd[-1].n])
            break
    for shard, given_up in _abandoned(evidence).items():
        for crowd in crowds(given_up, _ABANDONED, _ABANDONED_PERIOD):
            text = f"shard {shard} hung up on its own IDENTIFY {len(crowd)} times"
            yield Verdict(oracle="O-03", text=text, records=[record.n for record in crowd])
            break


def _abandoned(evidence: Evidence) -> dict[Shard, list[Record]]:
    """Ends of connections by their clients between an accepted IDENTIFY and its READY."""
    waiting: set[int | None] = set()
    found: dict[Shard, list[Record]] = defaultdict(list)
    spoiled = evidence.touched()
    for record in evidence.of(ledger.Identify, ledger.Ready, ledger.Close):
        if isinstance(record, ledger.Identify):
            waiting |= {record.connection} if record.accepted else set()
        elif isinstance(record, ledger.Ready):
            waiting.discard(record.connection)
        elif record.connection in waiting and isinstance(record, ledger.Close):
            waiting.discard(record.connection)
            by_client = record.by != "server" and record.reason != DROPPED
            if by_client and record.shard is not None and record.connection not in spoiled:
                found[record.shard].append(record)
    return found


def crowds(records: Iterable[Record], most: int, period: float) -> Iterator[list[Record]]:
    """Each time when more than `most` records are within `period` seconds: those."""
    window: deque[Record] = deque()
    for record in records:
        window.append(record)
        while window[0].time <= record.time - period:
            window.popleft()
        if len(window) > most:
            yield list(window)
