# SPDX-License-Identifier: Apache-2.0
"""O-14 and O-18: how long shards take to come back, and that they do. And the report's figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence

import msgspec

from discluster.simulator import ledger
from discluster.simulator.ledger import Record, Shard
from discluster.simulator.oracles.evidence import Evidence
from discluster.simulator.oracles.verdict import Limits, Verdict


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """Times from the end of a connection to RESUMED or READY of its shard, in simulated seconds.

    cause: what ended the connection, as in "tcp", "server:4000", "client:4000", "op7" or "op9".
    unfinished: shards that did not come back (yet).
    """

    cause: str
    count: int
    p50: float
    p99: float
    most: float
    unfinished: int


class Gaps(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds between IDENTIFYs of a lane: how many gaps, the least, the first percentile."""

    count: int
    least: float
    p1: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one bot. lost: sessions that ended, by reason."""

    identifies: int
    lost: dict[str, int]
    gaps: Gaps | None
    recoveries: list[Recovery]
    bot: int | None = None


class _Outage(msgspec.Struct):
    shard: Shard
    cause: str
    begin: Record
    end: Record | None = None


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; `values` must be sorted and not empty, `share` within 0 and 1."""
    return values[min(len(values) - 1, max(0, -(-int(share * 1000) * len(values) // 1000) - 1))]


def report(evidence: Evidence) -> Report:
    """All figures."""
    identifies = evidence.of(ledger.Identify)
    gaps = sorted(record.gap for record in identifies if record.gap is not None)
    lost = Counter(record.reason for record in evidence.of(ledger.SessionEnd))
    return Report(
        identifies=len(identifies),
        lost=dict(lost),
        gaps=Gaps(count=len(gaps), least=gaps[0], p1=percentile(gaps, 0.01)) if gaps else None,
        recoveries=recoveries(evidence),
    )


def recoveries(evidence: Evidence) -> list[Recovery]:
    """O-14: by what ended the connection."""
    causes: dict[str, list[_Outage]] = defaultdict(list)
    for outage in _outages(evidence):
        causes[outage.cause].append(outage)
    return [_recovery(cause, outages) for cause, outages in sorted(causes.items())]


def _recovery(cause: str, outages: list[_Outage]) -> Recovery:
    times = sorted(one.end.time - one.begin.time for one in outages if one.end is not None)
    return Recovery(
        cause=cause,
        count=len(times),
        p50=percentile(times, 0.5) if times else 0.0,
        p99=percentile(times, 0.99) if times else 0.0,
        most=times[-1] if times else 0.0,
        unfinished=len(outages) - len(times),
    )


def _outages(evidence: Evidence) -> list[_Outage]:
    current: dict[Shard, int | None] = {}  # the connection that a shard has
    open_ones: dict[Shard, _Outage] = {}
    asked: set[int | None] = set()  # to reconnect
    found: list[_Outage] = []
    kinds = (ledger.Ready, ledger.Resumed, ledger.Reconnect, ledger.InvalidSession, ledger.Close)
    for record in evidence.of(*kinds):
        shard = record.shard
        if shard is None:
            continue
        if isinstance(record, ledger.Ready | ledger.Resumed):
            current[shard] = record.connection
            if shard in open_ones:
                open_ones.pop(shard).end = record
        elif isinstance(record, ledger.Reconnect):
            asked.add(record.connection)
        elif current.get(shard) == record.connection:
            del current[shard]
            open_ones[shard] = _Outage(shard, _cause(record, asked), record)
            found.append(open_ones[shard])
    return found


def _cause(record: Record, asked: Collection[int | None]) -> str:
    if isinstance(record, ledger.InvalidSession):
        return "op9"
    if record.connection in asked:
        return "op7"
    assert isinstance(record, ledger.Close)
    return record.by if record.code is None else f"{record.by}:{record.code}"


def recoveries_are_quick(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """O-14, if Limits sets a bound. Who never comes back is O-18's affair."""
    if limits.recovery is None:
        return
    for outage in _outages(evidence):
        if outage.end is not None:
            seconds = outage.end.time - outage.begin.time
            if seconds > limits.recovery + limits.jitter:
                text = f"shard {outage.shard} took {seconds:.3f} s to come back ({outage.cause})"
                numbers = [outage.begin.n, outage.end.n]
                yield Verdict(oracle="O-14", text=text, records=numbers)


def shards_come_back(
    evidence: Evidence,
    *,
    calm_since: float,
    within: float,
    now: float,
    shards: Collection[Shard] | None = None,
) -> Iterator[Verdict]:
    """O-18: since `calm_since` nothing has been broken, so all shards are ready `within` seconds.

    Simulated seconds; before `calm_since + within` there is nothing to judge. `shards`: those
    that must be ready; by default all of the shard count that somebody named last.
    """
    deadline = calm_since + within
    if now < deadline:
        return
    wanted = _latest_generation(evidence) if shards is None else set(shards)
    missing = sorted(wanted - _ready_at(evidence, deadline))
    for shard in missing:
        text = f"shard {shard} was not ready {within:g} s after all faults had ended"
        yield Verdict(oracle="O-18", text=text)


def _latest_generation(evidence: Evidence) -> set[Shard]:
    named = [
        record.shard
        for record in evidence.of(ledger.Identify, ledger.Resume)
        if record.shard is not None
    ]
    return {shard for shard in named if shard[1] == named[-1][1]}


def _ready_at(evidence: Evidence, moment: float) -> set[Shard]:
    current: dict[Shard, int | None] = {}
    for record in evidence.of(ledger.Ready, ledger.Resumed, ledger.InvalidSession, ledger.Close):
        if record.time > moment:
            break
        if record.shard is None:
            continue
        if isinstance(record, ledger.Ready | ledger.Resumed):
            current[record.shard] = record.connection
        elif current.get(record.shard) == record.connection:
            del current[record.shard]
    return set(current)
