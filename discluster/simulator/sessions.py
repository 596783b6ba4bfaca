# SPDX-License-Identifier: Apache-2.0
"""Gateway sessions: sequence numbers, the replay buffer, what was acknowledged. No I/O.

A session outlives its connections. What it should receive is put into its buffer; the connection
that is attached to it, if any, sends from there. So live events, a replay and a stalled reader
are one mechanism.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from discluster.simulator.intents import Intent
from discluster.simulator.ledger import Shard
from discluster.simulator.templates import NOTHING, AnyTemplate

Entry = tuple[AnyTemplate, int, int]
"""Template, guild id, count: rendered when it is sent, so that a long buffer stays small."""

Parameters = tuple[str | None, str | None, str | None]
"""`v`, `encoding` and `compress` of a connection's query."""

RESUMABLE_PARAMETERS: Final = ("v", "encoding", "compress")


def parameters(query: dict[str, str]) -> Parameters:
    """The part of a connection's query that a RESUME must repeat."""
    return query.get("v"), query.get("encoding"), query.get("compress")


class SentLog:
    """The newest `limit` counted events of one shard: guild, count and sequence, by session."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values = array("Q")
        self._sessions: list[str] = []
        self._nobody: int | None = None

    def begin(self, session: str) -> int:
        """A session of the shard starts; returns its number for `add`."""
        self._sessions.append(session)
        return len(self._sessions) - 1

    def add(self, guild: int, count: int, seq: int, session: int = 0) -> None:
        """Remember one event."""
        values = self._values
        values.extend((guild, count, seq, session))
        if len(values) >= 8 * self._limit:
            del values[: len(values) - 4 * self._limit]

    def miss(self, guild: int, count: int) -> None:
        """Remember an event that no session was there for; its session is the empty string."""
        if self._nobody is None:
            self._nobody = self.begin("")
        self.add(guild, count, 0, self._nobody)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        values = self._values[-4 * self._limit :]
        return zip(values[0::4], values[1::4], values[2::4], strict=True)

    def sessions(self) -> Iterator[str]:
        """Of each event, the id of the session that it was sent in."""
        names = self._sessions
        return (names[number] for number in self._values[-4 * self._limit :][3::4])


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """What is settled when a session starts. `bot`: index of its token."""

    id: str
    bot: int
    shard: Shard
    sharded: bool
    intents: int
    parameters: Parameters
    edge: str
    resume_url: str
    since: float


class Session:
    """One session. `seq` is the last that was given out, READY's is 1."""

    def __init__(self, facts: SessionFacts, *, replay_events: int, sent: SentLog) -> None:
        self.facts = facts
        self.seq = 0
        self.acknowledged = 0
        self.guilds = 0
        self.streaming = False
        self.connection: int | None = None
        self.ended: str | None = None
        self.unusable = False  # its client cannot resume it, since its READY was no good
        self.detached = 0  # how often its connection was lost
        self.claimed = 0  # the highest sequence that a script made up
        self.skips = False  # whether some sequences are never sent
        self.content = bool(facts.intents & Intent.MESSAGE_CONTENT)
        self.sent = sent
        self._replay_events = replay_events
        self._number = sent.begin(facts.id)
        self._entries: list[Entry] = []
        self._first = 1  # sequence of _entries[0]

    def append(self, template: AnyTemplate, guild: int = 0, count: int = 0) -> int:
        """Give the next sequence to a dispatch; returns it."""
        self.seq += 1
        self._entries.append((template, guild, count))
        if template.counted:
            self.sent.add(guild, count, self.seq, self._number)
        # Besides what a RESUME may ask for, the guilds of a session that just began: they are
        # all put in at once, and its connection needs time to send them.
        kept = self._replay_events + self.guilds + 1
        if len(self._entries) >= 2 * kept:
            dropped = len(self._entries) - kept
            del self._entries[:dropped]
            self._first += dropped
        return self.seq

    def skip(self, sequences: int) -> None:
        """Use up sequences that are never sent."""
        self.skips = True
        for _ in range(sequences):
            self.append(NOTHING)

    def replayable(self, seq: int) -> bool:
        """Whether a RESUME may ask for everything after `seq`."""
        return self.seq - seq <= self._replay_events

    def holds(self, seq: int) -> bool:
        """Whether everything after `seq` is still in the buffer."""
        return seq + 1 >= self._first

    def payloads(self, after: int, limit: int) -> list[bytes]:
        """Up to `limit` rendered dispatches that follow `after`; it must be held."""
        start = after + 1 - self._first
        content = self.content
        return [
            template.render(seq, guild, count, content)
            for seq, (template, guild, count) in enumerate(
                self._entries[start : start + limit], after + 1
            )
        ]

    def acknowledge(self, seq: int) -> None:
        """The client said that it has seen everything up to `seq`."""
        self.acknowledged = max(self.acknowledged, min(seq, self.seq))

    def forget(self) -> None:
        """Drop the replay buffer of a session that has ended."""
        self._first += len(self._entries)
        self._entries.clear()

    @property
    def unacknowledged(self) -> int:
        """Dispatches that the client has not yet said it has seen."""
        return self.seq - self.acknowledged
