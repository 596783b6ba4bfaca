# SPDX-License-Identifier: Apache-2.0
"""A client's connection as the gateway sees it: compression, session, clocks, what to send."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypedDict

from discluster.simulator import ledger, payloads
from discluster.simulator.connection import Connection
from discluster.simulator.frames import Handshake, Opcode, frame
from discluster.simulator.ledger import Ledger, Shard
from discluster.simulator.limits import SlidingWindow
from discluster.simulator.sessions import Session, parameters

# Discord: Gateway, Rate Limiting; and the note on activity updates in Gateway Events.
SENDS: Final = (120, 60.0)
PRESENCES: Final = (5, 20.0)

# Dispatches rendered in one go, and in one turn of the event loop.
_BATCH = 128
_TURN = 1024


class About(TypedDict):
    """What records about a peer have in common."""

    connection: int
    shard: Shard | None
    session: str | None


class Peer:
    """State that lives and dies with one connection. `cursor`: last sequence sent on it."""

    def __init__(
        self,
        connection: Connection,
        handshake: Handshake,
        *,
        ledger: Ledger,
        encoding: tuple[Opcode, Callable[[bytes], bytes]],
        loop: asyncio.AbstractEventLoop,
        now: float,
    ) -> None:
        self.connection = connection
        self.number = connection.number
        self.path = handshake.path
        self.parameters = parameters(handshake.query)
        self.session: Session | None = None
        self.cursor = 0
        self.greeted = now
        self.last_beat: float | None = None
        self.requested: float | None = None
        self.withheld = 0
        self.excused = False  # it was muted, so it cannot be blamed for falling behind
        self.watch: asyncio.TimerHandle | None = None
        self.sends = SlidingWindow(limit=SENDS[0], period=SENDS[1])
        self.presences = SlidingWindow(limit=PRESENCES[0], period=PRESENCES[1])
        self._ledger = ledger
        self._opcode, self._encode = encoding
        self._loop = loop

    @property
    def about(self) -> About:
        """For records."""
        if self.session is None:
            return About(connection=self.number, shard=None, session=None)
        facts = self.session.facts
        return About(connection=self.number, shard=facts.shard, session=facts.id)

    def send(self, payload: bytes) -> None:
        """Send a payload that is not a dispatch."""
        self.connection.send(self._opcode, self._encode(payload))

    def flush(self) -> None:
        """Send what the session holds and this connection has not had, as far as it is writable."""
        session = self.session
        if session is None or session.connection != self.number or session.ended is not None:
            return
        if not session.holds(self.cursor) and not self.connection.muted:
            self._cut_off()
            return
        stop = self.cursor + _TURN
        while self.connection.writable and self.cursor < session.seq:
            if self.cursor >= stop:
                # Let the others have a turn; a long replay must not hold up their heartbeats.
                self._loop.call_soon(self.flush)
                return
            batch = session.payloads(self.cursor, _BATCH)
            opcode, encode = self._opcode, self._encode
            self.cursor += len(batch)
            self.connection.write([frame(opcode, encode(payload)) for payload in batch])

    def _cut_off(self) -> None:
        """What comes next is forgotten already."""
        if not self.excused:
            self.violation("slow-reader", "it reads so slowly that the replay buffer ran over")
        self.connection.close(4000, "Unknown error.")

    def invalidate(self, *, resumable: bool, about: About | None = None) -> None:
        """Send INVALID_SESSION; the connection stays and may authenticate again."""
        record = ledger.InvalidSession(**(about or self.about), resumable=resumable)
        self._ledger.append(record)
        self.session = None
        self.send(payloads.invalid_session(resumable=resumable))

    def reconnect(self) -> None:
        """Send RECONNECT."""
        self._ledger.append(ledger.Reconnect(**self.about))
        self.send(payloads.RECONNECT)

    def request_heartbeat(self, now: float) -> None:
        """Ask for a heartbeat at once."""
        if self.requested is None:
            self.requested = now
        self.send(payloads.HEARTBEAT_REQUEST)

    def violation(self, rule: str, text: str) -> None:
        """Note that the client broke a rule."""
        self._ledger.append(ledger.Violation(**self.about, rule=rule, text=text))
