# SPDX-License-Identifier: Apache-2.0
"""IDENTIFY and RESUME: who gets a session, and who is turned away how."""

from __future__ import annotations

from collections.abc import Callable

from discluster.simulator import ledger, payloads
from discluster.simulator.bodies import ready
from discluster.simulator.ledger import Shard
from discluster.simulator.peer import About, Peer
from discluster.simulator.sessions import Session
from discluster.simulator.templates import Literal, dump
from discluster.simulator.validate import (
    IdentifyFrame,
    Refusal,
    ResumeFrame,
    judge_intents,
    judge_resume_seq,
    judge_shard,
)
from discluster.simulator.world import Bot, World

_BAD_TOKEN = Refusal(4004, "Authentication failed.", "bad-token")


class Login:
    """Judges IDENTIFY and RESUME. (Discord: Gateway, Identifying and Resuming.)"""

    def __init__(
        self,
        world: World,
        *,
        revoke: Callable[[Bot], None],
        take_over: Callable[[int], None],
        refuse: Callable[[Peer, Refusal], None],
    ) -> None:
        """`take_over` closes the connection with this number, since its session goes elsewhere."""
        self._world = world
        self._settings = world.settings
        self._revoke = revoke
        self._take_over = take_over
        self._refuse = refuse

    # IDENTIFY

    def identify(self, peer: Peer, asked: IdentifyFrame) -> None:
        """Start a session, or refuse."""
        for rule, text in asked.oddities:
            peer.violation(rule, text)
        if peer.path != "/":
            peer.violation("identify-on-resume-host", f"IDENTIFY on {peer.path}")
        bot = self._world.bot(asked.token.removeprefix("Bot "))
        shard = self._judge(bot, asked)
        if bot is None or isinstance(shard, Refusal):
            self._turn_away(peer, _BAD_TOKEN if not isinstance(shard, Refusal) else shard)
        else:
            self._admit(peer, bot, shard, asked)

    def _judge(self, bot: Bot | None, asked: IdentifyFrame) -> Shard | Refusal:
        settings = self._settings
        if bot is None or bot.revoked:
            return _BAD_TOKEN
        shard = judge_shard(
            asked.shard,
            guilds=settings.guilds,
            max_guilds=settings.max_guilds_per_shard,
            assigned_multiple=settings.assigned_multiple,
        )
        return judge_intents(asked.intents, granted=bot.granted) or shard

    def _turn_away(self, peer: Peer, refusal: Refusal) -> None:
        record = ledger.Identify(**peer.about, accepted=False, reason=refusal.rule)
        self._world.ledger.append(record)
        self._refuse(peer, refusal)

    def _admit(self, peer: Peer, bot: Bot, shard: Shard, asked: IdentifyFrame) -> None:
        now = self._world.timing.now()
        accepted, gap = bot.rule.arrive(shard[0], now)
        spends = accepted or self._settings.rejected_identify_spends_budget
        exhausted = spends and not bot.budget.spend(now)
        session = None
        if accepted and not exhausted:
            session = self._world.start(
                bot,
                shard,
                sharded=asked.shard is not None,
                intents=asked.intents,
                query=peer.parameters,
            )
        self._world.ledger.append(
            ledger.Identify(
                connection=peer.number,
                shard=shard,
                session=session.facts.id if session else None,
                accepted=session is not None,
                reason="budget" if exhausted else "" if accepted else "too-soon",
                lane=bot.rule.lane(shard[0]),
                gap=gap,
                intents=asked.intents,
            )
        )
        if session is not None:
            self._begin(peer, session)
        elif exhausted:
            peer.violation("budget-exhausted", "the daily session starts are used up")
            self._revoke(bot)
            self._refuse(peer, _BAD_TOKEN)
        else:
            self._reject_later(peer, shard)

    def _reject_later(self, peer: Peer, shard: Shard) -> None:
        about = About(connection=peer.number, shard=shard, session=None)

        def reject() -> None:
            if peer.session is None:
                peer.invalidate(resumable=False, about=about)

        delay = self._world.rng.uniform(0, self._settings.rejected_identify_delay)
        self._world.timing.later(delay, reject)

    def _begin(self, peer: Peer, session: Session) -> None:
        peer.session = session
        peer.cursor = 0
        self._world.attach(session, peer.number)
        if self._settings.ready_delay:
            self._world.timing.later(self._settings.ready_delay, lambda: self._ready(peer, session))
        else:
            self._ready(peer, session)

    def _ready(self, peer: Peer, session: Session) -> None:
        if session.ended is not None or session.connection != peer.number:
            return
        facts = session.facts
        producer = self._world.bot_of(session).producer
        guild_ids = producer.guild_ids(facts.shard)
        body = ready(
            session_id=facts.id,
            resume_url=facts.resume_url,
            shard=facts.shard if facts.sharded else None,
            guild_ids=guild_ids,
        )
        session.append(Literal("READY", dump(body)))
        record = ledger.Ready(**peer.about, guilds=len(guild_ids), resume_url=facts.resume_url)
        self._world.ledger.append(record)
        producer.add(session)
        peer.flush()

    # RESUME

    def resume(self, peer: Peer, asked: ResumeFrame) -> None:
        """Attach the session and replay what was missed, or refuse."""
        seq = asked.seq if isinstance(asked.seq, int) else None
        session = self._world.known(asked.session_id)
        verdict = self._judge_resume(peer, asked, session)
        about = About(
            connection=peer.number,
            shard=session.facts.shard if session else None,
            session=asked.session_id,
        )
        self._world.ledger.append(
            ledger.Resume(
                **about,
                accepted=not isinstance(verdict, str | Refusal),
                reason=verdict.rule if isinstance(verdict, Refusal) else str(verdict or ""),
                seq=seq,
                last_seq=session.seq if session else None,
            )
        )
        if isinstance(verdict, Refusal):
            self._refuse(peer, verdict)
        elif isinstance(verdict, str):
            peer.invalidate(resumable=False, about=about)
        elif session is not None and seq is not None:
            self._reattach(peer, session, seq)

    def _judge_resume(
        self, peer: Peer, asked: ResumeFrame, session: Session | None
    ) -> Refusal | str | None:
        """A close code, or the reason of an INVALID_SESSION, or None for a good RESUME."""
        settings = self._settings
        if asked.token.startswith("Bot "):
            peer.violation("bot-prefix", "the token in RESUME begins with 'Bot '")
            if settings.reject_bot_prefix_in_resume:
                return "bot-prefix"
        bot = self._world.bot(asked.token.removeprefix("Bot "))
        if bot is None or bot.revoked:
            return _BAD_TOKEN if settings.revoked_resume == "4004" else "bad-token"
        if session is None or session.facts.bot != bot.index:
            return "unknown-session"
        if session.ended is not None:
            return session.ended
        if peer.parameters != session.facts.parameters:
            peer.violation("resume-parameters", "RESUME with another query than the session's")
            if settings.close_on_other_resume_parameters:
                return Refusal(4000, "Unknown error.", "resume-parameters")
        return self._judge_seq(asked.seq, session)

    def _judge_seq(self, asked: object, session: Session) -> Refusal | str | None:
        seq = judge_resume_seq(asked, last_seq=session.seq)
        if isinstance(seq, Refusal):
            self._world.end(session, "invalid-seq")
            return seq
        if not session.replayable(seq):
            self._world.end(session, "replay-overflow")
            if self._settings.stale_resume == "4007":
                return Refusal(4007, "Invalid seq.", "stale-seq")
            return "replay-overflow"
        return None

    def _reattach(self, peer: Peer, session: Session, seq: int) -> None:
        older = session.connection
        peer.session = session
        peer.cursor = seq
        self._world.attach(session, peer.number)
        if older is not None:
            self._take_over(older)
        session.acknowledge(seq)
        missed = session.seq - seq
        own = session.append(Literal("RESUMED", payloads.RESUMED_BODY))
        self._world.ledger.append(ledger.Resumed(**peer.about, replayed=missed, seq=own))
        peer.flush()
