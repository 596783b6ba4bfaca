# SPDX-License-Identifier: Apache-2.0
"""What CONTROL keeps on disk: its host's plan, and for each cluster what it was assigned.

``clusters/N/`` is shared with cluster N: CONTROL writes ``assignment.json``, the cluster writes
``sessions``.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from discluster.errors import DocumentError
from discluster.files import read_if_there, write_atomically
from discluster.messages import Held
from discluster.plan import HostPlan, Session, host_plan_from_yaml
from discluster.sessions import read_sessions

log = logging.getLogger(__name__)

_KEEP_SESSIONS: Final = 900.0
"""Seconds after which sessions of a cluster that is not planned any more are of no use: Discord
keeps a session for a few minutes."""


class _SessionFiles(Mapping[int, Mapping[int, Session]]):
    def __init__(self, directory: Path, clusters: Mapping[int, int]) -> None:
        self._directory = directory
        self._clusters = clusters
        self._read: dict[int, dict[int, Session]] = {}

    def __getitem__(self, cluster: int) -> Mapping[int, Session]:
        if cluster not in self._read:
            path = self._directory / str(cluster) / "sessions"
            self._read[cluster] = read_sessions(path, self._clusters[cluster])
        return self._read[cluster]

    def __iter__(self) -> Iterator[int]:
        return iter(self._clusters)

    def __len__(self) -> int:
        return len(self._clusters)


class ControlStore:
    """Files below ``own`` (CONTROL's alone) and ``clusters`` (shared with the clusters)."""

    def __init__(self, *, own: Path, clusters: Path) -> None:
        self._plan_file = own / "plan.yaml"
        self._clusters = clusters

    def load_plan(self) -> HostPlan | None:
        """The last good plan. A damaged file is told and treated as none: MASTER sends it anew."""
        text = read_if_there(self._plan_file)
        if text is None:
            return None
        try:
            return host_plan_from_yaml(text, file=str(self._plan_file))
        except DocumentError as error:
            log.error("the stored plan cannot be used, waiting for MASTER's: %s", error.render())
            return None

    def save_plan(self, text: str) -> None:
        """Stores a plan that was validated, before anything is done about it."""
        write_atomically(self._plan_file, text)

    def load_held(self) -> dict[int, Held]:
        """What every cluster was last assigned."""
        held = {}
        for path in self._clusters.glob("*/assignment.json"):
            if not path.parent.name.isdigit():
                continue
            try:
                held[int(path.parent.name)] = msgspec.json.decode(path.read_bytes(), type=Held)
            except (OSError, msgspec.DecodeError) as error:
                log.error("%s cannot be used: %s", path, error)
        return held

    def save_held(self, held: Held) -> None:
        """Stores an assignment, before its cluster is told."""
        path = self._clusters / str(held.assignment.cluster) / "assignment.json"
        write_atomically(path, msgspec.json.encode(held))

    def sessions(self, clusters: Mapping[int, int]) -> Mapping[int, Mapping[int, Session]]:
        """The sessions in the files of ``clusters`` (cluster -> shard count), dead ones too. Each
        file is read when it is first asked for.
        """
        return _SessionFiles(self._clusters, clusters)

    def forget(self, cluster: int) -> bool:
        """Removes what is kept for a cluster that is gone, once its sessions are of no use."""
        directory = self._clusters / str(cluster)
        newest = 0.0
        for path in directory.glob("*"):
            with contextlib.suppress(OSError):
                newest = max(newest, path.stat().st_mtime)
        if time.time() - newest < _KEEP_SESSIONS:
            return False
        for path in directory.glob("*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            directory.rmdir()
        return True
