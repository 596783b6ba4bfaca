# SPDX-License-Identifier: Apache-2.0
"""Sends what is held to a broker, again and again until it is stored.

Whatever goes wrong with a connection - it is lost, the broker does not take a message, it does not
answer - ends alike: the connection is closed, and after a pause that grows another one gets all
that is not stored, in order. What had arrived nevertheless comes twice, with the same id.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from discluster.clock import Clock, in_words
from discluster.cluster.handlers.publishing.broker import (
    Answers,
    Broker,
    BrokerError,
    Connection,
    Refusal,
)
from discluster.cluster.handlers.publishing.held import Batch, Held
from discluster.gateway.backoff import Delay
from discluster.gateway.events import Event

log = logging.getLogger(__name__)

_SHORTEST: Final = 0.25
_LONGEST: Final = 15.0


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """``in_flight``: messages sent and not answered. ``buffer``: bytes that are held. ``patience``:
    seconds for an answer.
    """

    in_flight: int
    buffer: int
    patience: float


def before_dial(failures: int) -> Delay:
    """Before the next connection; ``failures``: since the broker last stored something."""
    high = min(_LONGEST, _SHORTEST * 2.0 ** min(failures, 16))
    return Delay(high / 2, high)


class Publisher:
    """One connection after the other, for all shards of a cluster. For the event loop only."""

    def __init__(
        self,
        *,
        title: str,
        broker: Broker,
        bounds: Bounds,
        taken: Callable[[Event], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """``title``: the broker's name in sentences. ``taken``: see Held."""
        self._title = title
        self._broker = broker
        self._bounds = bounds
        self._clock = clock
        self._rng = rng
        self._held = Held(taken)
        self._waiting: deque[Batch] = deque()
        self._in_flight: dict[int, Batch] = {}
        self._flying = 0
        self._allowed = bounds.in_flight
        self._connection: Connection | None = None
        self._heard = 0.0
        self._refusal: Refusal | None = None
        self._failures = 0
        self._trouble: str | None = None
        self._troubled_since = 0.0
        self._room: asyncio.Future[None] | None = None
        self._drained: dict[int, asyncio.Future[None]] = {}
        self._published = 0

    # --- for the handler -------------------------------------------------------------------------

    def publish(self, last: Event, encode: Callable[[int], list[bytes]]) -> None:
        """Takes over what ``encode`` makes, and sends it when it may be sent. See Held.add."""
        self._waiting.append(self._held.add(last, encode))
        self._pump()

    @property
    def full(self) -> bool:
        """Whether as much is held as may be."""
        return self._held.size >= self._bounds.buffer

    async def room(self) -> None:
        """Returns when less is held."""
        while self.full:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    async def drained(self, shard: int) -> None:
        """Returns when all of ``shard`` is stored."""
        while self._held.has(shard):
            if shard not in self._drained:
                self._drained[shard] = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained[shard])

    def summary(self) -> str:
        """A few words with figures."""
        told = [f"{self._published} events published to {self._title}"]
        if len(self._held):
            told.append(f"{len(self._held)} not acknowledged")
        if self._trouble is not None:
            away = in_words(self._clock.monotonic() - self._troubled_since)
            told.append(f"takes none for {away}: {self._trouble}")
        if further := self._broker.summary():
            told.append(further)
        return ", ".join(told)

    @property
    def problem(self) -> str | None:
        """Why nothing can be published, in words."""
        if self._trouble is None:
            return None
        return f"{self._title} takes no events, so they are held back: {self._trouble}"

    # --- the loop --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._one_connection()
            except BrokerError as error:
                self._failed(error.render())
            except Exception as error:  # events must not be stuck for a fault of ours
                log.exception("%s: the connection failed", self._title)
                self._failed(f"{type(error).__name__}: {error}")
            await self._clock.sleep(before_dial(self._failures).draw(self._rng))

    async def _one_connection(self) -> None:
        connection = await self._broker.dial()
        watch = asyncio.create_task(self._watch(connection), name=f"{self._title} watch")
        try:
            self._begin(connection)
            while True:
                answers = await connection.answers()
                self._heard = self._clock.monotonic()
                self._settle(answers)
        finally:
            self._connection = None
            watch.cancel()
            await connection.close()

    def _begin(self, connection: Connection) -> None:
        """Everything that is not stored waits again, in order."""
        for batch in self._in_flight.values():
            batch.sent = None
        self._in_flight.clear()
        self._flying = 0
        self._waiting = deque(self._held.batches.values())
        # What was refused is tried with one batch, not with all of them.
        self._allowed = 1 if self._refusal is not None else self._bounds.in_flight
        self._refusal = None
        self._connection = connection
        self._heard = self._clock.monotonic()
        if not self._waiting:
            self._recovered()
        self._pump()

    async def _watch(self, connection: Connection) -> None:
        patience = self._bounds.patience
        while True:
            await self._clock.sleep(patience / 4)
            now = self._clock.monotonic()
            oldest = next(iter(self._in_flight.values()), None)
            if oldest is not None and oldest.sent is not None and now - oldest.sent > patience:
                connection.abort(f"an event was not acknowledged within {patience:g} seconds")
            elif now - self._heard > 2 * patience:
                connection.abort(f"nothing was heard of it for {2 * patience:g} seconds")
            elif now - self._heard > patience:
                connection.ping()

    def _pump(self) -> None:
        connection, waiting = self._connection, self._waiting
        if connection is None or self._refusal is not None:
            return
        now = self._clock.monotonic()
        while waiting and self._flying < self._allowed:
            batch = waiting.popleft()
            if not batch.left:
                continue
            numbers, messages = self._held.missing(batch)
            batch.sent = now
            self._in_flight[batch.first] = batch
            self._flying += batch.left
            connection.write(numbers, messages)

    # --- answers ---------------------------------------------------------------------------------

    def _settle(self, answers: Answers) -> None:
        """Raises BrokerError when something was refused, once all else is answered."""
        self._count(answers)
        for refusal in answers.refused:
            self._flying -= 1
            self._refusal = self._refusal or refusal
            if refusal.too_large:
                self._held.change(refusal.number, self._broker.smaller)
        if self._refusal is None:
            self._pump()
        elif self._flying <= 0:
            raise BrokerError(self._refusal.reason, hint=self._refusal.hint)

    def _count(self, answers: Answers) -> None:
        stored, in_flight, shards = self._held.stored, self._in_flight, set[int]()
        counted = 0
        for number in answers.stored:
            batch = stored(number)
            if batch is None:
                continue
            counted += 1
            if batch.sent is not None:
                self._flying -= 1
            if not batch.left:
                in_flight.pop(batch.first, None)
                shards.add(batch.last.shard)
        if not counted:
            return
        self._published += counted
        self._allowed = self._bounds.in_flight
        self._recovered()
        self._make_room(shards)

    def _make_room(self, shards: set[int]) -> None:
        if self._room is not None and not self.full:
            self._room.set_result(None)
            self._room = None
        if self._drained:
            for shard in shards:
                if shard in self._drained and not self._held.has(shard):
                    self._drained.pop(shard).set_result(None)

    # --- what is told ----------------------------------------------------------------------------

    def _failed(self, reason: str) -> None:
        now = self._clock.monotonic()
        if self._trouble is None:
            self._troubled_since = now
        if reason != self._trouble:
            log.warning(
                "%s takes no events: %s; %d wait, and no more is read from Discord once"
                " 'unacknowledged' or 'buffer' is reached",
                self._title,
                reason,
                len(self._held),
            )
        self._trouble = reason
        self._failures += 1

    def _recovered(self) -> None:
        if self._trouble is not None:
            away = in_words(self._clock.monotonic() - self._troubled_since)
            log.info("%s takes events again, after %s", self._title, away)
        self._trouble = None
        self._failures = 0
