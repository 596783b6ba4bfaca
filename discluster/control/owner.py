# SPDX-License-Identifier: Apache-2.0
"""Root's errands in a directory of CONTROL's user."""

import os
from pathlib import Path


def become_owner_of(directory: Path) -> None:
    """Go on as the user that owns ``directory``, for good; only root can, others stay who they are.

    Root must not write there itself: whoever has CONTROL's user could put a link in its way, and
    have any file of the machine replaced, or given to itself.
    """
    if os.geteuid() != 0 or not directory.exists():
        return
    owner = directory.stat()
    if owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
