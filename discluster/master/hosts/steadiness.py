# SPDX-License-Identifier: Apache-2.0
"""How steadily one connection has answered MASTER's pings. Pure: instants are passed in.

A host is asked by others whether it hears MASTER, and says yes if anything came within a third of
the lease. MASTER must know, without asking, that it would have said yes all the time. Of a ping
that was answered MASTER knows that it arrived between its sending and the coming of the answer. So
two answered pings arrived no further apart than the answer to the later came after the sending of
the earlier.
"""

from typing import Final

# Of the lease: a third, less what the clocks of two machines may drift apart in it.
LONGEST_GAP: Final = 0.33
_MOST_UNANSWERED: Final = 100


class Steadiness:
    """Of one connection. All instants: seconds of one clock."""

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}
        self._arrived_after: float | None = None  # the sending of the newest answered ping
        self._since = 0.0

    def pinged(self, number: int, now: float) -> None:
        """Numbers grow."""
        self._sent[number] = now
        if len(self._sent) > _MOST_UNANSWERED:
            self._sent.pop(next(iter(self._sent)))

    def answered(self, number: int, now: float, *, lease: float) -> None:
        """``lease``: seconds."""
        sent = self._sent.get(number)
        if sent is None:
            return
        self._sent = {later: at for later, at in self._sent.items() if later > number}
        before = self._arrived_after
        if before is None or now - before > LONGEST_GAP * lease:
            self._since = now
        self._arrived_after = sent

    def lasts(self, now: float, *, lease: float) -> float:
        """Seconds for which, without a break, the host has heard MASTER within a third of the lease
        at every instant.
        """
        if self._arrived_after is None or now - self._arrived_after > LONGEST_GAP * lease:
            return 0.0
        return now - self._since

    def begin_anew(self) -> None:
        """Nothing is known of the time until now."""
        self._sent, self._arrived_after = {}, None
