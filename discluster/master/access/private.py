# SPDX-License-Identifier: Apache-2.0
"""Whether a file is MASTER's alone."""

import os
import stat
from pathlib import Path

from discluster.errors import StateError


def check_private(path: Path) -> None:
    """Nobody but our own user may get at ``path``, a file or a directory.

    Raises:
        StateError: others may, or it is not there.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise StateError(f"{path}: cannot be looked at: {error.strerror}") from None
    mode = stat.S_IMODE(facts.st_mode)
    wanted = 0o700 if stat.S_ISDIR(facts.st_mode) else 0o600
    if mode & 0o077:
        raise StateError(
            f"{path}: others than MASTER's user have access to it (mode {mode:04o}): with the"
            " authority's key whoever reads it can pass for any host",
            hint=f"chmod {wanted:o} {path}; if somebody may have read it: disclusterctl ca rotate",
        )
    if facts.st_uid not in (os.geteuid(), 0):
        raise StateError(
            f"{path}: belongs to another user (uid {facts.st_uid}) than MASTER's",
            hint=f"chown it to MASTER's user, uid {os.geteuid()}",
        )
