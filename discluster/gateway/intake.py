# SPDX-License-Identifier: Apache-2.0
"""Where events go, and what of the session is remembered for it.

The stored sequence advances when the handler has taken an event and not before, so that whatever
was received but not taken is replayed after the next RESUME.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from discluster.gateway import urls
from discluster.gateway.contracts import Sessions
from discluster.gateway.envelope import Envelope
from discluster.gateway.events import Event, Handler
from discluster.gateway.guilds import GuildCount, Ready, parse_ready
from discluster.plan import Session

NOTED: Final = frozenset(("READY", "RESUMED", "GUILD_CREATE", "GUILD_DELETE"))
"""Events that say something of the session and of what the shard has."""

_SESSION_ID: Final = re.compile(r"[!-~]{1,64}")
# Each failure is counted; a handler that fails at every event must not flood the journal.
_FAILURES_LOGGED: Final = 10
_FAILURES_SAMPLED: Final = 1000

_log = logging.getLogger(__name__)


class Intake:
    """The session of one shard and the handler of its events.

    ``seq``: last sequence that the handler took. ``events``: dispatches received. ``failures``:
    those at which the handler raised. ``last_event``: monotonic seconds.
    """

    def __init__(
        self,
        *,
        shard: int,
        sessions: Sessions,
        handler: Handler,
        note: Callable[[Envelope], None],
        wanted: Callable[[], bool],
    ) -> None:
        """``note``: told of the NOTED events before the handler is. ``wanted``: asked after a
        handler took its time, whether to go on.
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
        self._handler = handler
        self._note = note
        self._wanted = wanted

    def load(self) -> None:
        """Takes up the stored session, if there is one."""
        self.session = self._sessions.load()
        if self.session is not None:
            self.seq = self.session.seq
            self.guilds = GuildCount(self.session.guilds)
            self._session_id = self.session.session_id

    def begin(self, envelope: Envelope, *, gateway_url: str) -> None:
        """READY: a new session. Without a usable id it cannot be resumed, so none is stored."""
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
        self.session = self.seq = None
        self._session_id = ""
        self._sessions.clear()

    def take(self, run: list[Envelope], *, now: float) -> Awaitable[None] | None:
        """Hands events over one after the other. Each is taken once the handler is done with it;
        all are once what is returned, if anything, is done.

        ``now``: monotonic seconds when they were received.
        """
        self.last_event = now
        rest = iter(run)
        busy = self._hand_over(rest)
        return self._await(busy, rest) if busy is not None else None

    def _hand_over(self, events: Iterator[Envelope]) -> tuple[Awaitable[None], Event] | None:
        """Up to the first event that the handler needs time for."""
        shard, handler, advance = self._shard, self._handler, self._sessions.advance
        for envelope in events:
            name, seq = envelope.t, envelope.s
            if name in NOTED:
                self._note(envelope)
            self.events += 1
            if seq is None:
                # A dispatch without a sequence has happened in no capture; no reason to lose it.
                seq = self.seq or 0
            if name is not None:
                event = Event(shard, seq, name, envelope.d, self._session_id)
                try:
                    waiting = handler(event)
                except Exception as error:  # whatever a handler raises, the shard goes on
                    self._failed(event, error)
                else:
                    if waiting is not None:
                        return waiting, event
            # Discord may repeat an event; the checkpoint never goes back.
            if self.seq is None or seq > self.seq:
                self.seq = seq
                if self.session is not None:
                    advance(seq)
        return None

    async def _await(self, busy: tuple[Awaitable[None], Event], rest: Iterator[Envelope]) -> None:
        going: tuple[Awaitable[None], Event] | None = busy
        while going is not None:
            await self._finish(*going)
            going = self._hand_over(rest) if self._wanted() else None

    async def _finish(self, waiting: Awaitable[None], event: Event) -> None:
        try:
            await waiting
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise
            self._failed(event, error)  # something inside the handler was cancelled, not we
        except Exception as error:  # whatever a handler raises, the shard goes on
            self._failed(event, error)
        if self.seq is None or event.seq > self.seq:
            self.seq = event.seq
            if self.session is not None:
                self._sessions.advance(event.seq)

    def _failed(self, event: Event, error: BaseException) -> None:
        self.failures += 1
        if self.failures > _FAILURES_LOGGED and self.failures % _FAILURES_SAMPLED:
            return
        _log.error(
            "Shard %d: the handler failed at a %s event (sequence %d), its failure number %d;"
            " the event is skipped",
            self._shard,
            event.type,
            event.seq,
            self.failures,
            exc_info=error,
            extra={"SHARD": self._shard},
        )


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
