# SPDX-License-Identifier: Apache-2.0
"""Finds the file of a shard's image: a shard that moved from one cluster of this machine to another
left it in the directory of the former.

The files are of our user, but that is all that is known of them: links are not followed, sizes are
bounded, and what is in them may be anything.
"""

import contextlib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from discluster.cluster.images import header
from discluster.cluster.images.header import Header
from discluster.cluster.images.image import ShardImage
from discluster.cluster.images.records import read_records

_MOST_SIBLINGS: Final = 4096
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def file_name(shard: int) -> str:
    """In the directory of a cluster."""
    return f"image-{shard}"


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is wanted: of ``session_id``, and true at least up to ``seq``. ``largest``:
    bytes that a file may have.
    """

    shard: int
    session_id: str
    seq: int
    boot_id: str
    largest: int


class Found(msgspec.Struct, frozen=True):
    """A file that says of itself that it is what is sought, and who has it open."""

    directory: Path
    file: BinaryIO
    header: Header
    size: int

    def load(self, image: ShardImage) -> int | None:
        """Fills ``image``, which must be empty, and tells how many bytes of the file are good.
        None: it is not whole, and what is in ``image`` now is of no use.
        """
        end, seq = header.SIZE, self.header.seq
        # Of another boot only what was safe on disk counts; what follows may be anything.
        last = self.size if self.header.of_this_boot else min(self.size, self.header.length)
        try:
            for record in read_records(self.file, start=end, end=last):
                image.apply(record.seq, record.name, record.body)
                end, seq = record.end, max(seq, record.seq)
        except OSError:
            return None
        if end < self.header.length or not image.complete:
            return None
        image.session_id, image.seq = self.header.session_id, seq
        return end


@contextlib.contextmanager
def candidates(own: Path, siblings: Path | None, sought: Sought) -> Iterator[list[Found]]:
    """What may be the image that is sought, the newest first; in ``own``, or in a directory in
    ``siblings``. Never raises.
    """
    found = []
    with contextlib.ExitStack() as open_files:
        for directory in itertools.chain([own], _directories(siblings, but=own)):
            if (file := _opened(directory, file_name(sought.shard))) is not None:
                open_files.enter_context(file)
                if (candidate := _examined(directory, file, sought)) is not None:
                    found.append(candidate)
        yield sorted(found, key=lambda candidate: candidate.header.seq, reverse=True)


def _directories(siblings: Path | None, *, but: Path) -> list[Path]:
    if siblings is None:
        return []
    try:
        with os.scandir(siblings) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_SIBLINGS)]
    except OSError:
        return []
    return [siblings / name for name in names if name.isdecimal() and siblings / name != but]


def _opened(directory: Path, name: str) -> BinaryIO | None:
    try:
        at = os.open(directory, _DIRECTORY)
        try:
            return os.fdopen(os.open(name, _FILE, dir_fd=at), "rb")
        finally:
            os.close(at)
    except OSError:
        return None


def _examined(directory: Path, file: BinaryIO, sought: Sought) -> Found | None:
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > sought.largest:
            return None
        read = header.unpacked(file.read(header.SIZE), boot_id=sought.boot_id)
    except OSError:
        return None
    if read is None or (read.shard, read.session_id) != (sought.shard, sought.session_id):
        return None
    if read.seq < sought.seq:
        return None
    return Found(directory, file, read, status.st_size)
