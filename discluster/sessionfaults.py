# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a session file, what comes of it, and what to do, in words."""

from pathlib import Path


def unreadable(path: Path, error: OSError) -> str:
    return (
        f"{path}: cannot be read: {error.strerror}; its sessions are not known here, and shards"
        " that leave this cluster identify anew (check its owner and mode)"
    )


def unknown(path: Path, fault: str) -> str:
    return (
        f"{path}: not a session file of this version ({fault}); its shards identify anew, and the"
        " cluster sets it aside when it starts (nothing to do)"
    )


def record_fault(path: Path, index: int, fault: str) -> str:
    return (
        f"{path}: record {index} {fault}; it is not used, its shard resumes the session that was"
        " handed to it or identifies anew (nothing to do)"
    )
