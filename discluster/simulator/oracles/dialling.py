# SPDX-License-Identifier: Apache-2.0
"""O-07 and O-08: nobody comes back after a terminal refusal, and nobody dials without end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from discluster.simulator import ledger
from discluster.simulator.ledger import Record, Shard
from discluster.simulator.oracles.evidence import DROPPED, Evidence
from discluster.simulator.oracles.identifying import crowds
from discluster.simulator.oracles.verdict import Limits, Verdict
from discluster.simulator.validate import TERMINAL_CODES

_PERIOD: Final = 60.0
_OPERATOR: Final = ("token-accept", "intents")
# A shard may hang up on a good HELLO, without a word, this often in a row.
_SILENT: Final = 5
_MOST_NAMED: Final = 20


def terminal_closes_are_final(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """O-07: after a terminal close code or a 401 nobody comes back, until the operator acts.

    To be observed for ten simulated minutes.
    """
    verdict: Record | None = None
    late: list[int] = []
    for record in evidence.of(ledger.Fault, ledger.Close, ledger.Http, ledger.Open):
        if isinstance(record, ledger.Fault):
            if record.action in _OPERATOR:
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
        yield Verdict(oracle="O-07", text=text, records=[verdict.n, *late[:_MOST_NAMED]])


def dials_are_bounded(evidence: Evidence, limits: Limits, now: float) -> Iterator[Verdict]:
    """O-08: a shard dials at most so often in a minute, and a fleet as often as its shards may.

    A connection that never named its shard counts for its address, which may have all shards of
    the fleet. And who gets HELLO and hangs up without a word, again and again, makes no progress,
    however slowly it dials: so it ends when a client reuses a decompression context.
    """
    shards = evidence.shards()
    size = max(limits.shards, len(set(shards.values())))
    dials = evidence.of(ledger.Open)
    known: dict[Shard, list[Record]] = defaultdict(list)
    strange: dict[str, list[Record]] = defaultdict(list)
    for dial in dials:
        shard = shards.get(dial.connection or 0)
        if shard is None:
            strange[dial.address].append(dial)
        else:
            known[shard].append(dial)
    for shard, own in known.items():
        yield from _too_many(f"shard {shard}", own, limits.dials)
    for address, own in strange.items():
        yield from _too_many(f"{address}, without a shard,", own, limits.dials * size)
    if limits.fleet_dials is not None:
        yield from _too_many("the fleet", dials, limits.fleet_dials)
    yield from _mute_callers(evidence, size)


def _too_many(who: str, dials: list[Record] | list[ledger.Open], most: int) -> Iterator[Verdict]:
    worst = max(crowds(dials, most, _PERIOD), key=len, default=None)
    if worst is not None:
        text = f"{who} dialled {len(worst)} times in {_PERIOD:g} s instead of at most {most}"
        numbers = [record.n for record in worst[:_MOST_NAMED]]
        yield Verdict(oracle="O-08", text=text, records=numbers)


def _mute_callers(evidence: Evidence, size: int) -> Iterator[Verdict]:
    addresses = {dial.connection: dial.address for dial in evidence.of(ledger.Open)}
    touched = evidence.touched()
    row: dict[str, list[int]] = defaultdict(list)
    for record in evidence.of(ledger.Close, ledger.Ready, ledger.Resumed):
        address = addresses.get(record.connection)
        if address is None or record.connection in touched:
            continue
        if not isinstance(record, ledger.Close):
            row[address].clear()
        elif _said_nothing(record):
            row[address].append(record.n)
            if len(row[address]) == _SILENT * size + 1:
                text = f"{address} hung up on HELLO {len(row[address])} times in a row"
                yield Verdict(oracle="O-08", text=text, records=row[address][:_MOST_NAMED])


def _said_nothing(close: ledger.Close) -> bool:
    by_client = close.by != "server" and close.reason != DROPPED
    return by_client and not close.authenticated and close.heard == 0
