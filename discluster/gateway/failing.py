# SPDX-License-Identifier: Apache-2.0
"""Events at which the packet handler raised: told, counted, and skipped, tried again or the end."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from discluster.clock import Clock
from discluster.errors import HandlerError
from discluster.gateway.events import Event

Reaction = Literal["skip", "retry", "fatal"]

FIRST_PAUSE: Final = 0.5  # seconds; each is twice the one before
LONGEST_PAUSE: Final = 30.0
_TOLD_EVERY: Final = 1.0  # seconds; a handler that fails at every event must not flood the journal
_TYPES_TOLD: Final = 3
_TYPES_COUNTED: Final = 200  # Discord has fewer
_OTHERS: Final = "others"
_OURS: Final = Path(__file__).parent

_log = logging.getLogger(__name__)


def pause_before(tries: int) -> float:
    """Seconds between the ``tries``-th failure at an event and the next try."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries - 1, 16)))


class HandlerFailures:
    """Told are the first at each event type, and else one in a second.

    ``counts``: failures by event type; each try counts, and in a batch each of its events.
    ``fatal``: why the cluster must end, if it must.
    """

    def __init__(self, *, clock: Clock, reaction: Reaction = "skip", tries: int = 6) -> None:
        """``tries``: calls for an event with "retry", the first one included."""
        self.counts: Counter[str] = Counter()
        self.skipped = 0
        self.fatal: HandlerError | None = None
        self._clock = clock
        self._reaction = reaction
        self._tries = tries
        self._on_fatal: Callable[[], object] = lambda: None
        self._failures = 0
        self._told_at = -math.inf
        self._untold = 0

    def on_fatal(self, end: Callable[[], object]) -> None:
        """``end`` is called when the cluster must end."""
        self._on_fatal = end

    def failed(self, events: Sequence[Event], error: BaseException, *, tries: int) -> float | None:
        """See ``Failures``."""
        self._failures += 1
        news = self._count(events)
        if self._reaction == "fatal":
            self._tell(events, error, "the cluster ends, and it will be replayed", always=True)
            if self.fatal is None:
                self.fatal = HandlerError(
                    f"shard {events[0].shard}: the handler raised {type(error).__name__} at"
                    f" {_named(events)}, and 'on_handler_error' is 'fatal'",
                    hint="the log has the traceback; what was not taken is replayed at the next"
                    " start",
                )
                self._on_fatal()
            return math.inf
        if self._reaction == "retry" and tries < self._tries:
            pause = pause_before(tries)
            then = f"try {tries} of {self._tries}; again in {pause:g} seconds"
            self._tell(events, error, then, always=news)
            return pause
        self.skipped += len(events)
        after = f" after {tries} tries" if tries > 1 else ""
        # What is lost to the handler after many tries is rare, and worth its line.
        self._tell(events, error, f"skipped{after}", always=news or tries > 1)
        return None

    async def pause(self, seconds: float) -> None:
        """See ``Failures``. It does not end where the cluster is to."""
        if seconds == math.inf:
            await asyncio.get_running_loop().create_future()
        await self._clock.sleep(seconds)

    def summary(self) -> str | None:
        """In words, for the cluster's status; None: there was no failure."""
        if not self.counts:
            return None
        most = ", ".join(f"{name} {count}" for name, count in self.counts.most_common(_TYPES_TOLD))
        return f"the handler failed {self._failures} times ({most}); {self.skipped} events skipped"

    def _count(self, events: Sequence[Event]) -> bool:
        """Whether there is an event of a type at which the handler did not fail before."""
        counts, before = self.counts, len(self.counts)
        for event in events:
            known = event.type in counts or len(counts) < _TYPES_COUNTED
            counts[event.type if known else _OTHERS] += 1
        return len(counts) > before

    def _tell(
        self, events: Sequence[Event], error: BaseException, then: str, *, always: bool = False
    ) -> None:
        """Where, and what the handler's code says; nothing of the events' bodies."""
        now = self._clock.monotonic()
        if not always and now - self._told_at < _TOLD_EVERY:
            self._untold += 1
            return
        more = f" ({self._untold} more were not told)" if self._untold else ""
        self._told_at, self._untold = now, 0
        _log.error(
            "Shard %d: the handler failed at %s, its failure number %d%s: %s",
            *(events[0].shard, _named(events), self._failures, more, then),
            exc_info=(type(error), error, _theirs(error.__traceback__)),
            extra={"SHARD": events[0].shard, "EVENT": _types(events), "SEQ": _seqs(events)},
        )


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """Without the frames of ours that called the handler."""
    theirs = trace
    while theirs is not None and Path(theirs.tb_frame.f_code.co_filename).parent == _OURS:
        theirs = theirs.tb_next
    return theirs or trace


def _named(events: Sequence[Event]) -> str:
    if len(events) == 1:
        return f"a {events[0].type} event (sequence {events[0].seq})"
    return f"a batch of {len(events)} events, {_types(events)} (sequences {_seqs(events)})"


def _types(events: Sequence[Event]) -> str:
    """At most three types: Discord names them, and a batch may have many."""
    types = list(dict.fromkeys(event.type for event in events))
    return ", ".join(types[:_TYPES_TOLD]) + (", …" if len(types) > _TYPES_TOLD else "")


def _seqs(events: Sequence[Event]) -> str:
    first, last = events[0].seq, events[-1].seq
    return str(first) if len(events) == 1 else f"{first} to {last}"
