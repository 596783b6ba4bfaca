# SPDX-License-Identifier: Apache-2.0
"""What CONTROL keeps on disk: its host's plan, and for each cluster what it was assigned.

``clusters/N/`` is CONTROL's, and cluster N writes its ``sessions`` in it. So it may put anything
there, but cannot exchange the directory; nothing in there is followed, or opened but as a file.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from discluster import places
from discluster.decoding import DECODE_ERRORS
from discluster.errors import DocumentError, StateError
from discluster.files import read_if_there, write_atomically
from discluster.messages import Held
from discluster.plan import HostPlan, host_plan_from_yaml
from discluster.sessions import Reading, SessionReader
from discluster.stays import ShardKey, Stay

log = logging.getLogger(__name__)

_KEEP_SESSIONS: Final = 900.0
"""Seconds after which sessions of a cluster that is not planned any more are of no use: Discord
keeps a session for a few minutes."""


class _Faults:
    """Tells every fault of a session file once, for as long as it lasts."""

    def __init__(self) -> None:
        self._told: dict[int, set[str]] = {}
        self._doubted: dict[int, set[str]] = {}

    def note(self, cluster: int, reading: Reading) -> None:
        """A doubt about a record is told when it is still there at the next look."""
        doubts = {*reading.doubts}
        certain = doubts & self._doubted.get(cluster, set())
        certain |= {reading.fault} if reading.fault else set()
        for fault in sorted(certain - self._told.get(cluster, set())):
            log.error("%s", fault, extra={"CLUSTER": cluster})
        self._told[cluster], self._doubted[cluster] = certain, doubts


class _SessionFiles(Mapping[int, Mapping[ShardKey, Stay]]):
    """Reads each file when it is first asked for."""

    def __init__(
        self, clusters: Collection[int], read: Callable[[int], Mapping[ShardKey, Stay]]
    ) -> None:
        self._clusters = clusters
        self._look = read
        self._read: dict[int, Mapping[ShardKey, Stay]] = {}

    def __getitem__(self, cluster: int) -> Mapping[ShardKey, Stay]:
        if cluster not in self._clusters:
            raise KeyError(cluster)
        if cluster not in self._read:
            self._read[cluster] = self._look(cluster)
        return self._read[cluster]

    def __iter__(self) -> Iterator[int]:
        return iter(self._clusters)

    def __len__(self) -> int:
        return len(self._clusters)


class ControlStore:
    """CONTROL's files below ``state``, and those of its clusters."""

    def __init__(self, state: Path) -> None:
        self._plan_file = places.own_state(state, "control") / "plan.yaml"
        self._state = state
        self._reader = SessionReader()
        self._faults = _Faults()

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
        for path in places.assignments(self._state).glob("*.json"):
            try:
                found = msgspec.json.decode(path.read_bytes(), type=Held)
            except (OSError, *DECODE_ERRORS) as error:
                log.error("%s cannot be used: %s", path, error)
                continue
            if path.stem == str(found.assignment.cluster):
                held[found.assignment.cluster] = found
            else:
                log.error("%s is of cluster %d: not used", path, found.assignment.cluster)
        for cluster in held:
            _make_room(places.cluster_directory(self._state, cluster))
        return held

    def save_held(self, held: Held) -> None:
        """Stores an assignment, before its cluster is told, and sees to it that the cluster has a
        place to write in, before it is started.
        """
        cluster = held.assignment.cluster
        write_atomically(places.assignment_file(self._state, cluster), msgspec.json.encode(held))
        _make_room(places.cluster_directory(self._state, cluster))

    def stays(self, clusters: Collection[int]) -> Mapping[int, Mapping[ShardKey, Stay]]:
        """What is in the session files of ``clusters``, dead ones too. Each is read when it is
        first asked for; one that cannot be used is told once and counts as empty.
        """
        return _SessionFiles(clusters, self.read_stays)

    def read_stays(self, cluster: int) -> Mapping[ShardKey, Stay]:
        """What is in the session file of one cluster now."""
        reading = self._reader.read(places.session_file(self._state, cluster))
        self._faults.note(cluster, reading)
        return reading.stays

    def forget(self, cluster: int) -> bool:
        """Removes what is kept for a cluster that is gone, once its sessions are of no use."""
        assignment = places.assignment_file(self._state, cluster)
        sessions = places.session_file(self._state, cluster)
        newest = 0.0
        for path in (assignment, sessions):
            with contextlib.suppress(OSError):
                newest = max(newest, path.lstat().st_mtime)
        if time.time() - newest < _KEEP_SESSIONS:
            return False
        assignment.unlink(missing_ok=True)
        for path in sessions.parent.glob("*"):
            with contextlib.suppress(OSError):
                path.unlink()
        # What the cluster put there beside its sessions, a directory say, is not ours to remove.
        with contextlib.suppress(OSError):
            sessions.parent.rmdir()
        return True


def _make_room(directory: Path) -> None:
    """A directory of ours in which the group that its parent gives it may write.

    Raises:
        StateError: it cannot be made.
    """
    if directory.is_dir():
        return
    try:
        directory.mkdir(parents=True)
        directory.chmod(0o770)  # whatever the umask
    except OSError as error:
        raise StateError(
            f"{directory}: cannot be made: {error.strerror}",
            hint="its parent must belong to CONTROL's user (systemd-tmpfiles --create sees to it)",
        ) from None
