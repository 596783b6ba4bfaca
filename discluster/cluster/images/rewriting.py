# SPDX-License-Identifier: Apache-2.0
"""A file is written anew, without what later events made void, while its image goes on."""

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Final

from discluster.cluster.images.imagefile import ImageFile
from discluster.cluster.images.records import framed

_AT_ONCE: Final = 1 << 20  # bytes

Events = Sequence[tuple[str, bytes]]
"""What makes an image: types and bodies."""


def write(path: Path, header: bytes, events: Iterable[tuple[str, bytes]], seq: int) -> ImageFile:
    """A file with an image as of ``seq``.

    Raises:
        OSError: the disk is full, …; there is no file then.
    """
    file = ImageFile.create(path, header)
    try:
        for data in _pieces(events, seq):
            file.append(data)
        file.advance(seq)
    except OSError:
        file.discard()
        raise
    return file


class Rewriting:
    """Writes an image in a thread: only references to it are taken at first, and its texts never
    change.

    ``tail``: records of what came since, to be appended by whoever uses the file.
    """

    def __init__(
        self, path: Path, header: bytes, events: Events, seq: int, *, worker: Executor
    ) -> None:
        self.tail: list[bytes] = []
        self._abandoned = threading.Event()
        self._file: Future[ImageFile] = worker.submit(
            write, path, header, _until(self._abandoned, events), seq
        )

    def done(self) -> bool:
        return self._file.done()

    def result(self) -> ImageFile:
        """The file, once it is done.

        Raises:
            OSError: it could not be written.
        """
        return self._file.result()

    def abandon(self) -> None:
        """Nobody wants it any more; what there is of it goes as soon as it can."""
        self._abandoned.set()
        if not self._file.cancel():
            self._file.add_done_callback(_discard)


def _until(abandoned: threading.Event, events: Events) -> Iterable[tuple[str, bytes]]:
    for event in events:
        if abandoned.is_set():
            return
        yield event


def _pieces(events: Iterable[tuple[str, bytes]], seq: int) -> Iterable[bytes]:
    """Records, some at once."""
    piece: list[bytes] = []
    size = 0
    for name, body in events:
        piece.append(framed(seq, name, body))
        size += len(piece[-1])
        if size >= _AT_ONCE:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)


def _discard(file: Future[ImageFile]) -> None:
    if file.exception() is None:
        file.result().discard()
