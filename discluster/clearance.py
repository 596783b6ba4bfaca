# SPDX-License-Identifier: Apache-2.0
"""What one shard's rejection means for all others with the same token.

Discord closes all sessions with 4003 when the token was reset or an intent was withdrawn, and tells
only at the next authentication whether it will ever take the token again (Discord: Opcodes and
Status Codes, Gateway Close Event Codes). A fleet that all tries at once gets its answer a thousand
times. So one of all tries, the canary; if Discord takes it, the others follow; if Discord rejects
it for good, they stay where they are, and the operator is told.

The same :class:`Clearing` works at three levels: a cluster among its shards, CONTROL among its
clusters, MASTER among its hosts. Each sends only its own canary to the level above, and decides for
itself while there is none.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

from discluster.messages import CaseState, ShardView

CANARY_LIMIT: Final = 60.0  # seconds; then the next one tries
_LONGEST_PAUSE: Final = 30.0

Who = TypeVar("Who")


def rejection(views: Iterable[ShardView]) -> str | None:
    """Why nobody may dial: what Discord said to the first of these shards that it rejected."""
    for view in views:
        if view.fatal is not None:
            said = view.problem or f"Discord closed it with {view.fatal} for good"
            return f"shard {view.shard} was rejected: {said}"
    return None


class Clearing(Generic[Who]):
    """All at one level whom Discord closed with 4003. Times are monotonic seconds.

    ``clear``: tells one that it may try. ``release``: tells many that they all may.
    """

    def __init__(
        self, *, clear: Callable[[Who], None], release: Callable[[Sequence[Who]], None]
    ) -> None:
        self._clear = clear
        self._release = release
        self._above: Callable[[Who, CaseState], None] | None = None
        self._waiting: dict[Who, None] = {}
        self._canary: Who | None = None
        self._cleared_at: float | None = None
        self._failures = 0
        self._not_before = float("-inf")

    @property
    def canary(self) -> Who | None:
        """Who tries, or is about to as soon as the level above agrees."""
        return self._canary

    def is_cleared(self, who: Who) -> bool:
        """Whether ``who`` is the one that may try now."""
        return who == self._canary and self._cleared_at is not None

    def connect(self, above: Callable[[Who, CaseState], None]) -> None:
        """The level above is there, and hears of the canary."""
        self._above = above
        if self._canary is not None:
            above(self._canary, "asks")

    def disconnect(self, now: float) -> None:
        """The level above is away: this one decides."""
        self._above = None
        if self._canary is not None and self._cleared_at is None:
            self.cleared(self._canary, now)

    def ask(self, who: Who) -> None:
        """``who`` was closed with 4003; :meth:`step` follows."""
        if who != self._canary:
            self._waiting[who] = None

    def leave(self, who: Who) -> None:
        """``who`` is gone; :meth:`step` follows."""
        self._waiting.pop(who, None)
        if who == self._canary:
            self._dethrone()

    def accepted(self, who: Who) -> None:
        """Discord took the token from ``who``: everybody else follows."""
        if self._above is not None:
            self._above(who, "accepted")
        self._waiting.pop(who, None)
        if who == self._canary:
            self._canary = self._cleared_at = None
        self.released()

    def failed(self, who: Who, now: float) -> None:
        """``who`` got no answer from Discord, or gives up; the next one's turn is after a pause."""
        self._waiting.pop(who, None)
        if who == self._canary:
            self._dethrone()
            self._failures += 1
            self._not_before = now + min(_LONGEST_PAUSE, 2.0 ** (self._failures - 1))

    def cleared(self, who: Who, now: float) -> None:
        """From the level above: our canary may try. One that is not any more gives it back."""
        if who == self._canary:
            self._cleared_at = now
            self._clear(who)
        elif self._above is not None:
            self._above(who, "failed")

    def released(self) -> None:
        """From the level above, or from our canary: everybody may."""
        everybody = list(self._waiting)
        if self._canary is not None:
            everybody.insert(0, self._canary)
        self._waiting.clear()
        self._canary = self._cleared_at = None
        self._failures, self._not_before = 0, float("-inf")
        if everybody:
            self._release(everybody)

    def step(self, now: float) -> float | None:
        """Names a canary if there is none. Seconds until the next call; None: when something
        happens.
        """
        if self._cleared_at is not None and now >= self._cleared_at + CANARY_LIMIT:
            self._dethrone()  # it may still succeed, but the others do not wait for it
        if self._canary is None and self._waiting and now >= self._not_before:
            self._name(next(iter(self._waiting)), now)
        if self._cleared_at is not None:
            return self._cleared_at + CANARY_LIMIT - now
        return self._not_before - now if self._canary is None and self._waiting else None

    def _name(self, who: Who, now: float) -> None:
        del self._waiting[who]
        self._canary = who
        if self._above is not None:
            self._above(who, "asks")
        else:
            self.cleared(who, now)

    def _dethrone(self) -> None:
        if self._canary is not None and self._above is not None:
            self._above(self._canary, "failed")
        self._canary = self._cleared_at = None
