# SPDX-License-Identifier: Apache-2.0
"""CONTROL's UNIX sockets: who may make one, and who is at the other end."""

import asyncio
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from discluster.errors import UnavailableError
from discluster.reception import Limits, Reception, bound_unix_socket, origin_of

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_UCRED: Final = struct.Struct("3i")
_SO_PEERPIDFD: Final = 77  # Linux 6.5; not in Python's socket


class Peer(msgspec.Struct, frozen=True):
    """The process that connected, as the kernel tells it."""

    pid: int
    uid: int


def peer_of(writer: asyncio.StreamWriter) -> Peer:
    """Who is at the other end; both stay as they were when it connected."""
    raw = writer.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size
    )
    pid, uid, _ = _UCRED.unpack(raw)
    return Peer(pid, uid)


@contextmanager
def held_process(writer: asyncio.StreamWriter) -> Iterator[Callable[[], bool]]:
    """Whether the process that connected still lives. If so, nobody else had its id meanwhile."""
    try:
        process = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        # An older kernel: by its id, which may be somebody else's since it connected.
        process = os.pidfd_open(peer_of(writer).pid)
    poll = select.poll()
    poll.register(process, select.POLLIN)
    try:
        yield lambda: not poll.poll(0)
    finally:
        os.close(process)


async def listen(
    path: Path,
    serve: Serve,
    *,
    limit: int,
    what: str,
    limits: Limits,
    address: Callable[[socket.socket, object], Hashable] = origin_of,
) -> Reception:
    """A socket for the owner and the group of the directory of ``path``. ``limit``: of a line,
    bytes; twice as much is read ahead. ``what``, ``limits``, ``address``: see :class:`Reception`.

    Raises:
        UnavailableError: it cannot be made, or another CONTROL serves it.
    """
    await _refuse_second_control(path)

    def peer() -> asyncio.BaseProtocol:
        reader = asyncio.StreamReader(limit=limit)
        return asyncio.StreamReaderProtocol(reader, serve)

    reception = Reception(what=what, limits=limits, name=lambda _: None, address=address)
    try:
        reception.open([bound_unix_socket(path, mode=0o660)], peer)
    except OSError as error:
        raise UnavailableError(
            f"{path}: the socket cannot be made: {error.strerror}",
            hint="the directory must exist and belong to CONTROL's user"
            " (systemd-tmpfiles --create makes those of /run/discluster)",
        ) from None
    return reception


def process_of(connected: socket.socket, _: object) -> int:
    """The id of the process that connected."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid: int = _UCRED.unpack(raw)[0]
    return pid


async def _refuse_second_control(path: Path) -> None:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return
    writer.close()
    raise UnavailableError(
        f"{path}: another CONTROL is running on this machine",
        hint="stop it first, or give this one another runtime_directory",
    )
