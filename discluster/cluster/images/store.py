# SPDX-License-Identifier: Apache-2.0
"""The images of all shards of a cluster."""

import asyncio
import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from discluster.clock import Clock
from discluster.cluster.images.finding import Sought, candidates, file_name
from discluster.cluster.images.image import ShardImage
from discluster.cluster.images.journal import Disk, Journal
from discluster.cluster.images.room import Room
from discluster.cluster.images.trouble import DiskTrouble

# Discord forgets a session within minutes; then nothing can go on with its image.
_KEPT: Final = 3600.0  # seconds


class Images:
    """At most ``limit`` bytes of memory for the guilds of all shards together; on disk, a file for
    each shard, which outlives the process.

    For the event loop only. Nothing raises: without the disk the images are in memory.
    """

    def __init__(
        self, directory: Path, *, siblings: Path | None, limit: int, boot_id: str, clock: Clock
    ) -> None:
        """``directory``: the cluster's own (places.cluster_directory), where it may write.
        ``siblings``: the directory that this and those of the machine's other clusters are in.
        ``boot_id``: discluster.lease.boot_id().
        """
        self._directory = directory
        self._siblings = siblings
        self._boot_id = boot_id
        self._clock = clock
        self._room = Room(limit)
        self._open: dict[int, tuple[ShardImage, Journal]] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="images")
        self._trouble = DiskTrouble()
        self._disk = Disk(boot_id, self._worker, clock, self._trouble, itertools.count())
        self._closing: set[Future[None]] = set()
        self._departed = {path: clock.monotonic() + _KEPT for path in self._files()}

    @property
    def used(self) -> int:
        """Bytes that the guilds take now."""
        return self._room.used

    @property
    def left_out(self) -> int:
        """Guilds of all shards for which there was no room."""
        return sum(image.left_out for image, _ in self._open.values())

    @property
    def in_trouble(self) -> bool:
        """Whether some images cannot be written to the disk, and a crash would lose them."""
        return bool(self._trouble)

    def open(self, shard: int, *, session_id: str, seq: int) -> ShardImage:
        """The image of a shard that is to go on with ``session_id`` after ``seq``: from disk, if
        there is one of that session which saw all up to there. Otherwise an empty one, as for a
        session that is yet to begin.

        Reads the file whole, which takes some 3 ms for each megabyte.
        """
        self.close(shard)
        path = self._directory / file_name(shard)
        self._departed.pop(path, None)
        journal = Journal(path, shard=shard, disk=self._disk)
        image = ShardImage(room=self._room, keeper=journal)
        self._open[shard] = image, journal
        if session_id:
            self._restore(image, journal, shard=shard, session_id=session_id, seq=seq)
        return image

    def close(self, shard: int) -> None:
        """The shard has left. What is on disk stays for whoever has it next, for an hour."""
        if (found := self._open.pop(shard, None)) is None:
            return
        image, journal = found
        if (closing := journal.close(image)) is not None:
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        image.forget()
        path = self._directory / file_name(shard)
        self._trouble.gone(path)
        self._departed[path] = self._clock.monotonic() + _KEPT

    def tidy(self) -> None:
        """Removes files of shards that are not here any more. To be called now and then."""
        now = self._clock.monotonic()
        for path in [path for path, until in self._departed.items() if until <= now]:
            del self._departed[path]
            try:
                path.unlink(missing_ok=True)
            except OSError:
                pass  # it does no harm, and goes with the cluster

    async def stop(self) -> None:
        """Closes what is open, and waits until it is safe on disk."""
        for shard in list(self._open):
            self.close(shard)
        await asyncio.gather(*map(asyncio.wrap_future, list(self._closing)))
        self._worker.shutdown(wait=False)

    def _restore(
        self, image: ShardImage, journal: Journal, *, shard: int, session_id: str, seq: int
    ) -> None:
        sought = Sought(
            shard=shard,
            session_id=session_id,
            seq=seq,
            boot_id=self._boot_id,
            largest=2 * self._room.limit + (64 << 20),
        )
        with candidates(self._directory, self._siblings, sought) as found:
            for candidate in found:
                good = candidate.load(image)
                if good is None:
                    image.forget()
                    continue
                if candidate.header.of_this_boot and candidate.directory == self._directory:
                    journal.go_on(session_id, good)
                    image.restate()
                else:
                    journal.adopt(image)
                return

    def _files(self) -> list[Path]:
        """What another process left here; files that it did not finish are removed."""
        try:
            for path in self._directory.glob("image-*.new"):
                path.unlink(missing_ok=True)
            return [path for path in self._directory.glob("image-*") if path.suffix != ".new"]
        except OSError:
            return []
