# SPDX-License-Identifier: Apache-2.0
"""When one connection beats, and when it is a zombie (Discord: Gateway, Sending Heartbeats).

Any inbound frame counts as a sign of life for one interval, because an ACK can queue behind a
flood of events. A connection without an ACK for three intervals is a zombie all the same. Time in
which we did not read (the handler was busy, the process was held up) is held against nobody.
"""

from enum import Enum
from typing import Final

SHORTEST: Final = 0.02  # seconds; what Discord sends is 41.25, test gateways scale it down
LONGEST: Final = 600.0
UNACKNOWLEDGED_LIMIT: Final = 3  # intervals


class Verdict(Enum):
    """On the connection, when a beat is due; all but the first mean that it is to be aborted."""

    ALIVE = "alive"
    SILENT = "Discord sent nothing for a whole heartbeat interval"
    UNACKNOWLEDGED = "Discord acknowledged no heartbeat for three intervals"
    STALLED = "this process was held up for more than a heartbeat interval"


def usable_interval(milliseconds: object) -> float | None:
    """HELLO's ``heartbeat_interval`` in seconds; None if no connection can be kept with it."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    seconds = milliseconds / 1000
    return seconds if SHORTEST <= seconds <= LONGEST else None


class Heartbeat:
    """The heartbeat state of one connection; it starts anew with every HELLO.

    All times are monotonic seconds. ``frames`` counts everything that was received on this
    connection, ``unread`` the seconds for which it was deliberately not read.
    """

    __slots__ = ("_asked", "_frames", "_missed", "_ticked", "_unread", "due", "interval", "latency")

    def __init__(self, *, interval: float, now: float, jitter: float) -> None:
        """``jitter``: uniform in 0..1; Discord asks for it so that shards do not beat in step."""
        self.interval = interval
        self.due = now + interval * jitter
        self.latency: float | None = None
        self._asked: tuple[float, float] | None = None  # first beat without ACK: (time, unread)
        self._ticked: float | None = None
        self._frames = 0
        self._unread = 0.0
        self._missed = 0

    def tick(self, now: float, *, frames: int, unread: float) -> Verdict:
        """The beat that was due is about to be sent; plans the next one."""
        verdict = self._judge(now, frames=frames, unread=unread)
        self._ticked, self._frames, self._unread = now, frames, unread
        self.due = now + self.interval
        return verdict

    def sent(self, now: float, *, unread: float) -> None:
        """A beat was written, the regular one or one that Discord asked for."""
        if self._asked is None:
            self._asked = (now, unread)

    def acknowledged(self, now: float, *, unread: float) -> None:
        """An ACK was read. One that nobody waits for is harmless."""
        self._missed = 0
        if self._asked is not None:
            sent, unread_then = self._asked
            self.latency = max(0.0, (now - sent) - (unread - unread_then))
            self._asked = None

    def _judge(self, now: float, *, frames: int, unread: float) -> Verdict:
        late = now - self.due
        if late > self.interval:
            return Verdict.STALLED
        if self._ticked is None:
            return Verdict.ALIVE
        read = (now - self._ticked) - (unread - self._unread)
        if late > self.interval / 4 or read < self.interval / 2:
            # What the peer sent may still lie unread in the socket: judge at the next beat.
            return Verdict.ALIVE
        if frames == self._frames:
            return Verdict.SILENT
        self._missed = self._missed + 1 if self._asked is not None else 0
        limit = self._missed >= UNACKNOWLEDGED_LIMIT
        return Verdict.UNACKNOWLEDGED if limit else Verdict.ALIVE
