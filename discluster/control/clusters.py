# SPDX-License-Identifier: Apache-2.0
"""The UNIX socket on which CONTROL speaks with its clusters.

Newline-delimited JSON. A connection's first message, a :class:`ClusterReport`, introduces a
cluster. All clusters have one user, so the supervisor is asked whether the process at the other
end, which the kernel tells, is one of the cluster's that it says it is.
"""

import asyncio
import logging
import os
import pwd
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from discluster.admission import Bounds
from discluster.control.sockets import held_process, listen, peer_of, process_of
from discluster.errors import ConfigurationError, ProtocolError, RefusedError, SupervisorError
from discluster.messages import (
    CallAnswer,
    CallMessage,
    CallRequest,
    ClearanceCase,
    ClusterReport,
    Halt,
    Message,
    PermitMessage,
    cluster_to_control,
    decode,
    encode,
)
from discluster.pace import Pace
from discluster.reception import Limits, Reception
from discluster.sidelane import SideLane

log = logging.getLogger(__name__)

CLUSTER_USER: Final = "discluster-cluster"
"""``User=`` of discluster-cluster@.service."""
# A cluster with 256 shards tells of each in 600 bytes at most, problems included; an answer to a
# call is shorter.
_LINE_LIMIT: Final = 192 * 1024
# What may wait for a cluster that does not read: an assignment with 256 sessions is a tenth of it,
# and of calls there is one in there at most.
_UNREAD_LIMIT: Final = 1024 * 1024
# A process has one connection, and a second one when it is back before the first was seen to close.
_LIMITS: Final = Limits(
    bounds=Bounds(strangers=512, per_address=4, per_name=2, moment=0.5), unsettled=10.0
)


class ClusterConnection:
    """One connected cluster. ``told``: whether it may dial, as it heard last."""

    def __init__(self, cluster: int, writer: asyncio.StreamWriter) -> None:
        self.cluster = cluster
        self.told: Halt | None = None
        self._writer = writer
        self._calls = SideLane(writer)

    def send(self, message: Message) -> None:
        """Queues ``message``; a connection that is gone is noticed by its reader, one that does not
        read is broken off.
        """
        if self._writer.is_closing():
            return
        self._writer.write(encode(message) + b"\n")
        if self._writer.transport.get_write_buffer_size() > _UNREAD_LIMIT:
            log.warning("cluster %d does not read what it is told: broken off", self.cluster)
            self._writer.transport.abort()

    def send_call(self, message: Message) -> bool:
        """Queues what belongs to a call behind all else. Whether there was room for it."""
        return self._calls.send(message)

    def close(self) -> None:
        self._calls.close()
        self._writer.close()


class ClusterHub:
    """Accepts clusters; keeps the newest report of each that is connected."""

    def __init__(
        self,
        *,
        path: Path,
        user: Callable[[], int],
        runs: Callable[[int, int], Awaitable[bool]],
        on_report: Callable[[ClusterReport, ClusterConnection, bool], None],
        on_gone: Callable[[int], None],
        on_permit: Callable[[ClusterConnection, PermitMessage | ClearanceCase], None],
        on_call: Callable[[ClusterConnection, CallMessage], None],
    ) -> None:
        """``user``: of the clusters, asked once. ``runs``: whether this cluster has a process with
        this id; raises SupervisorError. ``on_report``'s third argument: whether this report
        introduces the cluster.
        """
        self._path = path
        self._ask_user = user
        self._user = -1
        self._runs = runs
        self._on_report = on_report
        self._on_gone = on_gone
        self._on_permit = on_permit
        self._on_call = on_call
        self._reception: Reception | None = None
        self._connections: dict[int, ClusterConnection] = {}

    async def open(self) -> None:
        """Raises UnavailableError if the socket cannot be made or another CONTROL serves it,
        ConfigurationError if there is no user for the clusters.
        """
        self._user = self._ask_user()
        self._reception = await listen(
            self._path,
            self._serve,
            limit=_LINE_LIMIT,
            what="the clusters' socket",
            limits=_LIMITS,
            address=process_of,
        )

    async def close(self) -> None:
        if self._reception is None:
            return
        # Clusters may yet hear the last word about their lease.
        await self._reception.close(patience=1.0)
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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self._refuse_other_users(writer)
            await self._converse(reader, writer)
        except (ProtocolError, RefusedError, SupervisorError) as error:
            log.warning("closing a connection on %s: %s", self._path, error.render())
        except ValueError:
            log.warning("closing a connection on %s: a line without end", self._path)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer went away
        finally:
            # One that does not read is not waited for.
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    def _refuse_other_users(self, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer)
        if peer.uid != self._user:
            raise RefusedError(f"process {peer.pid} of user {peer.uid} is no cluster")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection: ClusterConnection | None = None
        pace, clock = Pace(), asyncio.get_running_loop().time
        try:
            while line := await reader.readline():
                began = clock()
                message = decode(cluster_to_control, line, peer="a process on the clusters' socket")
                introduces = connection is None
                if isinstance(message, ClusterReport):
                    connection = connection or await self._introduce(message.cluster, writer)
                    if connection.cluster != message.cluster:
                        raise ProtocolError(
                            f"cluster {connection.cluster} reports for cluster {message.cluster}"
                        )
                if connection is None:
                    raise ProtocolError("the first message must introduce the cluster")
                if self._connections.get(connection.cluster) is not connection:
                    continue
                if isinstance(message, ClusterReport):
                    self._on_report(message, connection, introduces)
                elif isinstance(message, (CallRequest, CallAnswer)):
                    self._on_call(connection, message)
                else:
                    self._on_permit(connection, message)
                if pause := pace.spent(clock() - began, clock()):
                    await asyncio.sleep(pause)
        finally:
            if connection is not None:
                connection.close()
            if connection and self._connections.get(connection.cluster) is connection:
                del self._connections[connection.cluster]
                self._on_gone(connection.cluster)

    async def _introduce(self, cluster: int, writer: asyncio.StreamWriter) -> ClusterConnection:
        pid = peer_of(writer).pid
        with held_process(writer) as lives:
            if not await self._runs(cluster, pid) or not lives():
                raise RefusedError(f"process {pid} is none of cluster {cluster}")
        assert self._reception is not None
        self._reception.recognise(writer.transport, cluster)
        self._reception.settle(writer.transport)
        older = self._connections.get(cluster)
        connection = self._connections[cluster] = ClusterConnection(cluster, writer)
        if older is not None:
            # A restarted cluster is here before its predecessor's socket was seen to close.
            older.close()
        return connection


def cluster_user(supervisor: str) -> int:
    """The user of the clusters that ``supervisor`` runs: of their unit, or our own.

    Raises:
        ConfigurationError: there is no such user.
    """
    if supervisor == "embedded":
        return os.getuid()
    try:
        return pwd.getpwnam(CLUSTER_USER).pw_uid
    except KeyError:
        raise ConfigurationError(
            f"there is no user {CLUSTER_USER} on this machine",
            hint="systemd-sysusers makes it out of the package's files; without them set"
            " 'supervisor: embedded' in control.yaml",
        ) from None
