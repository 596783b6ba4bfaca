# SPDX-License-Identifier: Apache-2.0
"""Which way to MASTER is taken: the one that was asked for, its socket here, or a login."""

import os
from collections.abc import Callable
from pathlib import Path

from discluster.clock import Clock
from discluster.ctl.logins import Logins
from discluster.ctl.transport import SocketTransport, Transport
from discluster.errors import DisclusterError


class LateTransport:
    """A way that is chosen when it is needed: some commands ask nobody."""

    def __init__(self, choose: Callable[[], Transport]) -> None:
        self._choose = choose
        self._way: Transport | None = None

    async def exchange(
        self, method: str, path: str, body: bytes | None, *, timeout: float
    ) -> tuple[int, bytes]:
        if self._way is None:
            self._way = self._choose()
        return await self._way.exchange(method, path, body, timeout=timeout)


def chosen(
    socket: Path | None, wanted: str | None, *, default: Path, logins: Logins, clock: Clock
) -> Transport:
    """``socket``, ``wanted``: of ``--socket`` and ``--master``. Without both the socket at
    ``default`` if it is there, and open to us or we have no login; else the current login.

    Raises:
        DisclusterError: both are given, or there is no such login.
    """
    if socket is not None and wanted is not None:
        raise DisclusterError(
            "--socket and --master name two ways to MASTER; give one", code="two-ways"
        )
    if socket is not None:
        return SocketTransport(socket)
    if wanted is None and (os.access(default, os.R_OK | os.W_OK) or logins.current() is None):
        return SocketTransport(default)
    # Needs cryptography, which takes long to load.
    from discluster.ctl.remote import RemoteTransport

    return RemoteTransport(logins.chosen(wanted), logins, clock=clock)
