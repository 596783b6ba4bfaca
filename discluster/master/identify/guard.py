# SPDX-License-Identifier: Apache-2.0
"""Stops loops that burn identifies. Pure; the caller passes the time, in wall-clock seconds.

A shard that identifies again and again, and a fleet that does so on a broad front, get no permit
any more until the operator acts: what ends each session is the same the next time, and Discord
resets the token of a bot that goes on. One identify of each shard is a start, and no loop.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from discluster.clock import DAY

_HOUR: Final = 3600.0


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Why no permit is given, in words, and since when."""

    since: float
    why: str


class GuardMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What must survive a restart of MASTER. ``identifies``: of each shard, in the last 24 hours,
    whole seconds. ``stopped``: shards. ``closed``: the whole fleet.
    """

    identifies: dict[int, tuple[int, ...]] = {}
    stopped: dict[int, Stop] = {}
    closed: Stop | None = None


class LoopGuard:
    """Which shards may ask for a permit at all."""

    def __init__(self, *, limit: int, waste: float, memory: GuardMemory) -> None:
        """``limit``: identifies of a shard in an hour. ``waste``: fraction of the daily total that
        may go to shards that identify again.
        """
        self._limit = limit
        self._waste = waste
        self._identifies = dict(memory.identifies)
        self._stopped = dict(memory.stopped)
        self._closed = memory.closed

    def follow(self, *, limit: int, waste: float) -> None:
        """Takes new bounds; who is held back already stays so."""
        self._limit = limit
        self._waste = waste

    @property
    def memory(self) -> GuardMemory:
        return GuardMemory(identifies=self._identifies, stopped=self._stopped, closed=self._closed)

    @property
    def closed(self) -> Stop | None:
        """Why no shard at all gets a permit."""
        return self._closed

    @property
    def stopped(self) -> Mapping[int, Stop]:
        """The shards that are held back."""
        return self._stopped

    def used(self, shard: int, now: float) -> None:
        """``shard`` identified."""
        times = (*self._identifies.get(shard, ()), int(now))
        self._identifies[shard] = tuple(t for t in times if t > now - DAY)

    def is_looping(self, shard: int, now: float) -> bool:
        """Whether ``shard`` is known to identify far too often, so that more says nothing new."""
        lately = [t for t in self._identifies.get(shard, ()) if t > now - _HOUR]
        return len(lately) >= 2 * self._limit

    def look(
        self, waiting: Iterable[int], *, total: int, endings: Mapping[int, str], now: float
    ) -> bool:
        """Judges the shards that want to identify again; True if one was stopped, or all were.
        ``endings``: what the last connection of a shard ended with, in words.
        """
        before = (len(self._stopped), self._closed)
        for shard in waiting:
            times = self._identifies.get(shard, ())
            lately = [t for t in times if t > now - _HOUR]
            if len(lately) >= self._limit and shard not in self._stopped:
                why = f"identified {len(lately)} times within an hour"
                ending = endings.get(shard)
                why += f"; the last time it ended with: {ending}" if ending else ""
                self._stopped[shard] = Stop(since=now, why=why)
        if self._closed is None:
            self._closed = self._judge_all(total, now)
        return before != (len(self._stopped), self._closed)

    def again(self, now: float) -> int:
        """Identifies of the last 24 hours beyond one for each shard."""
        self._identifies = {
            shard: lately
            for shard, times in self._identifies.items()
            if (lately := tuple(t for t in times if t > now - DAY))
        }
        return sum(len(times) - 1 for times in self._identifies.values())

    def release(self, shards: Iterable[int] | None) -> tuple[int, ...]:
        """Lets go ``shards``, or all; what they identified before does not count any more.
        Returns those that had been stopped.
        """
        chosen = set(self._identifies) | set(self._stopped) if shards is None else set(shards)
        released = tuple(sorted(chosen & self._stopped.keys()))
        for shard in chosen:
            self._stopped.pop(shard, None)
            self._identifies.pop(shard, None)
        if shards is None:
            self._closed = None
        return released

    def _judge_all(self, total: int, now: float) -> Stop | None:
        again = self.again(now)
        if again <= total * self._waste:
            return None
        return Stop(
            since=now,
            why=f"shards that had identified before identified {again} times again within 24 h,"
            f" of {total} session starts a day",
        )
