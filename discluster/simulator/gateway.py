# SPDX-License-Identifier: Apache-2.0
"""The gateway: connections, their frames, heartbeats, and how they end."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

from discluster.simulator import ledger, payloads
from discluster.simulator.commands import Commands
from discluster.simulator.compression import SCHEMES, make_encoder
from discluster.simulator.connection import Closer, Connection
from discluster.simulator.deeds import Hello
from discluster.simulator.edges import MAIN, Listener
from discluster.simulator.frames import Handshake, Message, refuse_handshake
from discluster.simulator.login import Login
from discluster.simulator.peer import Peer
from discluster.simulator.performer import Course, Performer
from discluster.simulator.script import Script
from discluster.simulator.sessions import Session
from discluster.simulator.validate import (
    OPERATOR_CODES,
    SESSION_ENDING_CODES,
    HeartbeatFrame,
    IdentifyFrame,
    Refusal,
    ResumeFrame,
    read_frame,
)
from discluster.simulator.world import Bot, World

# Larger messages cannot be told from an attack; up to here they are read whole, and refused with
# 4002 and an orderly close.
_MAX_MESSAGE = 1 << 16

# Real seconds that clients get to answer the close frame when the simulator ends.
_FAREWELL = 0.5


class Gateway:
    """Implements `connection.Owner`."""

    def __init__(self, world: World, *, loop: asyncio.AbstractEventLoop) -> None:
        self.world = world
        self.peers: dict[int, Peer] = {}
        self._settings = world.settings
        self._loop = loop
        self._opened = 0
        self._connections: set[Connection] = set()
        self._gone = asyncio.Event()
        self.performer = Performer(world, Script(), self.peers)
        self._commands = Commands(world, self.performer)
        self._login = Login(
            world,
            performer=self.performer,
            revoke=self.revoke,
            take_over=self._take_over,
            refuse=self._refuse,
        )

    def listener(self, edge: str | None, tls: ssl.SSLContext | None) -> Listener:
        """A listener of one edge, or of all that have none (None)."""
        make = partial(self._connection, edge)
        return Listener(make, loop=self._loop, tls=tls)

    def pump(self, seconds: float) -> None:
        """Let events happen for real `seconds`, and send them."""
        for bot in self.world.bots:
            for session in bot.producer.tick(seconds):
                self.flush(session)

    def flush(self, session: Session) -> None:
        """Send what a session holds, if it is attached."""
        if session.connection is not None and session.connection in self.peers:
            self.peers[session.connection].flush()

    def revoke(self, bot: Bot, *, token: bool = True) -> None:
        """End all sessions of a bot; with `token`, its token is void from now on."""
        bot.revoked = bot.revoked or token
        for session in list(self.world.sessions.values()):
            if session.facts.bot == bot.index:
                connection = session.connection
                self.world.end(session, "revoked")
                if connection in self.peers:
                    peer = self.peers[connection]
                    peer.connection.close(self._settings.revocation_close, "Not authenticated.")

    async def shut(self) -> None:
        """End all connections, as a machine that is shut down would; returns when they are gone."""
        for connection in list(self._connections):
            connection.close(1001, "Going away.")
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._all_gone()
        except TimeoutError:
            for connection in list(self._connections):
                connection.drop()
            await self._all_gone()

    async def _all_gone(self) -> None:
        while self._connections:
            self._gone.clear()
            await self._gone.wait()

    # What connections say

    def asked(self, connection: Connection, handshake: Handshake) -> None:
        edges = self.world.edges
        if connection.edge is None:
            connection.edge = edges.at_path(handshake.path)
        elif handshake.path != "/":
            connection.edge = None
        if connection.edge is None:
            connection.refuse(refuse_handshake(404, f"no such path: {handshake.path}\n".encode()))
        elif edges.state(connection.edge) == "refusing":
            connection.drop()
        elif edges.state(connection.edge) == "black-hole":
            connection.hold()
        else:
            self.performer.upgrade(connection)

    def opened(self, connection: Connection, handshake: Handshake) -> None:
        self._opened += 1
        connection.number = self._opened
        now, query = self.world.timing.now(), handshake.query
        peer = Peer(
            connection,
            handshake,
            ledger=self.world.ledger,
            encoding=make_encoder(
                query.get("compress"),
                zlib_level=self._zlib_level(),
                zstd_level=self._settings.zstd_level,
            ),
            loop=self._loop,
            now=now,
        )
        self.peers[peer.number] = peer
        self.world.ledger.append(
            ledger.Open(
                connection=peer.number,
                path=handshake.path,
                query=query,
                user_agent=handshake.user_agent,
                address=connection.address,
                edge=connection.edge or MAIN,
            )
        )
        self._greet(peer, query)

    def received(self, connection: Connection, message: Message) -> None:
        peer = self.peers[connection.number]
        peer.heard += 1
        now = self.world.timing.now()
        if not peer.sends.hit(now):
            self._refuse(peer, Refusal(4008, "Rate limited.", "send-rate"))
            return
        asked = read_frame(message.payload, authenticated=peer.session is not None)
        if isinstance(asked, Refusal):
            self._refuse(peer, asked)
        elif isinstance(asked, HeartbeatFrame):
            self._heartbeat(peer, asked, now)
        elif isinstance(asked, IdentifyFrame):
            self._login.identify(peer, asked)
        elif isinstance(asked, ResumeFrame):
            self._login.resume(peer, asked)
        elif peer.session is not None and not self._commands.handle(peer, peer.session, asked):
            self._refuse(peer, Refusal(4008, "Rate limited.", "presence-rate"))

    def arrived(self, connection: Connection) -> None:
        self._connections.add(connection)

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._gone.set()

    def writable(self, connection: Connection) -> None:
        self.peers[connection.number].flush()

    def closed(self, connection: Connection, by: Closer, code: int | None, reason: str) -> None:
        peer = self.peers.pop(connection.number)
        if peer.watch is not None:
            peer.watch.cancel()
        session = peer.session
        self.world.ledger.append(
            ledger.Close(
                **peer.about,
                by=by,
                code=code,
                reason=reason,
                authenticated=session is not None,
                heard=peer.heard,
            )
        )
        if session is None or session.connection != peer.number:
            return
        if by == "client" and code in (1000, 1001):
            self.world.end(session, "client-closed")
        elif by == "server" and code in SESSION_ENDING_CODES:
            self.world.end(session, f"closed-{code}")
        else:
            self.world.detach(session)

    # Inside

    def _connection(self, edge: str | None) -> Connection:
        return Connection(self, loop=self._loop, max_message=_MAX_MESSAGE, edge=edge)

    def _zlib_level(self) -> int:
        mixed = self.world.draw("zlib", self._opened).choice((6, 6, 6, 9))
        return self._settings.zlib_level or mixed

    def _greet(self, peer: Peer, query: dict[str, str]) -> None:
        if query.get("v") != "10":
            self._refuse(peer, Refusal(4012, "Invalid API version.", "api-version"))
            return
        if query.get("encoding") != "json":
            self._refuse(peer, Refusal(4002, "Only encoding=json is simulated.", "encoding"))
            return
        if query.get("compress") not in (None, *SCHEMES):
            peer.violation("compress", "an unknown value of compress is ignored")
        self.performer.act("accepted", peer, lambda _: self._offer(peer))

    def _offer(self, peer: Peer) -> None:
        self.performer.act("hello", peer, partial(self._hello, peer))

    def _hello(self, peer: Peer, course: Course) -> None:
        odd = next((deed for deed in course.deeds if isinstance(deed, Hello)), None)
        peer.greeted = self.world.timing.now()
        if odd is None:
            peer.send(payloads.hello(self.world.timing.real(self._settings.heartbeat_interval)))
            self._watch(peer)
        else:  # whoever cannot know the interval is not judged by it
            peer.send(payloads.odd_hello(... if odd.missing else odd.interval))

    def _heartbeat(self, peer: Peer, beat: HeartbeatFrame, now: float) -> None:
        last = peer.last_beat
        self.world.ledger.append(
            ledger.Heartbeat(
                **peer.about,
                seq=beat.seq,
                gap=None if last is None else now - last,
                offset=now - peer.greeted if last is None else None,
                requested=None if peer.requested is None else now - peer.requested,
                acknowledged=not peer.withheld,
            )
        )
        peer.last_beat, peer.requested = now, None
        if beat.odd:
            peer.violation("heartbeat-shape", beat.odd)
        session = peer.session
        if session is not None and beat.seq is not None:
            if not 1 <= beat.seq <= max(session.seq, session.claimed):
                peer.violation("heartbeat-seq", f"{beat.seq} was not sent in this session")
            session.acknowledge(beat.seq)
        if peer.withheld:
            peer.withheld -= 1
        else:
            self.performer.act("heartbeat", peer, lambda _: self._acknowledge(peer))

    def _acknowledge(self, peer: Peer) -> None:
        short = self._settings.short_acks
        peer.send(payloads.SHORT_HEARTBEAT_ACK if short else payloads.HEARTBEAT_ACK)

    def _watch(self, peer: Peer) -> None:
        """Look again when the next heartbeat is overdue, if none comes until then."""
        timing, settings = self.world.timing, self._settings
        limit = settings.heartbeat_interval + settings.heartbeat_tolerance
        last = peer.greeted if peer.last_beat is None else peer.last_beat
        left = last + limit + self.world.attention.lost(last) - timing.now()
        if left > 0 or peer.connection.deaf:
            again = max(left, settings.heartbeat_interval / 20)
            peer.watch = timing.later(again, lambda: self._watch(peer))
            return
        peer.violation("heartbeat-missed", f"no heartbeat within {limit:g} s")
        if settings.missed_heartbeat_close:
            peer.connection.close(settings.missed_heartbeat_close)
        else:
            peer.connection.drop()

    def _refuse(self, peer: Peer, refusal: Refusal) -> None:
        # A rejected token, shard or intent is the operator's affair; the rest is a client's fault.
        if refusal.code not in OPERATOR_CODES:
            peer.violation(refusal.rule, f"closed with {refusal.code}: {refusal.reason}")
        peer.connection.close(refusal.code, refusal.reason)

    def _take_over(self, number: int) -> None:
        if number in self.peers:
            self.peers[number].connection.close(self._settings.takeover_close, "Unknown error.")
