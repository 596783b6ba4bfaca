# SPDX-License-Identifier: Apache-2.0
"""What the recorders noted, by shard, over all the processes that ran it."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.chaos.recorder import RECORD

_COLUMNS = 6


class Taken(NamedTuple):
    """An event that a handler took. ``at``: nanoseconds of CLOCK_MONOTONIC. ``number``: its count
    in its guild. ``session`` and ``process`` stand for one session id and one process.
    """

    at: int
    guild: int
    number: int
    seq: int
    session: int
    process: int


class Recordings:
    """All files of some directories, read once. Kept as plain numbers: there are millions."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self._numbers: dict[bytes, int] = {}
        self._columns: dict[int, array[int]] = defaultdict(lambda: array("Q"))

    def shards(self) -> list[int]:
        return sorted(self._columns)

    def of(self, shard: int) -> list[Taken]:
        """In order of time: a shard is with one process at a time."""
        columns = self._columns.get(shard, array("Q"))
        return sorted(_rows(columns))

    def add(self, data: bytes, process: int) -> None:
        """One file. What was cut off in the middle of a record is no record."""
        whole = len(data) - len(data) % RECORD.size
        for guild, count, seq, at, shard, name in RECORD.iter_unpack(data[:whole]):
            session = self._number(name)
            self._columns[shard].extend((at, guild, count, seq, session, process))

    def _number(self, name: bytes) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self.sessions)
            self.sessions.append(name.rstrip(b"\0").decode())
        return self._numbers[name]


def _rows(columns: "array[int]") -> Iterator[Taken]:
    for at in range(0, len(columns), _COLUMNS):
        yield Taken(*columns[at : at + _COLUMNS])


def read(directories: Iterable[Path]) -> Recordings:
    """Every ``*.events`` below ``directories``; they may still be written to."""
    found = Recordings()
    paths = sorted(path for directory in directories for path in directory.glob("*.events"))
    for process, path in enumerate(paths):
        found.add(path.read_bytes(), process)
    return found
