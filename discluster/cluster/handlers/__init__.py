# SPDX-License-Identifier: Apache-2.0
"""Packet handlers: what an operator attaches to a cluster to take its events."""

from collections.abc import Awaitable, Collection
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from discluster.cluster.handlers.calls import CallableHandler, CallAnswers, ClusterAnswer
from discluster.gateway.commands import Command
from discluster.gateway.events import LATER, Event, Later
from discluster.gateway.outbox import DEADLINE
from discluster.secret import Secret

__all__ = [
    "LATER",
    "AnyPacketHandler",
    "BatchPacketHandler",
    "CallAnswers",
    "CallableHandler",
    "ClusterAnswer",
    "Commands",
    "FlushingHandler",
    "PacketHandler",
    "SelectiveHandler",
    "TellingHandler",
]


class Commands(Protocol):
    """The way back that a packet handler gets: to its cluster, and to Discord (see
    :mod:`discluster.gateway.commands`). For the event loop only; another thread uses the loop's
    ``call_soon_threadsafe``.
    """

    @property
    def shard_count(self) -> int | None:
        """Of the whole fleet, as ``shard_of`` wants it; None before the first assignment."""
        ...

    @property
    def shards(self) -> tuple[int, ...]:
        """Those that this cluster is to run, by its assignment; some may not be open yet."""
        ...

    @property
    def token(self) -> Secret:
        """The bot token, for calls of Discord's API; ``token.reveal()`` is its text."""
        ...

    @property
    def intents(self) -> int:
        """What the shards ask Discord for, as a bit field (Discord: Gateway, Gateway Intents)."""
        ...

    @property
    def directory(self) -> Path:
        """Where this cluster may write. It is there; CONTROL removes it with the cluster."""
        ...

    def latency(self, shard: int) -> float | None:
        """Seconds from the last heartbeat of ``shard`` to its acknowledgement, if it is known."""
        ...

    def taken(self, event: Event) -> None:
        """Acknowledges: everything of its shard up to ``event`` is taken, for good.

        For events for which ``handle`` returned ``LATER``; one call for many, whose cost does not
        grow with their number when they are passed on at once. It tells nothing if the session of
        ``event`` is over, or its shard has left this cluster.
        """
        ...

    async def send(self, shard: int, command: Command, *, timeout: float = DEADLINE) -> None:
        """Sends through ``shard``, one of this cluster's; returns once it was written.

        Commands wait in order while the shard has no session, and for Discord's limits. They
        outlive a RESUME. An answer comes as an event, so a handler that waits for one must not do
        so in ``handle``: a shard's next event is not read before that is done.

        Raises:
            CommandError: Discord would not take it; nothing was queued.
            NotSentError: not within ``timeout`` seconds; or the shard is not here, was stopped or
                was rejected; or too many wait already. It was not sent.
        """
        ...

    def renew(self, shard: int, why: str) -> None:
        """Gives the session of ``shard`` up for a new one, which begins with READY and all guilds:
        for a handler that needs what only a new session tells. ``why``: in words, for the log.

        It costs one of the identifies that Discord allows in a day, waits for MASTER's permit, and
        loses what happens meanwhile. Nothing happens if the shard is not here, has no session or
        is being renewed already.
        """
        ...

    async def call(
        self,
        name: str,
        args: Any = None,
        *,
        clusters: Collection[int] | None = None,
        timeout: float = 10.0,
    ) -> CallAnswers:
        """Calls ``name`` in the handlers of ``clusters``, by number; None: in those of the whole
        fleet, this one included (see :class:`CallableHandler`).

        ``args``: what JSON can say, of 32 KiB at most. Returns within ``timeout`` seconds, of 60 at
        most, with one answer of each cluster: a value of up to 128 KiB, or why there is none. All
        values together have up to 8 MiB. It is never sent again by itself.

        Raises:
            CommandError: no such name, arguments, clusters or time-out can be.
            NotSentError: CONTROL of this host is away, or 32 calls of this cluster are under way
                already. Nobody was called.
        """
        ...


@runtime_checkable
class PacketHandler(Protocol):
    """Takes the events of all shards of one cluster, in the cluster's event loop."""

    async def start(self, cluster: int, commands: Commands) -> None:
        """Called once, before the first event. ``commands`` may be used until ``stop``."""
        ...

    def handle(self, event: Event) -> Awaitable[Later | None] | Later | None:
        """Takes one event: done when this, or the awaitable that it returns, is done.

        The stored sequence advances only then, so no event is lost. A shard's next event waits;
        those of other shards do not. With ``LATER`` the next event comes, and this one counts as
        taken when ``commands.taken`` was called with it or with a later one of its shard.
        """
        ...

    async def stop(self) -> None:
        """Called once, after the last event."""
        ...

    def summary(self) -> str:
        """A few words for ``systemctl status``; may be empty."""
        ...


@runtime_checkable
class BatchPacketHandler(Protocol):
    """Takes several events of one shard at once; otherwise as PacketHandler."""

    async def start(self, cluster: int, commands: Commands) -> None:
        """See PacketHandler."""
        ...

    def handle_batch(self, events: list[Event]) -> Awaitable[Later | None] | Later | None:
        """Takes what one read brought of one shard, at least one event, in order.

        All of them are taken when this, or the awaitable that it returns, is done. If it raises,
        none is. With ``LATER`` the next batch comes, and ``commands.taken`` acknowledges.
        """
        ...

    async def stop(self) -> None:
        """See PacketHandler."""
        ...

    def summary(self) -> str:
        """See PacketHandler."""
        ...


AnyPacketHandler = PacketHandler | BatchPacketHandler


class SelectiveHandler(Protocol):
    """What a packet handler has that does not want all events."""

    wants: frozenset[str]
    """Event types as Discord names them; looked at before ``start``, they must not change. Others
    are counted by the shard, but no object is made of them, and they are taken as they come."""


@runtime_checkable
class FlushingHandler(Protocol):
    """What a packet handler has that returns ``LATER``."""

    async def flush(self, shard: int) -> None:
        """Called after the last event of ``shard`` when it leaves this cluster or the cluster
        stops: the time to acknowledge what is left of it. For several shards at once.

        What is not acknowledged when it returns, raises or takes longer than ``flush_limit`` of
        cluster.yaml is replayed: to whoever has the shard next.
        """
        ...


@runtime_checkable
class TellingHandler(Protocol):
    """What a packet handler has that can tell what is wrong with its own work."""

    def problem(self, shard: int) -> str | None:
        """What is wrong, in words for ``disclusterctl status``; None: nothing. Asked often, so it
        must be cheap; shards of which the same words are said are shown together.
        """
        ...
