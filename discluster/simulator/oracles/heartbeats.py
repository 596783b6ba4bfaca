# SPDX-License-Identifier: Apache-2.0
"""O-11: the first beat is jittered, the others keep the interval, requests are answered."""

from __future__ import annotations

import math
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from discluster.simulator import ledger
from discluster.simulator.oracles.evidence import Evidence
from discluster.simulator.oracles.verdict import Limits, Verdict

# Too few first heartbeats say nothing about their distribution.
_JITTER_SAMPLE: Final = 20
# Kolmogorov-Smirnov: a uniform sample exceeds this once in about 5000 judgements.
_JITTER_BOUND: Final = 2.2
_TOLERANCE: Final = 0.05
# Who has sent so much within a minute must leave requests unanswered, or be closed with 4008.
_BUSY: Final = 100
_BUSY_PERIOD: Final = 60.0


def heartbeats_are_regular(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """O-11, on all connections that no script and no fault has made deaf or slow.

    A beat that was asked for may start the interval anew, or leave it as it is. One that stays
    out is noted on the spot.
    """
    impaired = evidence.impaired()
    grown = _that_lived(evidence, limits.heartbeat_interval, now)
    busy = _when_busy(evidence)
    regular: dict[int | None, float] = {}  # last beat that nobody asked for
    latest: dict[int | None, float] = {}  # last beat of any kind
    offsets: list[float] = []
    moved = 0.0  # the most that any of them was, because the simulator itself was late
    interval = limits.heartbeat_interval
    for beat in evidence.of(ledger.Heartbeat):
        if beat.connection in impaired:
            continue
        name = beat.connection
        if beat.requested is not None:
            if beat.n not in busy:
                lost = evidence.lost(beat, beat.requested, limits)
                yield from _judge_answer(beat, beat.requested - lost, limits)
            elif beat.time - regular.get(name, beat.time) >= (1 - _TOLERANCE) * interval:
                regular[name] = beat.time  # no answer, but the regular beat behind a burst
        else:
            if name in regular:
                gaps = (beat.time - regular[name], beat.time - latest[name])
                yield from _judge_gap(beat, *gaps, evidence.lost(beat, gaps[0], limits), limits)
            elif beat.offset is not None:
                lost = evidence.lost(beat, beat.offset, limits)
                if name in grown:
                    offsets.append(beat.offset)
                    moved = max(moved, lost)
                yield from _judge_offset(beat, beat.offset - lost, limits)
            regular[name] = beat.time
        latest[name] = beat.time
    yield from _judge_jitter(offsets, moved, limits)


def _when_busy(evidence: Evidence) -> set[int]:
    """Heartbeats that were asked for when there was no room for an answer."""
    sent: dict[int | None, list[float]] = defaultdict(list)
    found: set[int] = set()
    for record in evidence.of(ledger.Heartbeat, ledger.Command):
        times = sent[record.connection]
        if isinstance(record, ledger.Heartbeat) and record.requested is not None:
            asked = record.time - record.requested
            if bisect(times, asked) - bisect(times, asked - _BUSY_PERIOD) >= _BUSY:
                found.add(record.n)
        times.append(record.time)
    return found


def _that_lived(evidence: Evidence, seconds: float, now: float) -> set[int | None]:
    """Connections that lived this long; the others would show only their early heartbeats."""
    closed = {record.connection: record.time for record in evidence.of(ledger.Close)}
    return {
        record.connection
        for record in evidence.of(ledger.Open)
        if closed.get(record.connection, now) - record.time >= seconds
    }


def _judge_answer(beat: ledger.Heartbeat, after: float, limits: Limits) -> Iterator[Verdict]:
    if after > limits.simulated(limits.answer):
        text = f"a requested heartbeat came after {after:.3f} s"
        yield Verdict(oracle="O-11", text=text, records=[beat.n])


def _judge_gap(
    beat: ledger.Heartbeat, regular: float, latest: float, lost: float, limits: Limits
) -> Iterator[Verdict]:
    interval = limits.heartbeat_interval
    slack = _TOLERANCE * interval + limits.simulated(limits.timer_slack) + lost
    if latest > interval + slack or regular < interval - slack:
        text = f"{regular:.3f} s between heartbeats instead of {interval:g} s"
        yield Verdict(oracle="O-11", text=text, records=[beat.n])


def _judge_offset(beat: ledger.Heartbeat, offset: float, limits: Limits) -> Iterator[Verdict]:
    most = limits.heartbeat_interval + limits.simulated(limits.timer_slack)
    if offset > most:
        text = f"the first heartbeat came {offset:.3f} s after HELLO"
        yield Verdict(oracle="O-11", text=text, records=[beat.n])


def _judge_jitter(offsets: list[float], moved: float, limits: Limits) -> Iterator[Verdict]:
    if len(offsets) < _JITTER_SAMPLE:
        return
    distance = uniform_distance([offset / limits.heartbeat_interval for offset in offsets])
    # What a late timer moves, compressed time magnifies.
    late = (limits.jitter + moved) / limits.heartbeat_interval
    if distance > _JITTER_BOUND / math.sqrt(len(offsets)) + late:
        text = f"the first heartbeats of {len(offsets)} connections are not spread evenly"
        yield Verdict(oracle="O-11", text=text)


def uniform_distance(sample: Sequence[float]) -> float:
    """Kolmogorov-Smirnov distance between a sample and the uniform distribution on 0 to 1."""
    size = len(sample)
    return max(
        max((rank + 1) / size - min(value, 1.0), min(value, 1.0) - rank / size)
        for rank, value in enumerate(sorted(sample))
    )
