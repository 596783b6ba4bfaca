# SPDX-License-Identifier: Apache-2.0
"""How much of the events is kept for clients: one bound for all shards of a cluster. Pure.

When room is needed, first goes what all clients have (it was kept only for a client that RESUMEs
from further back), the oldest of all shards first. Then, counted as lost, what no attached client
takes. What an attached client has still to acknowledge is never given up: if that alone is more
than half of the room, whoever brings more is to be held back, see :attr:`Keeping.full`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from discluster.clock import Clock
from discluster.cluster.local.entries import SLICE
from discluster.cluster.local.framing import Heads
from discluster.cluster.local.log import UNKEPT, EventLog
from discluster.cluster.local.losses import Losses, Why

# What is freed beyond need, as a part of the room, so that not each batch looks for the oldest.
_SPARE: Final = 32
_LOOSE: Final = 256


class Keeping:
    """The logs of the shards that are here. ``held``: bytes of all; more than ``size`` by one batch
    of each shard at most, and that only while ``full``.
    """

    def __init__(
        self, *, size: int, age: float, clients: Sequence[str], unacknowledged: int, clock: Clock
    ) -> None:
        """``size``: bytes. ``age``: seconds. ``unacknowledged``: see EventLog."""
        self.held = 0
        self.losses = Losses()
        self._size = size
        self._age = age
        self._clients = tuple(clients)
        self._unacknowledged = unacknowledged
        self._clock = clock
        self._heads = Heads(unkept=UNKEPT)
        self._logs: dict[int, EventLog] = {}

    @property
    def full(self) -> bool:
        """Too much is owed to clients that are attached: before they acknowledge some of it, or
        go, no more events are to be brought. Nothing is lost by that.
        """
        return self.held > self._size

    def open(self, shard: int) -> EventLog:
        """The log of ``shard``, which is here from now on; empty if it was not."""
        log = self._logs.get(shard)
        if log is None:
            log = self._logs[shard] = EventLog(
                shard,
                clients=self._clients,
                pool=self,
                heads=self._heads,
                clock=self._clock,
                unacknowledged=self._unacknowledged,
            )
        return log

    def close(self, shard: int) -> None:
        """``shard`` has left. Counts what of it is lost by that."""
        log = self._logs.pop(shard, None)
        if log is not None:
            log.close()
            self.make_room()

    def expire(self) -> None:
        """Gives up what is older than ``age``, but for what attached clients are about to take. To
        be called every second or so.
        """
        oldest = self._clock.monotonic() - self._age - SLICE
        for log in self._logs.values():
            while log.loose_since <= oldest:
                log.drop_loose(log.held, Why.AGE)

    # --- for the logs ---

    def grew(self, size: int) -> None:
        self.held += size

    def lost(self, client: str, why: Why, count: int) -> None:
        self.losses.add(client, why, count)

    def make_room(self) -> None:
        if self.held <= self._size:
            return
        target = self._size - self._size // _SPARE
        self._drop(target, lambda log: log.spare_since, EventLog.drop_spare)
        if self.held <= self._size or 2 * self._awaited() > self._size:
            return
        target = self._size - self._size // _LOOSE
        self._drop(
            target, lambda log: log.loose_since, lambda log, size: log.drop_loose(size, Why.SIZE)
        )

    def _awaited(self) -> int:
        return sum(log.awaited for log in self._logs.values())

    def _drop(
        self, target: int, since: Callable[[EventLog], float], drop: Callable[[EventLog, int], int]
    ) -> None:
        """Until no more than ``target`` bytes are held, or there is nothing left to drop."""
        while self.held > target:
            log = min(self._logs.values(), key=since)
            if since(log) == float("inf"):
                return
            drop(log, self.held - target)
