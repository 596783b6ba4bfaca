# SPDX-License-Identifier: Apache-2.0
"""What the control API can do about bursts: prepare them, let them go, and see how far they are."""

from __future__ import annotations

import asyncio

from discluster.simulator import ledger
from discluster.simulator.burst import Burst, BurstView
from discluster.simulator.faults import FaultError, Faults, OnShard
from discluster.simulator.gateway import Gateway
from discluster.simulator.peer import Peer
from discluster.simulator.script import Which
from discluster.simulator.sessions import Session

# Events made in one turn of the event loop, so that heartbeats are still read in between. Less
# than any replay buffer that makes sense: what is made must be rendered before it is forgotten.
_SLICE = 128


class PrepareBurst(OnShard, frozen=True, kw_only=True):
    """`events` for each of the chosen connections."""

    shard: Which = "all"
    events: int = 30_000


class Bursts:
    """Bursts of all connections.

    From prepare until its release is over, everything else for that connection queues behind the
    burst, acknowledgements of heartbeats too. The events are ordinary ones of MESSAGE_CREATE:
    they have sequences and guild counters, GET /sent has them, and a RESUME replays them as far
    as the replay buffer reaches.
    """

    def __init__(self, gateway: Gateway, faults: Faults) -> None:
        self._gateway = gateway
        self._world = gateway.world
        self._faults = faults
        self._peers: list[Peer] = []
        self._events = 0
        self._bytes = 0

    async def prepare(self, asked: PrepareBurst) -> int:
        """Make and compress the events; returns how many in all. Raises FaultError."""
        if asked.events < 1:
            raise FaultError("events must be at least 1", "30000 is a usual burst")
        peers = self._faults.connected(asked.shard)
        if not peers:
            raise FaultError("no shard is connected", "wait until the shards are ready")
        if all(peer.burst is None for peer in self._peers):
            self._peers, self._events, self._bytes = [], 0, 0
        self._note("burst-prepare", shards=len(peers), events=asked.events)
        made = 0
        for peer in peers:
            made += await self._fill(peer, asked.events)
        self._events += made
        return made

    def release(self) -> int:
        """Write all that is prepared as fast as its clients read; returns the events."""
        waiting = [peer for peer in self._peers if peer.burst is not None]
        self._note("burst-release", shards=len(waiting), events=self._events)
        self._bytes = sum(peer.burst.size for peer in waiting if peer.burst is not None)
        for peer in waiting:
            peer.release()
        return self._events

    def view(self) -> BurstView:
        """How far it is."""
        living = [peer for peer in self._peers if peer.number in self._gateway.peers]
        held = [peer.burst for peer in living if peer.burst is not None]
        released = any(burst.released for burst in held)
        return BurstView(
            connections=len(held),
            events=self._events,
            bytes=self._bytes if released or not held else sum(burst.size for burst in held),
            unsent=sum(peer.unsent for peer in living),
        )

    async def _fill(self, peer: Peer, events: int) -> int:
        session = peer.session
        if session is None:
            return 0
        bot = self._world.bot_of(session)
        if not bot.producer.can_burst(session):
            raise FaultError(
                f"shard {session.facts.shard} has no guilds, or not the intent GUILD_MESSAGES",
                "give the bot more guilds, or identify with more intents",
            )
        peer.flush()
        if peer.burst is None:
            peer.burst = Burst()
        if peer not in self._peers:
            self._peers.append(peer)
        return await self._render(peer, session, events)

    async def _render(self, peer: Peer, session: Session, events: int) -> int:
        producer = self._world.bot_of(session).producer
        made = 0
        while made < events and session.connection == peer.number:
            for other in producer.burst(session, min(_SLICE, events - made)):
                self._gateway.flush(other)
            made += min(_SLICE, events - made)
            await asyncio.sleep(0)
        return made

    def _note(self, action: str, **detail: int) -> None:
        self._world.ledger.append(ledger.Fault(action=action, detail={**detail}))
