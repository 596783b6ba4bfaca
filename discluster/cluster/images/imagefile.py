# SPDX-License-Identifier: Apache-2.0
"""The file of one image, while it is written."""

import mmap
import os
import weakref
from pathlib import Path
from typing import Final

from discluster.cluster.images.header import LENGTH, SAFE_LENGTH, SAFE_SEQ, SEQ, SIZE

_FRESH: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ImageFile:
    """Every method may raise OSError, but for ``advance``, ``close`` and ``discard``; the file then
    holds what it held, perhaps with half a record more.
    """

    def __init__(self, path: Path, descriptor: int, length: int) -> None:
        """Takes over ``descriptor`` of a file with a header and ``length`` bytes in all."""
        self.length = length
        self._path = path
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, SIZE)
        self._words = memoryview(self._map).cast("Q")
        # Who forgets an image without closing it leaves no descriptor behind.
        self._closed = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def create(cls, path: Path, header: bytes) -> "ImageFile":
        """A file that is not there yet."""
        descriptor = os.open(path, _FRESH, 0o640)
        try:
            _write(descriptor, header)
            return cls(path, descriptor, len(header))
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise

    @classmethod
    def go_on(cls, path: Path, length: int) -> "ImageFile":
        """A file that is there, of which ``length`` bytes are whole. The rest is cut off."""
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, length)
            os.lseek(descriptor, 0, os.SEEK_END)
            return cls(path, descriptor, length)
        except OSError:
            os.close(descriptor)
            raise

    def append(self, data: bytes) -> None:
        """Whole records."""
        _write(self._descriptor, data)
        self.length += len(data)
        self._words[LENGTH] = self.length

    def advance(self, seq: int) -> None:
        """What was appended makes the image true up to ``seq``."""
        self._words[SEQ] = seq

    def move(self, path: Path) -> None:
        """To ``path``, in place of what is there."""
        self._path.replace(path)
        self._path = path

    def make_safe(self) -> None:
        """Waits for the disk, perhaps for long."""
        seq, length = self._words[SEQ], self.length
        os.fsync(self._descriptor)
        self._words[SAFE_SEQ], self._words[SAFE_LENGTH] = seq, length
        os.fsync(self._descriptor)

    def close(self) -> None:
        self._words.release()
        self._map.close()
        self._closed()

    def discard(self) -> None:
        """Closes and removes it."""
        self.close()
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            pass  # what remains is removed at the next start


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
