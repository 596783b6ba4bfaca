# SPDX-License-Identifier: Apache-2.0
"""Directories that take long to make, kept between runs, each under a key of what went into it."""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, final

from tests.lab.commands import LabError, run

MAX_AGE: Final = 14 * 86400.0


def default_directory() -> Path:
    """``$DISCLUSTER_LAB_CACHE``, or ``~/.cache/discluster-lab``."""
    return Path(os.environ.get("DISCLUSTER_LAB_CACHE", "") or Path.home() / ".cache/discluster-lab")


def key_of(*parts: str) -> str:
    """A short name for all of ``parts``."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def remove_tree(path: Path) -> None:
    """``rm -rf`` that never follows a mount.

    Raises:
        LabError: something is still mounted below ``path``.
    """
    if mounts := mounts_below(path):
        raise LabError(f"{path}: not removed, still mounted: {', '.join(map(str, mounts))}")
    run(["rm", "-rf", "--one-file-system", path], timeout=120)


def mounts_below(path: Path) -> list[Path]:
    """Mount points at or below ``path``, the latest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4].replace("\\040", " ")) for line in lines]
    return [point for point in reversed(points) if point.is_relative_to(path)]


@final
class Cache:
    """Entries ``KIND-KEY`` below a directory.

    An entry is made under an exclusive lock and appears whole or not at all. The entries that a
    ``Cache`` gave out stay locked, shared, until it is closed, so that nobody prunes them.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._locks: dict[str, int] = {}
        (directory / "locks").mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """The entry's directory; ``make`` fills an empty one if there is none."""
        name = f"{kind}-{key}"
        entry = self._directory / name
        if name in self._locks:
            return entry
        lock = self._lock(name, fcntl.LOCK_SH)
        try:
            if not entry.exists():
                # Not atomic: somebody may make it between the two locks.
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not entry.exists():
                    self._make(entry, make)
                fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(entry)
        except BaseException:
            os.close(lock)
            raise
        self._locks[name] = lock
        return entry

    def prune(self, *, now: float | None = None) -> list[str]:
        """Remove what nobody uses and nobody asked for within two weeks; their names."""
        oldest = (time.time() if now is None else now) - MAX_AGE
        removed = []
        for entry in sorted(self._directory.iterdir()):
            if entry.name == "locks" or entry.stat().st_mtime > oldest:
                continue
            try:
                lock = self._lock(entry.name.removesuffix(".new"), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            remove_tree(entry)
            os.close(lock)
            removed.append(entry.name)
        return removed

    def close(self) -> None:
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()

    def _lock(self, name: str, how: int) -> int:
        path = self._directory / "locks" / name
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _make(self, entry: Path, make: Callable[[Path], None]) -> None:
        new = entry.with_name(entry.name + ".new")
        remove_tree(new)  # left over by a process that died; we hold the lock, so nobody is at it
        new.mkdir()
        make(new)
        new.rename(entry)
