# SPDX-License-Identifier: Apache-2.0
"""Where events go, and what of the session is remembered for it.

The stored sequence advances when the handler has taken an event and not before, so that whatever
was received but not taken is replayed after a crash. A RESUME on the same run of the process begins
after what was handed over: the handler still has what it will acknowledge later.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from discluster.gateway import urls
from discluster.gateway.contracts import Sessions
from discluster.gateway.envelope import Envelope
from discluster.gateway.events import LATER, Event, Later
from discluster.gateway.guilds import GuildCount, Ready, parse_ready
from discluster.gateway.handling import UNTAKEN, Handling, Untaken
from discluster.gateway.unacknowledged import Unacknowledged
from discluster.plan import Session

NOTED: Final = frozenset(("READY", "RESUMED", "GUILD_CREATE", "GUILD_DELETE"))
"""Events that say something of the session and of what the shard has."""

_SESSION_ID: Final = re.compile(r"[!-~]{1,64}")
Answer = Awaitable[Later | Untaken | None] | Later | None
"""What a handler returns, or what becomes of events at which it raised."""
Busy = tuple[Awaitable[Later | Untaken | None], list[Event], int]
"""What to wait for, the events that it is about, and the sequence up to which all is done then."""

_log = logging.getLogger(__name__)


class Intake:
    """The session of one shard and the handler of its events.

    ``seq``: last sequence that the handler took, or has and will acknowledge. ``events``:
    dispatches received. ``failures``: those at which the handler raised. ``last_event``: monotonic
    seconds.
    """

    def __init__(
        self,
        *,
        shard: int,
        sessions: Sessions,
        handling: Handling,
        note: Callable[[Envelope], None],
        wanted: Callable[[], bool],
        unacknowledged: int,
    ) -> None:
        """``note``: told of the NOTED events before the handler is. ``wanted``: asked after a
        handler took its time, whether to go on. ``unacknowledged``: events that the handler may
        have without having acknowledged the first of them; what else comes with the same read, and
        with the first read of each RESUME meanwhile, is on top.
        """
        self.session: Session | None = None
        self.seq: int | None = None
        self.guilds = GuildCount()
        self.events = 0
        self.failures = 0
        self.last_event: float | None = None
        self._session_id = ""
        self._shard = shard
        self._sessions = sessions
        self._handling = handling
        self._handler = handling.handle
        self._wants = handling.wants
        self._note = note
        self._wanted = wanted
        self._later = Unacknowledged(limit=unacknowledged)
        self._advance = sessions.advance  # or, while anything is to be acknowledged, _hold
        self._told_of_limit = False
        self._retrying: str | None = None

    @property
    def unacknowledged(self) -> int:
        """Events that would be replayed after a crash now."""
        oldest = self._later.oldest
        return 0 if oldest is None else (self.seq or 0) - oldest + 1

    @property
    def obstacle(self) -> str | None:
        """Why nothing is handed over, in words."""
        waits = "the handler has not acknowledged what it has; before that it gets no more"
        return waits if self._full() else self._retrying

    def load(self) -> None:
        """Takes up the stored session, if there is one."""
        self.session = self._sessions.load()
        if self.session is not None:
            self.seq = self.session.seq
            self.guilds = GuildCount(self.session.guilds)
            self._session_id = self.session.session_id

    def begin(self, envelope: Envelope, *, gateway_url: str) -> None:
        """READY: a new session. Without a usable id it cannot be resumed, so none is stored."""
        self._forget_later()
        self.guilds.ready(envelope)
        self.seq = envelope.s or 0
        self.session = _session(
            parse_ready(envelope),
            seq=self.seq,
            guilds=self.guilds.count or 0,
            gateway_url=gateway_url,
        )
        if self.session is None:
            self._session_id = ""
            self._sessions.clear()
        else:
            self._session_id = self.session.session_id
            self._sessions.save(self.session)

    def forget(self) -> None:
        """The session is gone; its id is never used again."""
        self._forget_later()
        self.session = self.seq = None
        self._session_id = ""
        self._sessions.clear()

    def take(self, run: list[Envelope], *, now: float) -> Awaitable[None] | None:
        """Hands events over one after the other. All are once what is returned, if anything, is
        done; then the handler is done with each, or will acknowledge it.

        ``now``: monotonic seconds when they were received.
        """
        self.last_event = now
        rest = iter(run)
        busy = self._hand_over(rest)
        if busy is None and not (self._later.ranges and self._full()):
            return None
        return self._await(busy, rest)

    def taken(self, event: Event) -> None:
        """The handler took everything up to ``event``. One of another session tells nothing."""
        if event.session_id != self._session_id or not self._later.acknowledge(event.seq):
            return
        assert self.seq is not None  # something was handed over
        oldest = self._later.oldest
        if oldest is None:
            self._advance = self._sessions.advance
        if self.session is not None:
            self._sessions.advance(self.seq if oldest is None else oldest - 1)
        if not self._full():
            self._told_of_limit = False
            self._later.make_room()

    def finish(self) -> None:
        """Nothing more will be handed over; what was can still be acknowledged."""
        self._later.make_room()

    def _hand_over(self, events: Iterator[Envelope]) -> Busy | None:
        """Up to the first event that the handler needs time for."""
        shard, handler, advance = self._shard, self._handler, self._advance
        wants = self._wants
        assert handler is not None
        for envelope in events:
            name, seq = envelope.t, envelope.s
            if name in NOTED:
                self._note(envelope)
            self.events += 1
            if seq is None:
                # A dispatch without a sequence has happened in no capture; no reason to lose it.
                seq = self.seq or 0
            if name is not None and (wants is None or name in wants):
                event = Event(shard, seq, name, envelope.d, self._session_id)
                waiting: Answer
                try:
                    waiting = handler(event)
                except Exception as error:  # whatever a handler raises, the shard goes on
                    waiting = self._failed([event], error)
                if waiting is not None:
                    if waiting is not LATER:
                        return waiting, [event], seq
                    if self._postpone(seq):
                        return self._room(), [], seq
                    advance = self._advance
                    continue
            # Discord may repeat an event; the checkpoint never goes back.
            if self.seq is None or seq > self.seq:
                self.seq = seq
                if self.session is not None:
                    advance(seq)
        return None

    async def _await(self, busy: Busy | None, rest: Iterator[Envelope]) -> None:
        while busy is not None:
            await self._finish(*busy)
            busy = self._hand_over(rest) if self._wanted() else None
        if self._full() and self._wanted():
            await self._room()

    async def _finish(
        self, waiting: Awaitable[Later | Untaken | None], events: list[Event], last: int
    ) -> None:
        answer: Later | Untaken | None = None
        failure: BaseException | None = None
        try:
            answer = await waiting
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise
            failure = error  # something inside the handler was cancelled, not we
        except Exception as error:  # whatever a handler raises, the shard goes on
            failure = error
        if failure is not None and (again := self._failed(events, failure)) is not None:
            answer = await again
        if answer is not UNTAKEN and self._settle(answer, events, last) and self._wanted():
            await self._room()

    def _settle(self, answer: Later | None, events: list[Event], last: int) -> bool:
        """The handler is done with ``events``, and with what it does not want up to ``last``.
        True: before it acknowledges some it gets no others.
        """
        if answer is LATER:
            self._postpone_all(events)
        if self.seq is None or last > self.seq:
            self.seq = last
            if self.session is not None:
                self._advance(last)
        return answer is LATER and self._full()

    # --- what failed ---

    def _call(self, events: list[Event]) -> Answer:
        assert self._handler is not None
        return self._handler(events[0])

    def _failed(
        self, events: list[Event], error: BaseException
    ) -> Awaitable[Later | Untaken | None] | None:
        """None: they are skipped, and count as taken."""
        self.failures += 1
        pause = self._handling.failures.failed(events, error, tries=1)
        return None if pause is None else self._retry(events, pause)

    async def _retry(self, events: list[Event], pause: float | None) -> Later | Untaken | None:
        tries = 1
        try:
            while pause is not None:
                self._retrying = (
                    f"the handler failed at a {events[0].type} event"
                    f" (sequence {events[0].seq}) {tries} times; before that it gets no other"
                )
                await self._handling.failures.pause(pause)
                if not self._wanted():
                    return UNTAKEN
                try:
                    answer = self._call(events)
                    return answer if answer is None or answer is LATER else await answer
                except asyncio.CancelledError as error:
                    if _being_cancelled():
                        raise
                    failure: BaseException = error
                except Exception as error:  # whatever a handler raises, the shard goes on
                    failure = error
                tries += 1
                self.failures += 1
                pause = self._handling.failures.failed(events, failure, tries=tries)
            return None
        finally:
            self._retrying = None

    # --- what is to be acknowledged ---

    def _postpone(self, seq: int) -> bool:
        """The handler will acknowledge ``seq``. True: before that it gets no other event."""
        if self.seq is not None and seq <= self.seq:
            return False  # a repeated event: the first one is what counts
        self.seq = seq
        if self._later.add(seq, seq) < seq:
            self._advance = self._hold
        elif self.session is not None:
            self._advance(seq)
        return self._full()

    def _postpone_all(self, events: list[Event]) -> None:
        """The same for several: called for each it would be felt in the hot path."""
        done: int | None = None
        for first, last in self._new(events):
            self.seq = last
            if (taken := self._later.add(first, last)) >= first:
                done = taken
        if done is not None and self.session is not None:
            self._advance(done)
        if self._later.ranges:
            self._advance = self._hold

    def _new(self, events: list[Event]) -> Iterable[tuple[int, int]]:
        """The first and the last sequence of events that are of the session and no repetition: of
        all of them or, where some are missing, of each.
        """
        before, session = -1 if self.seq is None else self.seq, self._session_id
        first, last = events[0], events[-1]
        if (
            before < first.seq
            and last.seq - first.seq == len(events) - 1
            and first.session_id == last.session_id == session
        ):
            # If one is repeated, another is missing: it is asked for again, and nothing is lost.
            return ((first.seq, last.seq),)
        found = list[tuple[int, int]]()
        for event in events:
            if event.seq > before and event.session_id == session:
                before = event.seq
                found.append((before, before))
        return found

    def _hold(self, seq: int) -> None:
        """Stands in for the session's ``advance``: first comes what was handed over before."""
        if not self._later.ranges:
            self._sessions.advance(seq)

    def _full(self) -> bool:
        return self._later.full(self.seq or 0)

    def _room(self) -> asyncio.Future[None]:
        if not self._told_of_limit:
            self._told_of_limit = True
            _log.warning(
                "Shard %d: the handler has %d events to acknowledge; before that it gets no more",
                self._shard,
                self.unacknowledged,
                extra={"SHARD": self._shard},
            )
        return self._later.room()

    def _forget_later(self) -> None:
        self._later.clear()
        self._advance = self._sessions.advance
        self._told_of_limit = False


def _session(ready: Ready, *, seq: int, guilds: int, gateway_url: str) -> Session | None:
    session_id = ready.session_id
    if not isinstance(session_id, str) or not _SESSION_ID.fullmatch(session_id):
        return None
    resume_url = urls.usable_resume_url(ready.resume_gateway_url, gateway_url=gateway_url)
    return Session(
        session_id=session_id, resume_url=resume_url or gateway_url, seq=seq, guilds=guilds
    )


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
