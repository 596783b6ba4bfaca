# SPDX-License-Identifier: Apache-2.0
"""What MASTER decided and noticed, and why: one sentence each, kept, and told to the journal."""

import asyncio
import logging
from collections import deque
from pathlib import Path
from typing import Final, Literal

from discluster.clock import Clock
from discluster.console import Event, EventKind, EventPage, EventQuery
from discluster.master.records.eventfiles import EventFiles

log = logging.getLogger(__name__)

Severity = Literal["error", "warning", "notice"]

PAGE: Final = 1000
# Seconds; a client that went without a word must not be waited for longer.
LONGEST_WAIT: Final = 30.0
_LEVELS: Final[dict[Severity, int]] = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "notice": logging.INFO,
}


class EventLog:
    """The newest ``keep`` events at most, and at least half as many."""

    def __init__(self, directory: Path | None, *, keep: int, clock: Clock) -> None:
        """Takes up what is on disk. Lines that cannot be read are skipped, which is an event.
        Without a ``directory`` events are in memory only.

        Raises:
            StateError: a file is there and cannot be read.
        """
        half = max(1, keep // 2)
        self._files = None if directory is None else EventFiles(directory, lines=half)
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=2 * half)
        self._trouble: str | None = None
        self._news = asyncio.Event()
        self._closed = False
        if self._files is not None:
            stored, torn = self._files.read()
            self._events.extend(stored)
            self._tell_torn(torn)

    @property
    def newest(self) -> int:
        """Number of the newest event, 0 before the first."""
        return self._events[-1].number if self._events else 0

    def record(
        self,
        kind: EventKind,
        sentence: str,
        *,
        host: str | None = None,
        cluster: int | None = None,
        shard: int | None = None,
        generation: int | None = None,
        severity: Severity = "notice",
    ) -> None:
        """Keeps the event, and says the same sentence in the journal. A disk that takes nothing is
        told there and stops nobody.
        """
        fields = {"HOST": host, "CLUSTER": cluster, "SHARD": shard, "GENERATION": generation}
        log.log(_LEVELS[severity], "%s", sentence, extra=fields)
        event = Event(
            number=self.newest + 1,
            at=self._clock.wall(),
            kind=kind,
            sentence=sentence,
            severity=severity,
            host=host,
            cluster=cluster,
            shard=shard,
            generation=generation,
        )
        self._events.append(event)
        self._store(event)
        self._wake()

    def page(self, query: EventQuery) -> EventPage:
        """What is there of what was asked for, at most :data:`PAGE` events."""
        # A number from the future: MASTER's disk was lost, and its events began anew.
        after = query.after if query.after <= self.newest else 0
        found = [
            event
            for event in self._events
            if event.number > after and event.at >= query.since and query.host in (None, event.host)
        ]
        if query.last is not None:
            found = found[max(0, len(found) - query.last) :]
        page = tuple(found[:PAGE])
        upto = page[-1].number if len(page) < len(found) else self.newest
        return EventPage(events=page, upto=upto, newest=self.newest)

    async def wait_beyond(self, number: int) -> None:
        """Returns when there are events after ``number``, or when no more will come."""
        while self.newest == number and not self._closed:
            await self._news.wait()

    def close(self) -> None:
        """Ends waiting and closes the file; later events are in the journal only."""
        self._closed = True
        self._wake()
        if self._files is not None:
            self._files.close()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _tell_torn(self, lines: int) -> None:
        if lines:
            number = "1 line" if lines == 1 else f"{lines} lines"
            told = f"lost {number} of the stored events, torn as by a power cut or a full disk"
            self.record("master", told, severity="warning")

    def _store(self, event: Event) -> None:
        if self._closed or self._files is None:
            return
        trouble = None
        try:
            self._files.append(event)
        except OSError as error:
            self._files.close()
            trouble = f"{self._files}: events are not kept over a restart: {error.strerror}"
            if trouble != self._trouble:
                log.error("%s", trouble)
        self._trouble = trouble
