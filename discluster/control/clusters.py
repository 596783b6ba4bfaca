# SPDX-License-Identifier: Apache-2.0
"""The UNIX socket on which CONTROL speaks with its clusters, and with a local operator.

Newline-delimited JSON. A connection's first message tells what it is: a :class:`ClusterReport`
introduces a cluster, a :class:`StatusQuery` an operator. The kernel tells who is at the other end.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from discluster.console import HostStatus
from discluster.errors import ProtocolError, UnavailableError
from discluster.messages import (
    ClearanceCase,
    ClusterReport,
    Halt,
    Message,
    PermitMessage,
    StatusQuery,
    cluster_to_control,
    decode,
    encode,
)

log = logging.getLogger(__name__)

_LINE_LIMIT: Final = 4 * 1024 * 1024
_UCRED: Final = struct.Struct("3i")


class ClusterConnection:
    """One connected cluster. ``told``: whether it may dial, as it heard last."""

    def __init__(self, cluster: int, writer: asyncio.StreamWriter) -> None:
        self.cluster = cluster
        self.told: Halt | None = None
        self._writer = writer

    def send(self, message: Message) -> None:
        """Queues ``message``; a connection that is gone is noticed by its reader."""
        if not self._writer.is_closing():
            self._writer.write(encode(message) + b"\n")

    def close(self) -> None:
        self._writer.close()


class ClusterHub:
    """Accepts clusters; keeps the newest report of each that is connected."""

    def __init__(
        self,
        *,
        path: Path,
        allowed_users: frozenset[int],
        on_report: Callable[[ClusterReport, ClusterConnection, bool], None],
        on_gone: Callable[[int], None],
        on_permit: Callable[[ClusterConnection, PermitMessage | ClearanceCase], None],
        status: Callable[[], HostStatus],
    ) -> None:
        """``on_report``'s third argument: whether this report introduces the cluster."""
        self._path = path
        self._allowed = allowed_users
        self._on_report = on_report
        self._on_gone = on_gone
        self._on_permit = on_permit
        self._status = status
        self._server: asyncio.Server | None = None
        self._connections: dict[int, ClusterConnection] = {}
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Raises UnavailableError if the socket cannot be made or another CONTROL serves it."""
        await self._refuse_second_control()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(
                self._serve, self._path, limit=_LINE_LIMIT
            )
            self._path.chmod(0o660)
        except OSError as error:
            raise UnavailableError(
                f"{self._path}: the socket for the clusters cannot be made: {error.strerror}",
                hint="the directory must exist and belong to CONTROL's user"
                " (systemd-tmpfiles --create makes /run/discluster)",
            ) from None

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    @property
    def connections(self) -> tuple[ClusterConnection, ...]:
        return tuple(self._connections.values())

    def tell(self, message: Message) -> None:
        """All that are connected."""
        for connection in self._connections.values():
            connection.send(message)

    def connection(self, cluster: int) -> ClusterConnection | None:
        return self._connections.get(cluster)

    async def _refuse_second_control(self) -> None:
        try:
            _, writer = await asyncio.open_unix_connection(self._path)
        except OSError:
            return
        writer.close()
        raise UnavailableError(
            f"{self._path}: another CONTROL is running on this machine",
            hint="stop it first, or give this one another runtime_directory",
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._is_allowed(writer):
                await self._converse(reader, writer)
        except ProtocolError as error:
            log.warning("closing a connection on %s: %s", self._path, error.render())
        except ValueError:
            log.warning("closing a connection on %s: a line without end", self._path)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer went away
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _is_allowed(self, writer: asyncio.StreamWriter) -> bool:
        raw = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size
        )
        pid, uid, _ = _UCRED.unpack(raw)
        if uid in self._allowed:
            return True
        log.warning("refused process %d of user %d on %s", pid, uid, self._path)
        return False

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: ClusterConnection | None = None
        try:
            while line := await reader.readline():
                message = decode(cluster_to_control, line, peer="a process on the control socket")
                if isinstance(message, StatusQuery):
                    writer.write(encode(self._status()) + b"\n")
                    await writer.drain()
                elif isinstance(message, ClusterReport):
                    introduces = connection is None
                    connection = connection or self._introduce(message.cluster, writer)
                    if self._connections.get(message.cluster) is connection:
                        self._on_report(message, connection, introduces)
                elif connection is not None:
                    if self._connections.get(connection.cluster) is connection:
                        self._on_permit(connection, message)
                else:
                    raise ProtocolError("the first message must introduce the cluster")
        finally:
            if connection and self._connections.get(connection.cluster) is connection:
                del self._connections[connection.cluster]
                self._on_gone(connection.cluster)

    def _introduce(self, cluster: int, writer: asyncio.StreamWriter) -> ClusterConnection:
        older = self._connections.get(cluster)
        connection = self._connections[cluster] = ClusterConnection(cluster, writer)
        if older is not None:
            # A restarted cluster is here before its predecessor's socket was seen to close.
            older.close()
        return connection


def allowed_users() -> frozenset[int]:
    """Our own user, who runs the clusters too, and root."""
    return frozenset({0, os.getuid()})
