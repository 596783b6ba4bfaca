# SPDX-License-Identifier: Apache-2.0
"""Where the files and sockets are that one program makes and another one uses.

MASTER, CONTROL and the clusters have users of their own, so each directory has one owner, who alone
makes, renames and removes what is in it. Others come in by its group: operators, or the clusters.
What is made in a directory of the package's (units/discluster.tmpfiles) gets its group by itself.
"""

from pathlib import Path


def own_state(state: Path, program: str) -> Path:
    """What ``program`` (``master`` or ``control``) keeps for itself."""
    return state / program


def own_runtime(runtime: Path, program: str) -> Path:
    """Of ``program``; holds its socket for operators."""
    return runtime / program


def master_socket(runtime: Path) -> Path:
    """MASTER's, for operators."""
    return own_runtime(runtime, "master") / "master.sock"


def control_socket(runtime: Path) -> Path:
    """CONTROL's, for operators."""
    return own_runtime(runtime, "control") / "control.sock"


def clusters_socket(runtime: Path) -> Path:
    """CONTROL's, for its clusters."""
    return runtime / "clusters" / "control.sock"


def local_gateway(runtime: Path, cluster: int) -> Path:
    """The socket of ``cluster`` for bots of the machine."""
    return runtime / "gateways" / f"{cluster}.sock"


def lease_file(runtime: Path) -> Path:
    """CONTROL writes it, the clusters read it."""
    return runtime / "clusters" / "lease.json"


def assignments(state: Path) -> Path:
    """CONTROL's, with a file for each cluster, which they read."""
    return state / "assignments"


def assignment_file(state: Path, cluster: int) -> Path:
    """What ``cluster`` runs, and what is leaving it."""
    return assignments(state) / f"{cluster}.json"


def cluster_directory(state: Path, cluster: int) -> Path:
    """CONTROL makes it and removes it; ``cluster`` writes in it."""
    return state / "clusters" / str(cluster)


def session_file(state: Path, cluster: int) -> Path:
    """The cluster writes it, CONTROL reads it."""
    return cluster_directory(state, cluster) / "sessions"
