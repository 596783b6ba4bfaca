# SPDX-License-Identifier: Apache-2.0
"""Records on disk: ``NAME.jsonl`` and the older ``NAME.old.jsonl``, a line of JSON each.

When the first is full it takes the place of the second. Lines are synced where that is asked for;
otherwise a power cut may cost the last seconds of them, the kill of MASTER none.
"""

import contextlib
import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from discluster.decoding import DECODE_ERRORS
from discluster.errors import StateError
from discluster.files import write_atomically

T = TypeVar("T", bound=msgspec.Struct)


class LineFiles(Generic[T]):
    """Two files of ``lines`` lines at most."""

    def __init__(self, directory: Path, name: str, shape: type[T], *, lines: int) -> None:
        self._current = directory / f"{name}.jsonl"
        self._older = directory / f"{name}.old.jsonl"
        self._decoder = msgspec.json.Decoder(shape)
        self._limit = lines
        self._lines = 0
        self._file: int | None = None

    def read(self) -> tuple[list[T], int]:
        """What is there, in its order, and how many lines could not be read; those are taken out,
        so that they are told once.

        Raises:
            StateError: a file cannot be read.
        """
        older, torn_before = self._read(self._older)
        current, torn = self._read(self._current)
        self._lines = len(current)
        return older + current, torn_before + torn

    def append(self, record: T, *, durable: bool = False) -> None:
        """Adds one line. ``durable``: it outlives a power cut from now on.

        Raises:
            OSError: it could not be written, or not whole.
        """
        line = msgspec.json.encode(record) + b"\n"
        if self._lines >= self._limit:
            self.close()
            self._current.replace(self._older)
            self._lines = 0
        if self._file is None:
            self._file = _open(self._current)
        self._lines += 1
        if os.write(self._file, line) < len(line):
            raise OSError(0, "the disk is full")
        if durable:
            os.fdatasync(self._file)

    def close(self) -> None:
        """The next line opens the file anew."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self, path: Path) -> tuple[list[T], int]:
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise StateError(
                f"{path}: cannot be read: {error.strerror}",
                hint="it must belong to MASTER's user; it can be removed, nothing else needs it",
            ) from None
        records: list[T] = []
        whole: list[bytes] = []
        for line in lines:
            with contextlib.suppress(*DECODE_ERRORS):
                records.append(self._decoder.decode(line))
                whole.append(line + b"\n")
        if len(whole) < len(lines):
            with contextlib.suppress(StateError):
                write_atomically(path, b"".join(whole))
        return records, len(lines) - len(whole)

    def __str__(self) -> str:
        return str(self._current)


def _open(path: Path) -> int:
    """For appending whole lines, whatever stands at its end."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            os.write(file, b"\n")
        if not size:
            _sync_directory(path.parent)
    except OSError:
        os.close(file)
        raise
    return file


def _sync_directory(directory: Path) -> None:
    """Or a power cut costs a file that is new, whatever of it was synced."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
