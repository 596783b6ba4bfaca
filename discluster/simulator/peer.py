# SPDX-License-Identifier: Apache-2.0
"""A client's connection as the gateway sees it: compression, session, clocks, what to send."""

from __future__ import annotations

import asyncio
import zlib
from bisect import insort
from collections import deque
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final, TypedDict

from discluster.simulator import ledger, payloads
from discluster.simulator.burst import Burst, Outlet
from discluster.simulator.connection import Connection
from discluster.simulator.frames import Handshake, Opcode, frame
from discluster.simulator.ledger import Ledger, Shard
from discluster.simulator.limits import SlidingWindow
from discluster.simulator.sessions import Session, parameters
from discluster.simulator.shape import Shape

# Discord: Gateway, Rate Limiting; and the note on activity updates in Gateway Events.
SENDS: Final = (120, 60.0)
PRESENCES: Final = (5, 20.0)

# Dispatches rendered in one go, and in one turn of the event loop.
_BATCH = 128
_TURN = 1024


class About(TypedDict):
    """What records about a peer have in common."""

    connection: int | None
    bot: int | None
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
        self.heard = 0  # payloads of the client
        self.excused = False  # it was muted, so it cannot be blamed for falling behind
        self.watch: asyncio.TimerHandle | None = None
        self.burst: Burst | None = None  # what waits in front of everything else
        self.edge = connection.edge
        self.shape: Shape | None = None  # an odd way to write frames, by a script
        self.held = False  # dispatches wait for a script
        self.detour: deque[int] = deque()  # sequences to send before those after `cursor`
        self._marks: list[tuple[int, Callable[[], None]]] = []
        self.sends = SlidingWindow(limit=SENDS[0], period=SENDS[1])
        self.presences = SlidingWindow(limit=PRESENCES[0], period=PRESENCES[1])
        self._ledger = ledger
        self._opcode, self._encode = encoding
        self._loop = loop

    @property
    def about(self) -> About:
        """For records."""
        if self.session is None:
            return About(connection=self.number, bot=None, shard=None, session=None)
        facts = self.session.facts
        return About(connection=self.number, bot=facts.bot, shard=facts.shard, session=facts.id)

    @property
    def _outlet(self) -> Outlet:
        return self.connection if self.burst is None else self.burst

    @property
    def unsent(self) -> int:
        """Bytes of a burst that the socket has not taken yet."""
        return self.connection.unsent + (0 if self.burst is None else self.burst.left)

    def release(self) -> None:
        """Let the burst go, if there is one."""
        if self.burst is not None:
            self.burst.released = True
            self.flush()

    def send(self, payload: bytes) -> None:
        """Send a payload that is not a dispatch."""
        self._outlet.write(self._frames((payload,)))

    def mark(self, seq: int, act: Callable[[], None]) -> None:
        """Call `act` once, when everything up to `seq` is sent and nothing after it."""
        insort(self._marks, (seq, act), key=itemgetter(0))

    def forget_marks(self) -> None:
        """Another session begins."""
        self._marks.clear()
        self.detour.clear()
        self.held = False

    def compress_payloads(self) -> None:
        """From now on each payload is a zlib stream of its own, as `compress` in IDENTIFY asks.

        Not with transport compression, which discord.py for one asks for at the same time.
        (Discord: Gateway, Payload Compression.)
        """
        if self._opcode is Opcode.TEXT:
            self._opcode, self._encode = Opcode.BINARY, zlib.compress

    def flush(self) -> None:
        """Send what the session holds and this connection has not had, as far as it is writable."""
        self._drain()
        self._reach()
        session = self.session
        if session is None or not self._serves(session):
            return
        if not session.holds(self.cursor) and not self.connection.muted:
            self._cut_off()
            return
        stop = self.cursor + _TURN
        outlet = self._outlet
        while outlet.writable and self._serves(session) and self._waiting(session):
            if self.cursor >= stop:
                # Let the others have a turn; a long replay must not hold up their heartbeats.
                self._loop.call_soon(self.flush)
                return
            outlet.write(self._frames(self._next(session)))
            self._reach()

    def _serves(self, session: Session) -> bool:
        return (
            self.session is session and session.connection == self.number and session.ended is None
        )

    def _waiting(self, session: Session) -> bool:
        return not self.held and (self.cursor < session.seq or bool(self.detour))

    def _next(self, session: Session) -> list[bytes]:
        """The payloads that come next, up to a mark at most."""
        if self.detour:
            seq = self.detour.popleft()
            return session.payloads(seq - 1, 1) if session.holds(seq - 1) else []
        limit = min(_BATCH, self._marks[0][0] - self.cursor) if self._marks else _BATCH
        batch = session.payloads(self.cursor, limit)
        self.cursor += len(batch)
        return [payload for payload in batch if payload] if session.skips else batch

    def _reach(self) -> None:
        while self._marks and self._marks[0][0] <= self.cursor and not (self.held or self.detour):
            self._marks.pop(0)[1]()

    def _frames(self, payloads: Sequence[bytes]) -> list[bytes]:
        opcode, encode = self._opcode, self._encode
        if self.shape is not None:
            return self.shape.wire(payloads, opcode, encode)
        return [frame(opcode, encode(payload)) for payload in payloads]

    def flush_soon(self) -> None:
        """As `flush`, but not from within it."""
        self._loop.call_soon(self.flush)

    def _drain(self) -> None:
        burst = self.burst
        if burst is not None and burst.released and burst.drain(self.connection):
            self.burst = None

    def _cut_off(self) -> None:
        """What comes next is forgotten already."""
        if not self.excused:
            self.violation("slow-reader", "it reads so slowly that the replay buffer ran over")
        self.connection.close(4000, "Unknown error.")

    def invalidate(
        self, *, resumable: bool, about: About | None = None, d: str | None = None
    ) -> None:
        """Send INVALID_SESSION; the connection stays and may authenticate again.

        `d`: something else than true or false, see `payloads.invalid_session`.
        """
        record = ledger.InvalidSession(**(about or self.about), resumable=resumable)
        self._ledger.append(record)
        self.session = None
        self.forget_marks()
        self.send(payloads.invalid_session(d or ("true" if resumable else "false")))

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
