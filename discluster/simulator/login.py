# SPDX-License-Identifier: Apache-2.0
"""IDENTIFY and RESUME: who gets a session, and who is turned away how."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from discluster.simulator import ledger, payloads
from discluster.simulator.bodies import ready
from discluster.simulator.deeds import Fields, Replay
from discluster.simulator.edges import MAIN
from discluster.simulator.fields import changed, touches
from discluster.simulator.ledger import Shard
from discluster.simulator.peer import About, Peer
from discluster.simulator.performer import USUAL, Course, Performer, scene_of
from discluster.simulator.replaying import replay_order
from discluster.simulator.script import Scene
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
        performer: Performer,
        revoke: Callable[[Bot], None],
        take_over: Callable[[int], None],
        refuse: Callable[[Peer, Refusal], None],
    ) -> None:
        """`take_over` closes the connection with this number, since its session goes elsewhere."""
        self._world = world
        self._settings = world.settings
        self._performer = performer
        self._revoke = revoke
        self._take_over = take_over
        self._refuse = refuse

    # IDENTIFY

    def identify(self, peer: Peer, asked: IdentifyFrame) -> None:
        """Start a session, or refuse."""
        for rule, text in asked.oddities:
            peer.violation(rule, text)
        if peer.edge != MAIN:
            peer.violation("identify-on-resume-host", f"IDENTIFY on {peer.edge}")
        bot = self._world.bot(asked.token.removeprefix("Bot "))
        shard = self._judge(bot, asked)
        if bot is None or isinstance(shard, Refusal):
            self._turn_away(peer, bot, _BAD_TOKEN if not isinstance(shard, Refusal) else shard)
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

    def _turn_away(self, peer: Peer, bot: Bot | None, refusal: Refusal) -> None:
        record = ledger.Identify(
            connection=peer.number,
            bot=bot.index if bot else None,
            accepted=False,
            reason=refusal.rule,
        )
        self._world.ledger.append(record)
        self._refuse(peer, refusal)

    def _admit(self, peer: Peer, bot: Bot, shard: Shard, asked: IdentifyFrame) -> None:
        now = self._world.timing.now()
        accepted, gap = bot.rule.arrive(shard[0], now)
        spends = accepted or self._settings.rejected_identify_spends_budget
        exhausted = spends and not bot.budget.spend(now)
        scene, session, course = Scene(edge=peer.edge, shard=shard, bot=bot.index), None, USUAL
        if accepted and not exhausted:
            course = self._performer.cast("identify", scene)
        if accepted and not exhausted and not course.stopped:
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
                bot=bot.index,
                shard=shard,
                session=session.facts.id if session else None,
                accepted=session is not None,
                reason=_reason(accepted=accepted, exhausted=exhausted, course=course),
                lane=bot.rule.lane(shard[0]),
                gap=gap,
                intents=asked.intents,
            )
        )
        if session is not None:
            if asked.compress and self._settings.payload_compression:
                peer.compress_payloads()
            self._begin(peer, session, course)
        elif course.stopped:
            about = About(connection=peer.number, bot=bot.index, shard=shard, session=None)
            self._performer.perform(course, "identify", peer, about=about)
        elif exhausted:
            peer.violation("budget-exhausted", "the daily session starts are used up")
            self._revoke(bot)
            self._refuse(peer, _BAD_TOKEN)
        else:
            self._reject_later(peer, bot, shard)

    def _reject_later(self, peer: Peer, bot: Bot, shard: Shard) -> None:
        about = About(connection=peer.number, bot=bot.index, shard=shard, session=None)

        def reject() -> None:
            if peer.session is None:
                peer.invalidate(resumable=False, about=about)

        delay = self._world.draw("reject", peer.number, peer.heard).uniform(
            0, self._settings.rejected_identify_delay
        )
        self._world.timing.later(delay, reject)

    def _begin(self, peer: Peer, session: Session, course: Course) -> None:
        peer.forget_marks()
        peer.session = session
        peer.cursor = 0
        self._world.attach(session, peer.number)
        ready = partial(self._ready, peer, session)
        self._performer.perform(course, "identify", peer, then=ready)

    def _ready(self, peer: Peer, session: Session) -> None:
        def act() -> None:
            if session.ended is None and session.connection == peer.number:
                self._performer.act("ready", peer, partial(self._send_ready, peer, session))

        if self._settings.ready_delay:
            self._world.timing.later(self._settings.ready_delay, act)
        else:
            act()

    def _send_ready(self, peer: Peer, session: Session, course: Course) -> None:
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
        for deed in course.deeds:
            if isinstance(deed, Fields):
                body = changed(body, deed)
                session.unusable = session.unusable or touches(deed, "session_id")
        session.append(Literal("READY", dump(body)))
        record = ledger.Ready(**peer.about, guilds=len(guild_ids), resume_url=facts.resume_url)
        self._world.ledger.append(record)
        self._performer.watch("dispatch", peer, session.seq)
        producer.add(session)
        peer.flush()

    # RESUME

    def resume(self, peer: Peer, asked: ResumeFrame) -> None:
        """Attach the session and replay what was missed, or refuse."""
        seq = asked.seq if isinstance(asked.seq, int) else None
        session = self._world.known(asked.session_id)
        verdict = self._judge_resume(peer, asked, session)
        bot = self._world.bot(asked.token.removeprefix("Bot "))
        about = About(
            connection=peer.number,
            bot=bot.index if bot else None,
            shard=session.facts.shard if session else None,
            session=asked.session_id,
        )
        course = USUAL
        if verdict is None and session is not None:
            facts = session.facts
            scene = Scene(edge=peer.edge, shard=facts.shard, bot=facts.bot)
            course = self._performer.cast("resume", scene)
        refused = verdict.rule if isinstance(verdict, Refusal) else verdict or ""
        self._world.ledger.append(
            ledger.Resume(
                **about,
                accepted=verdict is None and not course.stopped,
                reason="scripted" if course.stopped else refused,
                seq=seq,
                last_seq=session.seq if session else None,
            )
        )
        if isinstance(verdict, Refusal):
            self._refuse(peer, verdict)
        elif isinstance(verdict, str):
            peer.invalidate(resumable=False, about=about)
        elif session is not None and seq is not None:
            go_on = partial(self._reattach, peer, session, min(seq, session.seq), course)
            self._performer.perform(
                course, "resume", peer, session=session, about=about, then=go_on
            )

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
        seq = judge_resume_seq(asked, last_seq=max(session.seq, session.claimed))
        if isinstance(seq, Refusal):
            self._world.end(session, "invalid-seq")
            return seq
        if not session.replayable(min(seq, session.seq)):
            self._world.end(session, "replay-overflow")
            if self._settings.stale_resume == "4007":
                return Refusal(4007, "Invalid seq.", "stale-seq")
            return "replay-overflow"
        return None

    def _reattach(self, peer: Peer, session: Session, seq: int, course: Course) -> None:
        if session.ended is not None or peer.session is not None:
            return
        older = session.connection
        peer.forget_marks()
        peer.session = session
        self._world.attach(session, peer.number)
        if older is not None:
            self._take_over(older)
        session.acknowledge(seq)
        self._replay(peer, session, seq, course)
        self._performer.watch("dispatch", peer, session.seq)
        peer.flush()

    def _replay(self, peer: Peer, session: Session, seq: int, course: Course) -> None:
        orders = [deed.order for deed in course.deeds if isinstance(deed, Replay)]
        order = orders[-1] if orders else "in-order"
        missed, own = range(seq + 1, session.seq + 1), None
        late = self._performer.cast("resumed", scene_of(peer))
        if not late.stopped and order != "nothing":
            own = session.append(Literal("RESUMED", payloads.RESUMED_BODY))
            record = ledger.Resumed(**peer.about, replayed=len(missed), seq=own)
            self._world.ledger.append(record)
        detour = replay_order(order, missed, own)
        if detour is None:
            peer.cursor = seq
            self._performer.watch("replay", peer, seq, missed.stop - 1)
        else:
            peer.cursor = session.seq
            peer.detour.extend(detour)
        if late.rules:
            end = max(peer.cursor, missed.stop - 1)
            peer.mark(end, partial(self._performer.hold_up, late, "resumed", peer))


def _reason(*, accepted: bool, exhausted: bool, course: Course) -> str:
    if exhausted:
        return "budget"
    if not accepted:
        return "too-soon"
    return "scripted" if course.stopped else ""
