# SPDX-License-Identifier: Apache-2.0
"""The UNIX socket for operators on MASTER's machine. Its mode says who may come: root, MASTER's
user, and one group.
"""

import contextlib
import grp
import logging
import os
import socket
from pathlib import Path
from typing import Final

from discluster.errors import UnavailableError

log = logging.getLogger(__name__)

_MODE: Final = 0o660


def listening(path: Path, *, group: str) -> socket.socket:
    """A socket at ``path`` for ``group``, if there is one and this user may give it that; else for
    the group of this user. Nobody gets in before it has its mode.

    Raises:
        UnavailableError: it cannot be made.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        path.unlink(missing_ok=True)
        made.setblocking(False)
        made.bind(str(path))
        _give_to(group, path)
        path.chmod(_MODE)
        made.listen()
    except OSError as error:
        made.close()
        raise UnavailableError(
            f"{path}: the socket for disclusterctl cannot be made: {error.strerror or error}",
            hint="the directory must exist and belong to MASTER's user"
            " (systemd-tmpfiles --create makes /run/discluster)",
        ) from None
    return made


def _give_to(group: str, path: Path) -> None:
    with contextlib.suppress(KeyError):
        number = grp.getgrnam(group).gr_gid
        # As the package has it, the directory has given it the group; the unit may not change it.
        if path.stat().st_gid == number:
            return
        try:
            os.chown(path, -1, number)
        except PermissionError:
            log.warning(
                "%s is not for the group %s: the user of this process is not in it", path, group
            )
