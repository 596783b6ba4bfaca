# SPDX-License-Identifier: Apache-2.0
"""What MASTER decided and noticed, and why: one sentence each, kept, and told to the journal."""

import logging
from pathlib import Path
from typing import Final, Literal

from discluster.clock import Clock
from discluster.console import Event, EventKind, EventPage, EventQuery
from discluster.master.records.linefiles import LineFiles
from discluster.master.records.shelf import Shelf

log = logging.getLogger(__name__)

Severity = Literal["error", "warning", "notice"]

_MINUTE: Final = 60.0
_IN_A_MINUTE: Final = 20
LONGEST: Final = 4000  # characters
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
        self._files: LineFiles[Event] | None = None
        if directory is not None:
            self._files = LineFiles(directory, "events", Event, lines=half)
        self._clock = clock
        self._trouble: str | None = None
        # Of each host: since when its own events are counted, and how many there were.
        self._told: dict[str, tuple[float, int]] = {}
        stored, torn = ([], 0) if self._files is None else self._files.read()
        self._events = Shelf(stored, keep=2 * half)
        self._tell_torn(torn)

    @property
    def newest(self) -> int:
        """Number of the newest event, 0 before the first."""
        return self._events.newest

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
        rarely: bool = False,
    ) -> None:
        """Keeps the event, and says the same sentence in the journal. A disk that takes nothing is
        told there and stops nobody. ``rarely``: what ``host`` can bring about as often as it likes
        must not drive out what else there is to know.
        """
        if rarely and host is not None and not self._has_room(host):
            return
        # A host has a part in some of them, and could fill the disk with one.
        sentence = sentence if len(sentence) <= LONGEST else sentence[:LONGEST] + "…"
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
        self._store(event)
        self._events.put(event)

    def _has_room(self, host: str) -> bool:
        now = self._clock.monotonic()
        since, told = self._told.get(host, (now, 0))
        if now - since >= _MINUTE:
            if told > _IN_A_MINUTE:
                left_out = told - _IN_A_MINUTE
                self.record("host", f"{left_out} more events of {host} were left out", host=host)
            since, told = now, 0
        self._told[host] = (since, told + 1)
        return told < _IN_A_MINUTE

    def page(self, query: EventQuery) -> EventPage:
        """What is there of what was asked for, at most :data:`shelf.PAGE` events."""
        page, upto = self._events.page(query, lambda event: query.host in (None, event.host))
        return EventPage(events=page, upto=upto, newest=self.newest)

    async def wait_beyond(self, number: int) -> None:
        """Returns when there are events after ``number``, or when no more will come."""
        await self._events.wait_beyond(number)

    def close(self) -> None:
        """Ends waiting and closes the file; later events are in the journal only."""
        self._events.close()
        if self._files is not None:
            self._files.close()

    def _tell_torn(self, lines: int) -> None:
        if lines:
            number = "1 line" if lines == 1 else f"{lines} lines"
            told = f"lost {number} of the stored events, torn as by a power cut or a full disk"
            self.record("master", told, severity="warning")

    def _store(self, event: Event) -> None:
        if self._events.closed or self._files is None:
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
