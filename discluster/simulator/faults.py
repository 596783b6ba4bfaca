# SPDX-License-Identifier: Apache-2.0
"""What the control API can do to the simulated Discord and to its clients' connections."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import msgspec

from discluster.simulator import ledger
from discluster.simulator.gateway import Gateway
from discluster.simulator.intents import granted
from discluster.simulator.peer import Peer
from discluster.simulator.routing import reaches
from discluster.simulator.script import Which
from discluster.simulator.sessions import Session
from discluster.simulator.settings import PrivilegedIntent
from discluster.simulator.world import Bot


class FaultError(Exception):
    """What was asked for makes no sense now."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request to the control API."""


class OnShard(Asked, frozen=True, kw_only=True):
    """A request about shards."""

    shard: Which


class Drop(OnShard, frozen=True, kw_only=True):
    """Without a code: TCP reset. With one: close frame."""

    code: int | None = None


class CloseAsked(OnShard, frozen=True, kw_only=True):
    """A close frame; `code` null leaves it empty."""

    code: int | None = 1000
    reason: str = ""


class Invalidate(OnShard, frozen=True, kw_only=True):
    """`silent`: the client is not told."""

    resumable: bool = False
    silent: bool = False


class ReconnectAsked(OnShard, frozen=True, kw_only=True):
    """RECONNECT; with `close_after` the server closes (1001) that many seconds later."""

    close_after: float | None = None


class Event(Asked, frozen=True, kw_only=True):
    """A dispatch; with a guild_id in `d` it is counted like a streamed one.

    shard: who gets it, "routed" for those whom Discord would send it to by guild and intents.
    """

    shard: Which | Literal["routed"]
    t: str
    d: dict[str, object]


class Mute(OnShard, frozen=True, kw_only=True):
    """Half-open for so many seconds."""

    seconds: float = msgspec.field(name="for")


class WithholdAcks(OnShard, frozen=True, kw_only=True):
    """The next `count` heartbeats are not acknowledged."""

    count: int


class StreamRate(Asked, frozen=True, kw_only=True):
    """0 pauses."""

    events_per_second: float


class OnBot(Asked, frozen=True, kw_only=True):
    """A request about a bot: the index of its token."""

    bot: int = 0


class AcceptToken(OnBot, frozen=True, kw_only=True):
    """The owner made a new token; the old one is void."""

    token: str


class BudgetAsked(OnBot, frozen=True, kw_only=True):
    """Session starts that are left today."""

    remaining: int


class Intents(OnBot, frozen=True, kw_only=True):
    """Privileged intents from now on; taking one away closes all sessions."""

    privileged: tuple[PrivilegedIntent, ...]


class Faults:
    """Each method does what it says and returns how many shards it touched."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._world = gateway.world

    def sessions(self, which: Which) -> list[Session]:
        """Living sessions; raises FaultError if a named shard has none."""
        living = list(self._world.sessions.values())
        if which == "all":
            return living
        chosen = [
            session
            for session in living
            if session.facts.shard == which or session.facts.shard[0] == which
        ]
        if not chosen:
            raise FaultError(f"shard {which} has no living session", "GET /shards lists them")
        return chosen

    def drop(self, asked: Drop) -> int:
        """Reset the connection, or close it with a code."""
        peers = self.connected(asked.shard)
        self._note("drop", asked.shard, code=asked.code)
        for peer in peers:
            if asked.code is None:
                peer.connection.drop()
            else:
                peer.connection.close(asked.code)
        return len(peers)

    def close(self, asked: CloseAsked) -> int:
        """Close the connection; some codes end the session, as with Discord."""
        peers = self.connected(asked.shard)
        self._note("close", asked.shard, code=asked.code)
        for peer in peers:
            peer.connection.close(asked.code, asked.reason)
        return len(peers)

    def invalidate(self, asked: Invalidate) -> int:
        """Invalidate sessions, or (resumable) cut them loose from their connections."""
        sessions = self.sessions(asked.shard)
        self._note("invalidate", asked.shard, resumable=asked.resumable, silent=asked.silent)
        for session in sessions:
            peer = self._peer(session)
            if asked.resumable:
                if peer is not None:
                    self._world.detach(session)
            else:
                self._world.end(session, "invalidated")
            if peer is not None and not asked.silent:
                peer.invalidate(resumable=asked.resumable)
        return len(sessions)

    def reconnect(self, asked: ReconnectAsked) -> int:
        """Send RECONNECT."""
        peers = self.connected(asked.shard)
        self._note("reconnect", asked.shard, close_after=asked.close_after)
        for peer in peers:
            peer.reconnect()
            if asked.close_after is not None:
                close = partial(peer.connection.close, 1001)
                self._world.timing.later(asked.close_after, close)
        return len(peers)

    def event(self, asked: Event) -> int | None:
        """Send one event; returns its count if it has a guild."""
        sessions = self._routed(asked) if asked.shard == "routed" else self.sessions(asked.shard)
        self._note("event", None if asked.shard == "routed" else asked.shard, t=asked.t)
        count = None
        for bot in self._world.bots:
            own = [session for session in sessions if session.facts.bot == bot.index]
            if own:
                count = bot.producer.inject(asked.t, asked.d, own)
        for session in sessions:
            self._gateway.flush(session)
        return count

    def _routed(self, asked: Event) -> list[Session]:
        guild = asked.d.get("guild_id")
        number = int(guild) if isinstance(guild, str | int) and str(guild).isdecimal() else None
        intents = self._world.catalogue.intents
        living = self._world.sessions.values()
        return [s for s in living if reaches(s.facts, asked.t, number, intents)]

    def request_heartbeat(self, asked: OnShard) -> int:
        """Ask for a heartbeat at once."""
        peers = self.connected(asked.shard)
        self._note("heartbeat-request", asked.shard)
        for peer in peers:
            peer.request_heartbeat(self._world.timing.now())
        return len(peers)

    def mute(self, asked: Mute) -> int:
        """Make connections half-open for a while."""
        peers = self.connected(asked.shard)
        self._note("mute", asked.shard, seconds=asked.seconds)
        for peer in peers:
            self._note_peer("mute", peer)
            peer.excused = True
            peer.connection.mute(True)
            self._world.timing.later(asked.seconds, partial(peer.connection.mute, False))
        return len(peers)

    def withhold_acks(self, asked: WithholdAcks) -> int:
        """Leave heartbeats without an answer."""
        peers = self.connected(asked.shard)
        self._note("withhold-acks", asked.shard, count=asked.count)
        for peer in peers:
            peer.withheld = asked.count
        return len(peers)

    def stream(self, asked: StreamRate) -> int:
        """Change the rate of events of all shards."""
        if asked.events_per_second < 0:
            raise FaultError("events_per_second must be at least 0", "0 pauses the stream")
        self._note("stream", None, events_per_second=asked.events_per_second)
        for bot in self._world.bots:
            bot.producer.rate = asked.events_per_second
        return len(self._world.sessions)

    def revoke_token(self, asked: OnBot) -> int:
        """Void a bot's token: all its sessions end with 4003."""
        bot = self._bot(asked.bot)
        self._note("token-revoke", None, bot=asked.bot)
        touched = self._sessions_of(bot)
        self._gateway.revoke(bot)
        return touched

    def accept_token(self, asked: AcceptToken) -> int:
        """Give a bot a new token: the sessions of the old one end with 4003."""
        bot = self._bot(asked.bot)
        if not asked.token or any(other.token == asked.token for other in self._world.bots):
            raise FaultError("the token is empty or known already", "take a fresh one")
        self._note("token-accept", None, bot=asked.bot)
        touched = self._sessions_of(bot)
        self._gateway.revoke(bot)
        bot.token, bot.revoked = asked.token, False
        return touched

    def budget(self, asked: BudgetAsked) -> int:
        """Set what is left of the daily session starts."""
        if asked.remaining < 0:
            raise FaultError("remaining must be at least 0", "0 makes the next IDENTIFY fatal")
        self._note("budget", None, bot=asked.bot, remaining=asked.remaining)
        self._bot(asked.bot).budget.set_remaining(asked.remaining, self._world.timing.now())
        return 0

    def intents(self, asked: Intents) -> int:
        """Change the privileged intents; if one is taken away, all sessions end with 4003."""
        bot = self._bot(asked.bot)
        self._note("intents", None, bot=asked.bot, privileged=",".join(asked.privileged))
        before, bot.granted = bot.granted, granted(asked.privileged)
        if not before & ~bot.granted:
            return 0
        touched = self._sessions_of(bot)
        self._gateway.revoke(bot, token=False)
        return touched

    def _bot(self, index: int) -> Bot:
        if not 0 <= index < len(self._world.bots):
            raise FaultError(
                f"there is no bot {index}", "count from 0 in the order of the setting tokens"
            )
        return self._world.bots[index]

    def _sessions_of(self, bot: Bot) -> int:
        return sum(session.facts.bot == bot.index for session in self._world.sessions.values())

    def _peer(self, session: Session) -> Peer | None:
        if session.connection is None:
            return None
        return self._gateway.peers.get(session.connection)

    def connected(self, which: Which) -> Sequence[Peer]:
        """Connections of living sessions; raises FaultError if a named shard has none."""
        peers = [self._peer(session) for session in self.sessions(which)]
        connected = [peer for peer in peers if peer is not None]
        if not connected and which != "all":
            raise FaultError(f"shard {which} is not connected", "GET /shards shows the states")
        return connected

    def _note(self, action: str, which: Which | None, **detail: str | float | bool | None) -> None:
        shard = which if isinstance(which, tuple) else None
        if which is not None and shard is None:
            detail["shard"] = which if isinstance(which, int) else "all"
        self._world.ledger.append(ledger.Fault(action=action, shard=shard, detail=detail))

    def _note_peer(self, action: str, peer: Peer) -> None:
        self._world.ledger.append(ledger.Fault(**peer.about, action=action + "-connection"))
