# SPDX-License-Identifier: Apache-2.0
"""A packet handler that publishes what it gets, and acknowledges what is stored."""

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from discluster.clock import Clock
from discluster.cluster.handlers import LATER, Commands
from discluster.cluster.handlers.publishing.broker import Broker
from discluster.cluster.handlers.publishing.naming import Naming, published
from discluster.cluster.handlers.publishing.publisher import Bounds, Publisher
from discluster.cluster.handlers.publishing.settings import MEBIBYTE
from discluster.gateway.events import Event, Later

log = logging.getLogger(__name__)

_NO_BODY: Final = msgspec.Raw(b"null")


class Encoder(Protocol):
    """Makes a broker's messages."""

    def encode(self, events: Sequence[Event], first: int) -> list[bytes]:
        """One message for each of ``events``; ``first``: the number of the first one."""
        ...


class Common(Protocol):
    """The settings that all brokers have."""

    @property
    def events(self) -> tuple[str, ...]: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def buffer(self) -> int:
        """MiB."""
        ...

    @property
    def acknowledge_limit(self) -> float:
        """Seconds."""
        ...


class PublishingHandler:
    """For any broker."""

    def __init__(
        self,
        *,
        title: str,
        settings: Common,
        broker: Broker,
        encoder: Encoder,
        naming: Naming,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """``title``: the broker's name in sentences. ``naming``: that of ``encoder``."""
        self.wants = frozenset(settings.events) or None
        self._title = title
        self._broker = broker
        self._encoder = encoder
        self._naming = naming
        self._bounds = Bounds(
            in_flight=settings.in_flight,
            buffer=settings.buffer * MEBIBYTE,
            patience=settings.acknowledge_limit,
        )
        self._clock = clock
        self._rng = rng
        self._publisher: Publisher | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, cluster: int, commands: Commands) -> None:
        """Does not wait for the broker: what comes before it is there is held."""
        log.info("cluster %d publishes events to %s", cluster, self._title)
        self._publisher = Publisher(
            title=self._title,
            broker=self._broker,
            bounds=self._bounds,
            taken=commands.taken,
            clock=self._clock,
            rng=self._rng,
        )
        self._task = asyncio.create_task(self._publisher.run(), name=self._title)

    def handle_batch(self, events: list[Event]) -> "asyncio.Future[Later] | Later | None":
        publisher = self._publisher
        assert publisher is not None, "start comes first"
        kept = published(events, self._naming)
        if not kept:
            return None
        end = events[-1]
        # An event refers to the whole message in which it came; its body need not be kept.
        last = Event(end.shard, end.seq, end.type, _NO_BODY, end.session_id)
        publisher.publish(last, lambda first: self._encoder.encode(kept, first))
        return asyncio.ensure_future(_later(publisher)) if publisher.full else LATER

    async def flush(self, shard: int) -> None:
        assert self._publisher is not None, "start comes first"
        await self._publisher.drained(shard)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def summary(self) -> str:
        return self._publisher.summary() if self._publisher is not None else ""

    def problem(self, shard: int) -> str | None:
        return self._publisher.problem if self._publisher is not None else None


async def _later(publisher: Publisher) -> Later:
    """The shard is not read before less is held."""
    await publisher.room()
    return LATER
