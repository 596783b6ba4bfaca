# SPDX-License-Identifier: Apache-2.0
"""Tells MASTER every few seconds how far this host's sessions are, so that somebody else can RESUME
them when the host vanishes.

The session files are read, not the clusters asked: so a cluster that is dead or hangs is in it, and
no sequence is ahead of what its handler took.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, Protocol

from discluster.clock import Clock
from discluster.messages import Checkpoint, Message
from discluster.stays import ShardKey, Stay

# With the longest addresses that is less than a megabyte, and both ends are done with it within
# some milliseconds.
_SHARDS_PER_MESSAGE: Final = 1000

Files = Mapping[int, Mapping[ShardKey, Stay]]


def newest_stays(files: Files, shard_count: int) -> dict[int, Stay]:
    """The last stay on this host of every shard of so many, from the session files by cluster."""
    found: dict[int, Stay] = {}
    for stays in files.values():
        for (shard, count), stay in stays.items():
            before = found.get(shard)
            if count == shard_count and (before is None or stay.entered > before.entered):
                found[shard] = stay
    return found


class Told:
    """What MASTER was told on one connection. Pure."""

    def __init__(self) -> None:
        self._shard_count = 0
        self._stays: dict[int, Stay] = {}

    def news(self, shard_count: int, stays: Mapping[int, Stay]) -> list[Checkpoint]:
        """What it does not know yet of ``stays``, and knows once these messages arrived."""
        if shard_count != self._shard_count:
            self._shard_count, self._stays = shard_count, {}
        new = {shard: stay for shard, stay in stays.items() if self._stays.get(shard) != stay}
        self._stays |= new
        return [_checkpoint(shard_count, part) for part in _parts(new)]


def _parts(stays: Mapping[int, Stay]) -> Iterator[dict[int, Stay]]:
    rest = iter(sorted(stays.items()))
    while part := dict(islice(rest, _SHARDS_PER_MESSAGE)):
        yield part


def _checkpoint(shard_count: int, stays: Mapping[int, Stay]) -> Checkpoint:
    return Checkpoint(
        shard_count=shard_count,
        sessions={s: stay.session for s, stay in stays.items() if stay.session is not None},
        entered={s: stay.entered for s, stay in stays.items()},
        ended=tuple(s for s, stay in stays.items() if stay.session is None),
    )


class Master(Protocol):
    """The connection, or none."""

    @property
    def connected(self) -> bool: ...

    def send(self, message: Message) -> None: ...


class Checkpointing:
    """The loop around :class:`Told`."""

    def __init__(
        self, *, read: Callable[[int], Mapping[ShardKey, Stay]], clock: Clock, interval: float
    ) -> None:
        """``read``: gives what is in the session file of a cluster. ``interval``: seconds."""
        self._read = read
        self._clock = clock
        self._interval = interval
        self._told = Told()

    def begin_anew(self) -> None:
        """A new connection: a MASTER that restarted, or another one, knows nothing for certain."""
        self._told = Told()

    async def run(
        self, master: Master, shard_count: Callable[[], int], clusters: Callable[[], set[int]]
    ) -> None:
        """Until cancelled. ``shard_count``: of the plan in force, 0 without one. ``clusters``:
        those that have, or had, shards on this host.
        """
        while True:
            await self._clock.sleep(self._interval)
            if not master.connected or not shard_count():
                continue
            files = await self._files(clusters())
            if master.connected:
                count = shard_count()
                for checkpoint in self._told.news(count, newest_stays(files, count)):
                    master.send(checkpoint)

    async def _files(self, clusters: set[int]) -> Files:
        files = {}
        for cluster in sorted(clusters):
            files[cluster] = self._read(cluster)
            # A file takes a fraction of a millisecond, and a host may have hundreds.
            await self._clock.sleep(0)
        return files
