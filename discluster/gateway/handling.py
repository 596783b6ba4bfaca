# SPDX-License-Identifier: Apache-2.0
"""What takes a shard's events, in which way, and what follows when it raises."""

import enum
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec

from discluster.clock import Clock
from discluster.gateway.events import Event, Handler, Later
from discluster.gateway.failing import HandlerFailures

BatchHandler = Callable[[list[Event]], Awaitable[Later | None] | Later | None]
"""Takes what one read brought of one shard: at least one event, in order, all or none of them."""


class Untaken(enum.Enum):
    """The type of :data:`UNTAKEN`."""

    UNTAKEN = "untaken"


UNTAKEN: Final = Untaken.UNTAKEN
"""The answer for events that are not to be tried again here: they will be replayed."""


class Failures(Protocol):
    """What to do about a handler that raised. One for all shards of a cluster."""

    def failed(self, events: Sequence[Event], error: BaseException, *, tries: int) -> float | None:
        """The handler raised at ``events`` for the ``tries``-th time. In how many seconds they are
        tried again; None: they are skipped; infinity: the cluster is about to end instead.
        """
        ...

    async def pause(self, seconds: float) -> None:
        """Returns after what ``failed`` said."""
        ...


class Handling(msgspec.Struct, frozen=True, kw_only=True):
    """``handle`` or, where there is one, ``batch`` gets the events. ``wants``: their types; the
    others count as taken. None: all.
    """

    failures: Failures
    handle: Handler | None = None
    batch: BatchHandler | None = None
    wants: frozenset[str] | None = None


def as_handling(handler: Handler | Handling, *, clock: Clock) -> Handling:
    """A plain handler gets every event, and those at which it raises are skipped."""
    if isinstance(handler, Handling):
        return handler
    return Handling(handle=handler, failures=HandlerFailures(clock=clock))
