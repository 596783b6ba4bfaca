# SPDX-License-Identifier: Apache-2.0
"""O-05: a session that can be resumed is resumed, and from the right sequence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from discluster.simulator import ledger
from discluster.simulator.ledger import Record, Shard
from discluster.simulator.oracles.evidence import Evidence
from discluster.simulator.oracles.sessions import died
from discluster.simulator.oracles.verdict import Limits, Verdict

# Who could not resume a session so often may give it up.
_ATTEMPTS: Final = 3
# Points of a script that make READY or RESUME fail, on a connection whose session is known; and
# those that keep clients from getting so far, whoever they are.
_SPOILING: Final = frozenset({"identify", "ready", "resume", "replay", "resumed"})
_BLOCKING: Final = frozenset({"upgrade", "accepted", "hello"})


@dataclass
class _Life:
    """A session that can be resumed. `beat`: highest sequence that a heartbeat of it named."""

    name: str
    shard: Shard
    begin: ledger.Ready
    connection: int | None
    known: bool = True  # READY came to its client
    attempts: int = 0  # to resume it, since it was last connected
    lost: float = 0.0  # when it lost its connection
    beat: int = 0
    resumed_from: int = 0


class _Watch:
    """Follows the sessions of one bot through the ledger."""

    def __init__(self, evidence: Evidence, limits: Limits) -> None:
        self._evidence = evidence
        self._limits = limits
        self._lives: dict[str, _Life] = {}
        self._shards: dict[Shard, list[_Life]] = defaultdict(list)
        self._rivals: dict[str, ledger.Identify] = {}  # sent while the session was connected
        self._blocked = -1.0  # when somebody was last kept from connecting
        self._down: set[object] = set()  # edges that are out of order
        self._spoiled: set[int | None] = set()  # connections whose READY may be worth nothing
        self.sees: dict[type[Record], Callable[[Any], Iterator[Verdict]]] = {
            ledger.Scripted: self._scripted,
            ledger.Fault: self._fault,
            ledger.Ready: self._ready,
            ledger.SessionEnd: self._end,
            ledger.InvalidSession: self._invalid,
            ledger.Heartbeat: self._heartbeat,
            ledger.Identify: self._identify,
            ledger.Resume: self._resume,
            ledger.Resumed: self._resumed,
            ledger.Close: self._close,
        }

    def _scripted(self, record: ledger.Scripted) -> Iterator[Verdict]:
        if record.point in _BLOCKING:
            self._blocked = record.time
        elif record.point in _SPOILING:
            self._spoiled.add(record.connection)
            for life in self._shards[record.shard] if record.shard else ():
                life.known = False
        return iter(())

    def _fault(self, record: ledger.Fault) -> Iterator[Verdict]:
        if record.action == "edge-back":
            self._down.discard(record.detail.get("edge"))
            self._blocked = record.time
        elif record.action.startswith("edge-"):
            self._down.add(record.detail.get("edge"))
        return iter(())

    def _ready(self, record: ledger.Ready) -> Iterator[Verdict]:
        if record.session is not None and record.shard is not None:
            life = _Life(record.session, record.shard, record, record.connection)
            life.known = record.connection not in self._spoiled
            self._lives[life.name] = life
            self._shards[life.shard].append(life)
        return iter(())

    def _invalid(self, record: ledger.InvalidSession) -> Iterator[Verdict]:
        """Its client was told to forget it, even if it lives on, as for a token with "Bot "."""
        return iter(()) if record.resumable else self._end(record)

    def _end(self, record: ledger.SessionEnd | ledger.InvalidSession) -> Iterator[Verdict]:
        life = self._lives.pop(record.session or "", None)
        if life is not None:
            self._shards[life.shard].remove(life)
            self._rivals.pop(life.name, None)
        return iter(())

    def _heartbeat(self, record: ledger.Heartbeat) -> Iterator[Verdict]:
        life = self._lives.get(record.session or "")
        if life is not None and record.seq is not None:
            life.beat = max(life.beat, record.seq)
        return iter(())

    def _identify(self, record: ledger.Identify) -> Iterator[Verdict]:
        if record.shard is None or record.lane is None:
            return
        for life in self._shards[record.shard]:
            if life.connection is not None:
                self._rivals[life.name] = record
            elif self._resumable(life):
                yield _verdict(life, record, "identified while session {} could be resumed")
                return

    def _resumable(self, life: _Life) -> bool:
        blocked = bool(self._down) or self._blocked >= life.lost
        return life.known and life.attempts < _ATTEMPTS and not blocked

    def _resume(self, record: ledger.Resume) -> Iterator[Verdict]:
        life = self._lives.get(record.session or "")
        if life is None:
            if record.shard is not None:
                others = filter(self._resumable, self._shards[record.shard])
                other = next((one for one in others if one.connection is None), None)
                if other is not None:
                    yield _verdict(other, record, "resumed another session though {} was alive")
            return
        life.attempts += 1
        if record.seq is not None:
            floor = max(life.resumed_from, life.beat)
            if self._limits.resume_from == "received" and record.seq < floor:
                yield _verdict(life, record, f"resumed {{}} from {record.seq}, not from {floor}")
            life.resumed_from = record.seq

    def _resumed(self, record: ledger.Resumed) -> Iterator[Verdict]:
        life = self._lives.get(record.session or "")
        if life is not None:
            life.connection, life.attempts, life.known = record.connection, 0, True
        return iter(())

    def _close(self, record: ledger.Close) -> Iterator[Verdict]:
        life = self._lives.get(record.session or "")
        if life is None or life.connection != record.connection:
            return
        life.connection, life.lost = None, record.time
        if died(record):
            life.beat = 0  # what it had received died with it
        lived = record.time - life.begin.time
        lived -= self._evidence.lost(record, lived, self._limits)
        if lived < self._limits.simulated(self._limits.delivery):
            life.known = False
        rival = self._rivals.pop(life.name, None)
        soon = self._limits.simulated(self._limits.overlap)
        if rival is not None and record.time - rival.time <= soon and self._resumable(life):
            yield _verdict(life, rival, "identified while session {} could be resumed")


def _verdict(life: _Life, record: Record, text: str) -> Verdict:
    said = f"shard {life.shard} {text.format(life.name)}"
    return Verdict(oracle="O-05", text=said, records=sorted((life.begin.n, record.n)))


def living_sessions_are_resumed(
    evidence: Evidence, limits: Limits, now: float
) -> Iterator[Verdict]:
    """O-05: the next authenticated frame of the shard is RESUME, with that session.

    Its sequence is judged by what the client declares, see Limits; one that was never sent is
    noted on the spot. Not blamed: who cannot have got READY, who failed to resume three times,
    and who was kept from it by a script. Who identifies while the session is still connected, and
    stays, has two connections: that is O-09.
    """
    watch = _Watch(evidence, limits)
    for record in evidence.of(*watch.sees):
        yield from watch.sees[type(record)](record)
