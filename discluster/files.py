# SPDX-License-Identifier: Apache-2.0
"""Files that are either old or new, never half."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from discluster.errors import StateError


def write_atomically(
    path: Path, data: str | bytes, *, mode: int = 0o640, durable: bool = True
) -> None:
    """Replaces ``path`` by ``data``; after a crash or power cut it holds one or the other, whole.

    ``durable``: False for what a power cut makes void; it then costs no wait for the disk.

    Raises:
        StateError: the directory is not writable, the disk is full, …
    """
    fresh = path.with_name(path.name + ".new")
    raw = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(raw)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        fresh.replace(path)
        if not durable:
            return
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StateError(
            f"{path}: cannot be written: {error.strerror}",
            hint="check that the directory exists, belongs to the service's user and has room",
        ) from None


_MOST: Final = 1 << 20


def read_plain_file(path: Path) -> bytes:
    """What is in a file that somebody else made, who may wish us ill: a link is not followed, what
    is no file is not waited for, and more than a megabyte is not read.

    Raises:
        OSError: it is not there, not readable, or not a file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_MOST)
    finally:
        os.close(descriptor)


def read_if_there(path: Path) -> str | None:
    """The text of ``path``, or None if it does not exist.

    Raises:
        StateError: it exists and cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"{path}: cannot be read: {error}") from None
