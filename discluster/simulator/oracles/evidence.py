# SPDX-License-Identifier: Apache-2.0
"""The ledger as the oracles read it: by bot, and by kind of record."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import TypeVar

from discluster.simulator import ledger
from discluster.simulator.ledger import Record, Shard
from discluster.simulator.oracles.verdict import Limits, Verdict

R = TypeVar("R", bound=Record)
_number = attrgetter("n")
_time = attrgetter("time")
_FOR_ALL = (ledger.Fault, ledger.HeldUp)

# Deeds of a script after which heartbeats and ends cannot be judged: they come late or never, or
# the client was given another interval.
_IMPAIRING = frozenset({"hello", "throttle", "stop-reading", "mute", "truncate", "corrupt"})

DROPPED = "dropped by the server"
"""Reason of a Close by TCP that was the server's doing."""


class Evidence:
    """Numbered records of one bot, in order. Kinds are sorted out once: ledgers are long."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self._kinds: dict[type[Record], list[Record]] = defaultdict(list)
        kinds = self._kinds
        for record in records:
            kinds[type(record)].append(record)
        self._held_up = self.of(ledger.HeldUp)

    def of(self, *kinds: type[R]) -> list[R]:
        """Records of these kinds, in order."""
        found = chain.from_iterable(self._kinds.get(kind, ()) for kind in kinds)
        chosen: list[R] = list(found)  # type: ignore[arg-type]  # _kinds has only its own kind
        return sorted(chosen, key=_number) if len(kinds) > 1 else chosen

    def lost(self, record: Record, seconds: float, limits: Limits) -> float:
        """For how long, in so many seconds up to a record, the simulator itself did not run: the
        client may have been quicker, or slower, by this much. Shortly before them, too: what had
        come in the meantime was still being read.
        """
        if not self._held_up:
            return 0.0
        reading = limits.simulated(limits.timer_slack)
        first = bisect_left(self._held_up, record.time - seconds - reading, key=_time)
        past = bisect_right(self._held_up, record.time + reading, key=_time)
        return sum(pause.seconds for pause in self._held_up[first:past])

    def shards(self) -> dict[int, Shard]:
        """The shard of each connection that ever named one."""
        named = self.of(ledger.Identify, ledger.Resume, ledger.Ready, ledger.Resumed)
        return {
            record.connection: record.shard
            for record in named
            if record.connection is not None and record.shard is not None
        }

    def touched(self) -> set[int]:
        """Connections on which a script or the control API made Discord misbehave."""
        faults = self.of(ledger.Fault, ledger.Scripted)
        return {record.connection for record in faults if record.connection is not None}

    def impaired(self) -> set[int]:
        """Those of them on which the simulator does not see in time what its client does."""
        scripted = {
            record.connection
            for record in self.of(ledger.Scripted)
            if record.connection is not None and not _IMPAIRING.isdisjoint(record.deeds)
        }
        return scripted | {
            record.connection
            for record in self.of(ledger.Fault)
            if record.connection is not None and record.action == "mute-connection"
        }


Oracle = Callable[[Evidence, Limits, float], Iterator[Verdict]]
"""(evidence, limits, end of the time that is judged in simulated seconds) to verdicts."""


def by_bot(records: Sequence[Record]) -> list[tuple[int | None, Evidence]]:
    """The records of each bot, and of those who never said whose they are.

    As long as there is one bot, everybody is taken for it.
    """
    bots = {record.bot for record in records if record.bot is not None}
    if len(bots) < 2:
        return [(None, Evidence(records))]
    owners = {
        record.connection: record.bot
        for record in records
        if record.bot is not None and record.connection is not None
    }
    cases: dict[int | None, list[Record]] = {bot: [] for bot in (*sorted(bots), None)}
    for record in records:
        bot = _bot_of(record, owners)
        if bot is None and record.connection is None and isinstance(record, _FOR_ALL):
            for everybody in cases.values():
                everybody.append(record)
        elif bot in cases:
            cases[bot].append(record)
    return [(bot, Evidence(own)) for bot, own in cases.items()]


def _bot_of(record: Record, owners: dict[int, int]) -> int | None:
    if record.bot is not None:
        return record.bot
    if record.connection is not None:
        return owners.get(record.connection)
    bot = record.detail.get("bot") if isinstance(record, ledger.Fault) else None
    return bot if isinstance(bot, int) else None
