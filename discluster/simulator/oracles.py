# SPDX-License-Identifier: Apache-2.0
"""Invariants of a good client, checked on what really arrived. Pure functions over the ledger.

Each oracle is a function from records to verdicts; none at all is a good judgement. They judge
the fleet of one bot. Times in records are simulated seconds; where an oracle speaks of what a
network or a processor takes, it converts to real ones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Final, TypeVar

import msgspec

from discluster.simulator import ledger
from discluster.simulator.ledger import Record, Shard
from discluster.simulator.validate import TERMINAL_CODES


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A violated oracle; `records` are numbers in the ledger."""

    oracle: str
    text: str
    records: list[int]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the oracles measure against.

    identify_interval and heartbeat_interval in simulated seconds; time_factor is real seconds
    per simulated second. The others are real seconds: slack for a late timer, for an overlap of
    two connections of a shard, for an answer to a heartbeat request, for news of a terminal close
    to go through a fleet, and for READY to reach its client.
    """

    identify_interval: float = 5.0
    heartbeat_interval: float = 41.25
    time_factor: float = 1.0
    timer_slack: float = 0.25
    overlap: float = 1.0
    answer: float = 1.0
    news: float = 5.0
    delivery: float = 0.25

    def simulated(self, real: float) -> float:
        """Real seconds as simulated ones."""
        return real / self.time_factor


R = TypeVar("R", bound=Record)
Oracle = Callable[[Sequence[Record], Limits, float], Iterator[Verdict]]

# Too few first heartbeats say nothing about their distribution.
_JITTER_SAMPLE: Final = 20
# Kolmogorov-Smirnov: a uniform sample exceeds this once in about 5000 judgements.
_JITTER_BOUND: Final = 2.2
_LEAST_INVALID_WAIT: Final = 1.0
_ELSEWHERE: Final = {
    "budget-exhausted": "O-03",
    "identify-on-resume-host": "O-04",
    "resume-parameters": "O-04",
    "send-rate": "O-10",
    "payload-size": "O-10",
    "heartbeat-missed": "O-11",
}


def identifies_are_spaced(
    records: Sequence[Record], limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-01: in each lane, IDENTIFYs arrive at least the interval apart."""
    for record in _of(records, ledger.Identify):
        if record.gap is not None and record.gap < limits.identify_interval - 1e-6:
            text = f"lane {record.lane}: only {record.gap:.3f} s after the previous IDENTIFY"
            yield Verdict(oracle="O-01", text=text, records=[record.n])


def identifies_match_lost_sessions(
    records: Sequence[Record], limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-03: after its first, a shard identifies only for sessions that the server took away."""
    credit: dict[Shard, int] = defaultdict(lambda: 1)
    for record in records:
        if record.shard is None:
            continue
        if isinstance(record, ledger.SessionEnd) and record.reason != "client-closed":
            credit[record.shard] += 1
        elif isinstance(record, ledger.Identify) and record.accepted:
            credit[record.shard] -= 1
            if credit[record.shard] < 0:
                credit[record.shard] = 0
                text = f"shard {record.shard} identified though no session of it was lost"
                yield Verdict(oracle="O-03", text=text, records=[record.n])


def living_sessions_are_resumed(
    records: Sequence[Record], limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-05: while a session of a shard can be resumed, the shard does not identify."""
    alive: dict[Shard, dict[str, Record]] = defaultdict(dict)
    unheard: set[str] = set()  # their READY cannot have reached the client
    for record in records:
        shard, session = record.shard, record.session
        if shard is None:
            continue
        if isinstance(record, ledger.Identify) and record.lane is not None:
            known = [name for name in alive[shard] if name not in unheard]
            if known:
                text = f"shard {shard} identified while session {known[-1]} could be resumed"
                numbers = [alive[shard][known[-1]].n, record.n]
                yield Verdict(oracle="O-05", text=text, records=numbers)
        elif session is None:
            continue
        elif isinstance(record, ledger.Ready):
            alive[shard][session] = record
        elif isinstance(record, ledger.SessionEnd):
            alive[shard].pop(session, None)
        elif isinstance(record, ledger.Close) and session in alive[shard]:
            age = record.time - alive[shard][session].time
            unheard |= {session} if age < limits.simulated(limits.delivery) else set()


def invalid_sessions_are_left(
    records: Sequence[Record], limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-06: after INVALID_SESSION a shard waits before IDENTIFY, and the session is forgotten."""
    told: dict[str, int] = {}
    waiting: dict[Shard, ledger.InvalidSession] = {}
    for record in records:
        if isinstance(record, ledger.InvalidSession) and not record.resumable:
            if record.session is not None:
                told[record.session] = record.n
            if record.shard is not None:
                waiting[record.shard] = record
        elif isinstance(record, ledger.Resume) and record.session in told:
            text = f"session {record.session} was used again after INVALID_SESSION"
            yield Verdict(oracle="O-06", text=text, records=[told[record.session], record.n])
        elif isinstance(record, ledger.Identify) and record.shard in waiting:
            invalid = waiting.pop(record.shard)
            if record.time - invalid.time < _LEAST_INVALID_WAIT - 1e-3:
                waited = record.time - invalid.time
                text = f"shard {record.shard} identified {waited:.3f} s after INVALID_SESSION"
                yield Verdict(oracle="O-06", text=text, records=[invalid.n, record.n])


def terminal_closes_are_final(
    records: Sequence[Record], limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-07: after a terminal close code or a 401 nobody comes back, until the operator acts."""
    verdict: Record | None = None
    late: list[int] = []
    for record in records:
        if isinstance(record, ledger.Fault) and record.action in ("token-accept", "intents"):
            yield from _late(verdict, late)
            verdict, late = None, []
        elif verdict is None:
            verdict = record if _is_terminal(record) else None
        elif record.time > verdict.time + limits.simulated(limits.news) and isinstance(
            record, ledger.Open | ledger.Http
        ):
            late.append(record.n)
    yield from _late(verdict, late)


def _is_terminal(record: Record) -> bool:
    if isinstance(record, ledger.Close):
        return record.by == "server" and record.code in TERMINAL_CODES
    return isinstance(record, ledger.Http) and record.status == 401


def _late(verdict: Record | None, late: list[int]) -> Iterator[Verdict]:
    if verdict is not None and late:
        text = f"{len(late)} dials or requests after a terminal refusal"
        yield Verdict(oracle="O-07", text=text, records=[verdict.n, *late])


def shards_are_connected_once(
    records: Sequence[Record], limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-09: a shard has one authenticated connection; two overlap for no more than a moment."""
    begun: dict[Shard, dict[int, Record]] = defaultdict(dict)
    owner: dict[int, Shard] = {}
    overlaps: list[tuple[Record, Record, float]] = []
    for record in records:
        connection = record.connection
        if connection is None:
            continue
        if isinstance(record, ledger.Ready | ledger.Resumed) and record.shard is not None:
            begun[record.shard][connection] = record
            owner[connection] = record.shard
        elif connection in owner and isinstance(record, ledger.Close | ledger.InvalidSession):
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


def heartbeats_are_regular(
    records: Sequence[Record], limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-11: the first beat is jittered, the others keep the interval, requests are answered."""
    halted = {
        record.connection
        for record in _of(records, ledger.Fault)
        if record.action == "mute-connection"
    }
    last: dict[int | None, float] = {}
    offsets: list[float] = []
    grown = _that_lived(records, limits.heartbeat_interval, now)
    for beat in _of(records, ledger.Heartbeat):
        if beat.connection in halted:
            continue
        if beat.requested is not None:
            yield from _judge_answer(beat, limits)
        elif beat.connection in last:
            yield from _judge_gap(beat, beat.time - last[beat.connection], limits)
        elif beat.offset is not None:
            offsets += [beat.offset] if beat.connection in grown else []
            yield from _judge_offset(beat, limits)
        if beat.requested is None:
            last[beat.connection] = beat.time
    yield from _judge_jitter(offsets, limits)


def _that_lived(records: Sequence[Record], seconds: float, now: float) -> set[int | None]:
    """Connections that lived this long; the others would show only their early heartbeats."""
    opened = {record.connection: record.time for record in _of(records, ledger.Open)}
    closed = {record.connection: record.time for record in _of(records, ledger.Close)}
    return {name for name, begin in opened.items() if closed.get(name, now) - begin >= seconds}


def _judge_answer(beat: ledger.Heartbeat, limits: Limits) -> Iterator[Verdict]:
    if beat.requested is not None and beat.requested > limits.simulated(limits.answer):
        text = f"a requested heartbeat came after {beat.requested:.3f} s"
        yield Verdict(oracle="O-11", text=text, records=[beat.n])


def _judge_gap(beat: ledger.Heartbeat, gap: float, limits: Limits) -> Iterator[Verdict]:
    interval = limits.heartbeat_interval
    if abs(gap - interval) > 0.05 * interval + limits.simulated(limits.timer_slack):
        text = f"{gap:.3f} s between heartbeats instead of {interval:g} s"
        yield Verdict(oracle="O-11", text=text, records=[beat.n])


def _judge_offset(beat: ledger.Heartbeat, limits: Limits) -> Iterator[Verdict]:
    most = limits.heartbeat_interval + limits.simulated(limits.timer_slack)
    if beat.offset is not None and beat.offset > most:
        text = f"the first heartbeat came {beat.offset:.3f} s after HELLO"
        yield Verdict(oracle="O-11", text=text, records=[beat.n])


def _judge_jitter(offsets: list[float], limits: Limits) -> Iterator[Verdict]:
    if len(offsets) < _JITTER_SAMPLE:
        return
    distance = uniform_distance([offset / limits.heartbeat_interval for offset in offsets])
    if distance > _JITTER_BOUND / math.sqrt(len(offsets)):
        text = f"the first heartbeats of {len(offsets)} connections are not spread evenly"
        yield Verdict(oracle="O-11", text=text, records=[])


def uniform_distance(sample: Sequence[float]) -> float:
    """Kolmogorov-Smirnov distance between a sample and the uniform distribution on 0 to 1."""
    size = len(sample)
    return max(
        max((rank + 1) / size - min(value, 1.0), min(value, 1.0) - rank / size)
        for rank, value in enumerate(sorted(sample))
    )


def sessions_are_not_closed_by_accident(
    records: Sequence[Record], limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-12: a shard that comes back did not close with 1000 or 1001, which ends its session."""
    closed: dict[Shard, ledger.Close] = {}
    for record in records:
        if record.shard is None:
            continue
        if isinstance(record, ledger.Close):
            if record.by == "client" and record.code in (1000, 1001) and record.authenticated:
                closed[record.shard] = record
        elif isinstance(record, ledger.Identify | ledger.Resume) and record.shard in closed:
            close = closed.pop(record.shard)
            text = f"shard {record.shard} closed with {close.code}, and came back"
            yield Verdict(oracle="O-12", text=text, records=[close.n, record.n])


def rules_are_kept(records: Sequence[Record], limits: Limits, now: float) -> Iterator[Verdict]:
    """O-03, O-04, O-10, O-11 and STRICT: what the gateway noted on the spot."""
    for record in _of(records, ledger.Violation):
        oracle = _ELSEWHERE.get(record.rule, "STRICT")
        text = f"{record.rule}: {record.text}"
        yield Verdict(oracle=oracle, text=text, records=[record.n])


ORACLES: Final[tuple[Oracle, ...]] = (
    identifies_are_spaced,
    identifies_match_lost_sessions,
    living_sessions_are_resumed,
    invalid_sessions_are_left,
    terminal_closes_are_final,
    shards_are_connected_once,
    heartbeats_are_regular,
    sessions_are_not_closed_by_accident,
    rules_are_kept,
)


def judge(records: Sequence[Record], limits: Limits, *, now: float) -> list[Verdict]:
    """All verdicts of all oracles. `now` ends what has not ended yet, in simulated seconds."""
    verdicts = [verdict for oracle in ORACLES for verdict in oracle(records, limits, now)]
    return sorted(verdicts, key=lambda verdict: verdict.oracle)


def _of(records: Sequence[Record], kind: type[R]) -> Iterator[R]:
    return (record for record in records if isinstance(record, kind))
