# SPDX-License-Identifier: Apache-2.0
"""Packet handlers: what an operator attaches to a cluster to take its events."""

import importlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from discluster.errors import ConfigurationError
from discluster.gateway.commands import Command
from discluster.gateway.events import LATER, Event, Later
from discluster.gateway.outbox import DEADLINE

__all__ = ["LATER", "Commands", "FlushingHandler", "PacketHandler", "load_handler"]


class Commands(Protocol):
    """The way back that a packet handler gets: to its cluster, and to Discord (see
    :mod:`discluster.gateway.commands`). For the event loop only; another thread uses the loop's
    ``call_soon_threadsafe``.
    """

    @property
    def shard_count(self) -> int | None:
        """Of the whole fleet, as ``shard_of`` wants it; None before the first assignment."""
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
class FlushingHandler(Protocol):
    """What a packet handler has that returns ``LATER``."""

    async def flush(self, shard: int) -> None:
        """Called after the last event of ``shard`` when it leaves this cluster or the cluster
        stops: the time to acknowledge what is left of it. For several shards at once.

        What is not acknowledged when it returns, raises or takes longer than ``flush_limit`` of
        cluster.yaml is replayed: to whoever has the shard next.
        """
        ...


def load_handler(name: str) -> PacketHandler:
    """The handler that ``module:attribute`` makes when it is called.

    Raises:
        ConfigurationError: it cannot be imported or made, or is no packet handler.
    """
    module_name, _, attribute = name.partition(":")
    hint = "see 'handler' in cluster.yaml; the module must be importable by the cluster's Python"
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ConfigurationError(f"handler {name}: {error}", hint=hint) from None
    except AttributeError:
        raise ConfigurationError(
            f"handler {name}: module {module_name} has no {attribute!r}", hint=hint
        ) from None
    except Exception as error:
        raise ConfigurationError(
            f"handler {name}: the module fails on import: {type(error).__name__}: {error}",
            hint=hint,
        ) from error
    try:
        handler = factory()
    except Exception as error:
        raise ConfigurationError(
            f"handler {name}: calling it fails: {type(error).__name__}: {error}", hint=hint
        ) from error
    if not isinstance(handler, PacketHandler):
        raise ConfigurationError(
            f"handler {name}: {type(handler).__name__} is no packet handler",
            hint="it needs the methods start, handle, stop and summary",
        )
    _check_call(name, handler.start, 0, None, hint="it takes the cluster's number and the commands")
    if isinstance(handler, FlushingHandler):
        _check_call(name, handler.flush, 0, hint="it takes the number of a shard")
    return handler


def _check_call(name: str, method: Callable[..., object], *arguments: object, hint: str) -> None:
    try:
        inspect.signature(method).bind(*arguments)
    except TypeError as error:
        raise ConfigurationError(
            f"handler {name}: {method.__name__} cannot be called: {error}", hint=hint
        ) from None
