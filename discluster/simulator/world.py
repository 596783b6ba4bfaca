# SPDX-License-Identifier: Apache-2.0
"""The simulated Discord behind the sockets: bots, their budgets, and all sessions."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable

from discluster.simulator import ledger
from discluster.simulator.attention import Attention
from discluster.simulator.edges import Edges
from discluster.simulator.events import Catalogue
from discluster.simulator.identify import DailyBudget, IdentifyRule
from discluster.simulator.intents import granted
from discluster.simulator.ledger import Ledger, Shard
from discluster.simulator.limits import SlidingWindow
from discluster.simulator.producer import Producer
from discluster.simulator.sessions import Parameters, SentLog, Session, SessionFacts
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.timing import Timing

GATEWAY_BOT_PERIOD = 5.0


class Bot:
    """One token and what it may do."""

    def __init__(
        self,
        index: int,
        token: str,
        settings: SimulatorSettings,
        catalogue: Catalogue,
        now: float,
        lost: Callable[[float], float],
    ) -> None:
        self.index = index
        self.token = token
        self.revoked = False
        self.granted = granted(settings.privileged_intents)
        self.rule = IdentifyRule(
            max_concurrency=settings.max_concurrency,
            interval=settings.identify_interval,
            tolerance=settings.identify_tolerance,
            rejection_restarts=settings.rejected_identify_restarts_interval,
            lost=lost,
        )
        remaining = settings.session_start_remaining
        self.budget = DailyBudget(
            total=settings.session_start_total,
            remaining=settings.session_start_total if remaining is None else remaining,
            period=settings.reset_after,
            reset_after=settings.reset_after,
            now=now,
        )
        self.gateway_requests = SlidingWindow(
            limit=settings.gateway_bot_limit, period=GATEWAY_BOT_PERIOD
        )
        self.producer = Producer(
            catalogue=catalogue,
            guilds=settings.guilds,
            rate=settings.events_per_second,
            guild_create_rate=settings.guild_create_rate,
            unavailable_percent=settings.unavailable_percent,
            without_session=settings.events_without_session,
            seed=f"{settings.seed}/{index}",
        )


class World:
    """Bots and sessions; all that happens to a session happens here, and is in the ledger."""

    def __init__(
        self,
        settings: SimulatorSettings,
        *,
        timing: Timing,
        ledger: Ledger,
        edges: Edges,
        attention: Attention,
    ) -> None:
        self.settings = settings
        self.timing = timing
        self.ledger = ledger
        self.edges = edges
        self.attention = attention
        catalogue = self.catalogue = Catalogue(settings.seed)
        self.bots = [
            Bot(index, token, settings, catalogue, timing.now(), attention.lost)
            for index, token in enumerate(settings.tokens)
        ]
        self.sessions: dict[str, Session] = {}
        self.sent_logs: dict[tuple[int, Shard], SentLog] = {}  # by bot and shard
        self._ended: dict[str, Session] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._started: Counter[tuple[int, Shard]] = Counter()
        # What the sessions that have ended leave to the summary.
        self.sent_before = 0
        self.lost = 0

    def bot(self, token: str) -> Bot | None:
        """Whose token this is, also when it was revoked."""
        return next((bot for bot in self.bots if bot.token == token), None)

    def bot_of(self, session: Session) -> Bot:
        """Whose session this is."""
        return self.bots[session.facts.bot]

    def draw(self, *key: object) -> random.Random:
        """Randomness for one purpose, from the seed.

        Not one stream for all: what one connection draws must not hang on what others do.
        """
        return random.Random("/".join(map(str, (self.settings.seed, *key))))

    def _session_id(self, bot: Bot, shard: Shard) -> str:
        """The same in every run of a scenario.

        The shard is part of it: a client that comes back to a simulator that was restarted must
        not meet its old id as somebody else's session.
        """
        self._started[bot.index, shard] += 1
        key = (self.settings.seed, bot.index, *shard, self._started[bot.index, shard])
        return hashlib.sha256("/".join(map(str, key)).encode()).hexdigest()[:32]

    def start(
        self, bot: Bot, shard: Shard, *, sharded: bool, intents: int, query: Parameters
    ) -> Session:
        """A new session, not yet attached to a connection."""
        edge = self.edges.next()
        facts = SessionFacts(
            id=self._session_id(bot, shard),
            bot=bot.index,
            shard=shard,
            sharded=sharded,
            intents=intents,
            parameters=query,
            edge=edge,
            resume_url=self.edges.url(edge),
            since=self.timing.now(),
        )
        log = self.sent_logs.setdefault((bot.index, shard), SentLog(self.settings.sent_log))
        session = Session(facts, replay_events=self.settings.replay_events, sent=log)
        self.sessions[facts.id] = session
        return session

    def known(self, session_id: str) -> Session | None:
        """A living or a recently ended session."""
        return self.sessions.get(session_id) or self._ended.get(session_id)

    def attach(self, session: Session, connection: int) -> None:
        """The session is now served by this connection, and by no other."""
        session.connection = connection
        expiry = self._expiries.pop(session.facts.id, None)
        if expiry is not None:
            expiry.cancel()

    def detach(self, session: Session) -> None:
        """Its connection is gone; it can be resumed for a while, if its client knows of it."""
        session.connection = None
        if session.ended is not None:
            return
        if session.seq == 0 or session.unusable:
            self.end(session, "no-ready")
            return
        session.detached += 1
        ttl = self.draw("ttl", session.facts.id, session.detached).uniform(
            self.settings.session_ttl_minimum, self.settings.session_ttl_maximum
        )
        self._expiries[session.facts.id] = self.timing.later(
            ttl, lambda: self.end(session, "expired")
        )

    def end(self, session: Session, reason: str) -> None:
        """The session is gone for good. Its connection, if any, is the caller's business."""
        if session.ended is not None:
            return
        session.ended = reason
        expiry = self._expiries.pop(session.facts.id, None)
        if expiry is not None:
            expiry.cancel()
        self.bot_of(session).producer.remove(session)
        del self.sessions[session.facts.id]
        self._remember(session)
        self.sent_before += session.seq
        self.lost += session.unacknowledged
        self.ledger.append(
            ledger.SessionEnd(
                connection=session.connection,
                bot=session.facts.bot,
                shard=session.facts.shard,
                session=session.facts.id,
                reason=reason,
                seq=session.seq,
                lost=session.unacknowledged,
            )
        )

    def close(self) -> None:
        """Stop all timers."""
        for expiry in self._expiries.values():
            expiry.cancel()
        self._expiries.clear()

    def _remember(self, session: Session) -> None:
        """Keep the facts of ended sessions, so that a late RESUME can be told from nonsense."""
        session.forget()
        self._ended[session.facts.id] = session
        if len(self._ended) > 10_000:
            del self._ended[next(iter(self._ended))]
