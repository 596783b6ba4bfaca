# SPDX-License-Identifier: Apache-2.0
"""Which program of a fleet on loopback has opened a connection."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.scenario.guardian import programs_of

_ESTABLISHED = "01"


def name_of(directory: Path, port: int) -> str | None:
    """The host, or other place, whose program in the fleet of ``directory`` has a connection to
    here from ``port``; None if there is no such program (any more).
    """
    inode = _inode(Path("/proc/net/tcp").read_text(), port)
    if inode is None:
        return None
    socket = f"socket:[{inode}]"
    for pid in programs_of(directory):
        if socket in _files(pid):
            return _name(pid)
    return None


def _inode(table: str, port: int) -> str | None:
    """Of the client's end: the one whose own port it is."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == _ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
            return fields[9]
    return None


def _files(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):  # it just ended
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(entry.readlink())


def _name(pid: int) -> str | None:
    """Out of ``--config DIRECTORY/NAME.yaml``; a host's clusters have NAME-cluster.yaml."""
    with contextlib.suppress(OSError, ValueError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        config = Path(os.fsdecode(words[words.index(b"--config") + 1]))
        return config.stem.removesuffix("-cluster")
    return None
