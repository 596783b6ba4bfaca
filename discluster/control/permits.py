# SPDX-License-Identifier: Apache-2.0
"""Identify permits on one host: asked of MASTER, or taken from the host's slot while it is away.

Whatever is in doubt counts as used: a permit whose cluster is gone may have been used the instant
before, and an identify that MASTER was not told of yet must hold up its lane there.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from discluster.clock import Clock, at_most
from discluster.control import slots
from discluster.messages import (
    Message,
    Permit,
    PermitDenied,
    PermitRequest,
    PermitReturned,
    PermitUsed,
)
from discluster.plan import IdentifySlots

log = logging.getLogger(__name__)

_SHORTEST_PAUSE: Final = 0.05


class _Asker(msgspec.Struct, frozen=True):
    """Where a request came from."""

    cluster: int
    reply: Callable[[Message], None]


class PermitDesk:
    """Every shard that waits for its turn to identify, and who told us so."""

    def __init__(self, *, clock: Clock, interval: float) -> None:
        """``interval``: seconds between two identifies of one bucket."""
        self._clock = clock
        self._interval = interval
        self._waiting: dict[int, _Asker] = {}
        self._granted: dict[int, _Asker] = {}
        self._used_alone: list[int] = []
        self._to_master: Callable[[Message], None] | None = None
        self._slots: IdentifySlots | None = None
        # An earlier CONTROL may have had a permit from MASTER, or taken this window, just now.
        self._lost_at = clock.monotonic()
        self._taken: dict[int, float] = {}
        self._windows: dict[int, int] = {}
        self._wake = asyncio.Event()
        self._blocked = False

    def block(self, blocked: bool) -> None:
        """Whether nobody may identify, since Discord rejected a shard of this host or fleet."""
        if blocked != self._blocked:
            self._blocked = blocked
            self._wake.set()

    def follow(self, identify: IdentifySlots) -> None:
        """The slots of the plan in force."""
        self._slots = identify
        self._wake.set()

    def master_connected(self, send: Callable[[Message], None]) -> None:
        """From now on MASTER decides; it is told of every identify that it could not see, and of
        every shard that waits or holds a permit.
        """
        self._to_master = send
        for shard in (*self._used_alone, *self._granted):
            # It may identify any moment; MASTER must count it as if it just had.
            send(PermitUsed(shard=shard))
        self._used_alone.clear()
        for shard in self._waiting:
            send(PermitRequest(shard=shard))

    def master_lost(self) -> None:
        self._to_master = None
        self._lost_at = self._clock.monotonic()
        self._wake.set()

    def request(self, shard: int, *, cluster: int, reply: Callable[[Message], None]) -> None:
        if shard in self._granted:
            # It asks again without a word about its permit: it was restarted, or cut off from us.
            self.used(shard)
        self._waiting[shard] = _Asker(cluster, reply)
        self._tell(PermitRequest(shard=shard))
        self._wake.set()

    def used(self, shard: int) -> None:
        self._granted.pop(shard, None)
        if self._to_master is None:
            self._used_alone.append(shard)
        self._tell(PermitUsed(shard=shard))

    def returned(self, shard: int) -> None:
        self._waiting.pop(shard, None)
        self._granted.pop(shard, None)
        self._tell(PermitReturned(shard=shard))

    def cluster_gone(self, cluster: int) -> None:
        """Nobody waits there any more; what it was granted may have been used."""
        for shard in [s for s, asker in self._waiting.items() if asker.cluster == cluster]:
            self.returned(shard)
        for shard in [s for s, asker in self._granted.items() if asker.cluster == cluster]:
            self.used(shard)

    def answer(self, message: Permit | PermitDenied) -> None:
        """What MASTER said. A permit for a shard that gave up waiting goes back at once."""
        asker = self._waiting.pop(message.shard, None)
        if asker is not None:
            if isinstance(message, Permit):
                self._granted[message.shard] = asker
            asker.reply(message)
        elif isinstance(message, Permit):
            self._tell(PermitReturned(shard=message.shard))

    async def run(self) -> None:
        """Grants from the host's slots for as long as MASTER is away."""
        while True:
            self._wake.clear()
            alone = self._to_master is None and not self._blocked
            if alone and self._waiting and self._slots is not None:
                self._grant_from_slot(self._slots)
                pause = self._until_next_slot(self._slots)
                await at_most(pause, self._wake.wait(), clock=self._clock)
            else:
                await self._wake.wait()

    def _tell(self, message: Message) -> None:
        if self._to_master is not None:
            self._to_master(message)

    def _grant_from_slot(self, identify: IdentifySlots) -> None:
        # What MASTER granted just before it went away may have been used only now, and it may not
        # have noticed yet that we are out of touch.
        if self._clock.monotonic() - self._lost_at < max(self._interval, identify.after):
            return
        window = slots.current_window(self._clock.wall(), identify, self._interval)
        if window is None:
            return
        for shard in sorted(self._waiting):
            if self._take(shard % identify.max_concurrency, window):
                log.info("MASTER is away: shard %d identifies in this host's slot", shard)
                asker = self._granted[shard] = self._waiting.pop(shard)
                asker.reply(Permit(shard=shard))

    def _take(self, bucket: int, window: int) -> bool:
        """Takes the bucket's turn in this window. The second clock is for a wall clock that is
        set back.
        """
        now = self._clock.monotonic()
        rests = now - self._taken.get(bucket, float("-inf")) < self._interval
        if rests or self._windows.get(bucket) == window:
            return False
        self._taken[bucket], self._windows[bucket] = now, window
        return True

    def _until_next_slot(self, identify: IdentifySlots) -> float:
        now = self._clock.wall()
        return max(_SHORTEST_PAUSE, slots.next_window_start(now, identify, self._interval) - now)
