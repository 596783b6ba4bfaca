# SPDX-License-Identifier: Apache-2.0
"""The ways to MASTER: its UNIX socket here, and TLS from elsewhere (:mod:`discluster.ctl.remote`).

A way gives HTTP's status and body, or an error that says why there is none.
"""

import grp
import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

import aiohttp

from discluster.errors import DisclusterError, RefusedError, UnavailableError

Program = Literal["MASTER", "CONTROL"]

_HINTS: Final[Mapping[Program, str]] = {
    "MASTER": "systemctl status discluster-master; run disclusterctl on MASTER's machine, or log in"
    " to it: disclusterctl login --help",
    "CONTROL": "systemctl status discluster-control",
}


class Transport(Protocol):
    """One way to MASTER."""

    async def exchange(
        self, method: str, path: str, body: bytes | None, *, timeout: float
    ) -> tuple[int, bytes]:
        """``path``: as on the socket, ``/v1/…``. ``timeout``: seconds for all of it.

        Raises:
            UnavailableError: nobody answers, or not in time.
            RefusedError: no permission, or one of the two certificates is not accepted.
        """
        ...


class SocketTransport:
    """HTTP on a UNIX socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def exchange(
        self, method: str, path: str, body: bytes | None, *, timeout: float
    ) -> tuple[int, bytes]:
        try:
            async with (
                aiohttp.ClientSession(
                    "http://master",
                    connector=aiohttp.UnixConnector(path=str(self._socket)),
                    timeout=aiohttp.ClientTimeout(total=timeout),
                    headers={"Content-Type": "application/json"} if body else None,
                ) as session,
                session.request(method, path, data=body, allow_redirects=False) as response,
            ):
                return response.status, await response.read()
        except aiohttp.ClientConnectorError as error:
            raise unreachable("MASTER", self._socket, error.os_error) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UnavailableError(
                f"MASTER closed the connection before it had answered: {error}",
                hint="journalctl -u discluster-master",
            ) from None
        except TimeoutError:
            raise too_slow("MASTER", timeout) from None


def unreachable(who: Program, socket: Path, error: OSError) -> DisclusterError:
    """Why a socket cannot be connected to, and what to do about it."""
    if isinstance(error, PermissionError):
        return _forbidden(who, socket)
    if isinstance(error, FileNotFoundError):
        said = f"{who} is not running here: {socket} does not exist"
    elif isinstance(error, ConnectionRefusedError):
        said = f"{who} is not running here: nobody listens on {socket}"
    else:
        said = f"{who} cannot be reached: {socket}: {error.strerror or error}"
    return UnavailableError(said, hint=_HINTS[who])


def _forbidden(who: Program, socket: Path) -> RefusedError:
    place = _gate(socket)
    try:
        facts = place.stat()
    except OSError:
        return RefusedError(f"no permission to ask {who}: {socket}", hint="try it with sudo")
    user, group = _user_name(facts.st_uid), _group_name(facts.st_gid)
    return RefusedError(
        f"no permission to ask {who} through {socket}: {place} belongs to user {user}, group"
        f" {group}, mode {stat.S_IMODE(facts.st_mode):04o}",
        hint=way_in(group, _user_name(os.geteuid())),
    )


def way_in(group: str, user: str) -> str:
    """What who has no permission can do. ``group``: the one that would have it."""
    if group == "root":
        return "try it with sudo"
    return f"try it with sudo; for good: usermod -aG {group} {user}, and log in to the system anew"


def _gate(socket: Path) -> Path:
    """What is shut: the topmost directory that we may not pass, or else the socket itself."""
    for directory in reversed(socket.absolute().parents):
        if not os.access(directory, os.X_OK, effective_ids=True):
            return directory
    return socket


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def too_slow(who: Program, timeout: float) -> UnavailableError:
    said = f"{who} is there, but has not answered within {timeout:g} s"
    return UnavailableError(said, hint=_HINTS[who].split(";")[0])
