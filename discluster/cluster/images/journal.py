# SPDX-License-Identifier: Apache-2.0
"""An image on disk: the events that make it, one after another, and now and then written anew."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Final, NamedTuple

from discluster.clock import Clock
from discluster.cluster.images.header import packed
from discluster.cluster.images.image import ShardImage
from discluster.cluster.images.imagefile import ImageFile
from discluster.cluster.images.records import framed
from discluster.cluster.images.rewriting import Rewriting, write
from discluster.cluster.images.trouble import DiskTrouble

# Of what is void in a file, bytes, before it is written anew: less is not worth the trouble.
_SLACK: Final = 1 << 20

_TRY_AGAIN: Final = 60.0  # seconds


class Disk(NamedTuple):
    """What all journals of a cluster have in common. ``numbers``: no two files that are being
    written have the same one.
    """

    boot_id: str
    worker: Executor
    clock: Clock
    trouble: DiskTrouble
    numbers: Iterator[int]


class Journal:
    """Keeps one shard's image at ``path``. Whatever the disk does, the image goes on in memory, and
    none of this raises; once the disk takes it again, the whole image is written to it.

    A file is followed by another one only when that is complete, so there is a good one at each
    instant at which the process may be killed: events are appended before the sequence advances.
    """

    def __init__(self, path: Path, *, shard: int, disk: Disk) -> None:
        self._path = path
        self._shard = shard
        self._disk = disk
        self._header: bytes | None = None
        self._file: ImageFile | None = None
        self._rewriting: Rewriting | None = None
        self._pending: list[bytes] = []
        self._next_look = 0  # at a file of this length
        self._try_again = float("-inf")

    # --- Keeper ----------------------------------------------------------------------------------

    def begin(self, session_id: str) -> None:
        """A new session, with an empty file."""
        self.forget()
        self._header = self._header_of(session_id)
        if self._header is None:
            return
        try:
            self._use(ImageFile.create(self._fresh_path(), self._header), more=b"", seq=0)
        except OSError as error:
            self._failed(error)

    def note(self, seq: int, name: str, body: bytes) -> None:
        """Written with the next ``commit``."""
        if self._file is not None or self._rewriting is not None:
            self._pending.append(framed(seq, name, body))

    def commit(self, seq: int, image: ShardImage) -> None:
        """With nothing new this is a store into memory."""
        if self._file is not None and not self._pending and self._rewriting is None:
            self._file.advance(seq)
        elif self._header is not None:
            self._commit(seq, image)

    def forget(self) -> None:
        """Writes no more. The file stays, as it was true up to its sequence."""
        self._header = None
        self._pending.clear()
        if self._rewriting is not None:
            self._rewriting.abandon()
            self._rewriting = None
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- what was read from disk -----------------------------------------------------------------

    def go_on(self, session_id: str, length: int) -> None:
        """The file at ``path`` is the image, with ``length`` good bytes, and of this boot."""
        self._header = self._header_of(session_id)
        try:
            self._file = ImageFile.go_on(self._path, length)
        except OSError as error:
            self._failed(error)

    def adopt(self, image: ShardImage) -> None:
        """The image is from elsewhere, and is to be at ``path``. Writes all of it at once."""
        if image.session_id is None:
            return
        self._header = self._header_of(image.session_id)
        if self._header is None:
            return
        try:
            file = write(self._fresh_path(), self._header, image.events(), image.seq)
            self._use(file, more=b"", seq=image.seq)
        except OSError as error:
            self._failed(error)

    def close(self, image: ShardImage) -> Future[None] | None:
        """Writes no more. The file is made safe on disk, too, which may take long: in the thread.
        It is of use to others of this boot at once.
        """
        self.commit(image.seq, image)
        file, self._file = self._file, None
        self.forget()
        return None if file is None else self._disk.worker.submit(self._make_safe, file)

    # --- the file --------------------------------------------------------------------------------

    def _commit(self, seq: int, image: ShardImage) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        try:
            if self._file is not None:
                self._file.append(data)
                self._file.advance(seq)
        except OSError as error:
            self._lose_file(error)
            return
        if self._rewriting is not None:
            self._rewriting.tail.append(data)
            self._change_over(self._rewriting, seq)
        elif self._is_due(image) and self._disk.clock.monotonic() >= self._try_again:
            self._rewrite(seq, image)

    def _is_due(self, image: ShardImage) -> bool:
        """Whether there is no file, or most of it is void. Is asked for each write, so it seldom
        adds up how large the image is.
        """
        if self._file is None:
            return True
        if self._file.length < self._next_look:
            return False
        self._next_look = 2 * image.size + _SLACK
        return self._file.length >= self._next_look

    def _rewrite(self, seq: int, image: ShardImage) -> None:
        assert self._header is not None
        self._rewriting = Rewriting(
            self._fresh_path(), self._header, list(image.events()), seq, worker=self._disk.worker
        )

    def _change_over(self, rewriting: Rewriting, seq: int) -> None:
        if not rewriting.done():
            return
        self._rewriting = None
        try:
            self._use(rewriting.result(), more=b"".join(rewriting.tail), seq=seq)
        except OSError as error:
            self._failed(error)

    def _use(self, file: ImageFile, *, more: bytes, seq: int) -> None:
        """In place of the one before, once ``more`` is in it."""
        try:
            file.append(more)
            file.advance(seq)
            file.move(self._path)
        except OSError:
            file.discard()
            raise
        if self._file is not None:
            self._file.close()
        self._file = file
        self._next_look = 0
        self._disk.trouble.over(self._path)

    def _lose_file(self, error: OSError) -> None:
        """It may lack an event from now on, so its sequence must not advance."""
        assert self._file is not None
        self._file.close()
        self._file = None
        if self._rewriting is not None:
            self._rewriting.abandon()
            self._rewriting = None
        self._failed(error)

    def _failed(self, error: OSError) -> None:
        self._try_again = self._disk.clock.monotonic() + _TRY_AGAIN
        self._disk.trouble.happened(self._path, error)

    def _make_safe(self, file: ImageFile) -> None:
        try:
            file.make_safe()
        except OSError:
            pass  # then it is of no use after a loss of power
        finally:
            file.close()

    def _header_of(self, session_id: str) -> bytes | None:
        return packed(shard=self._shard, session_id=session_id, boot_id=self._disk.boot_id)

    def _fresh_path(self) -> Path:
        return self._path.with_name(f"{self._path.name}.{next(self._disk.numbers)}.new")
