# SPDX-License-Identifier: Apache-2.0
"""CONTROL's end of the socket, played by the test."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from discluster.clock import SystemClock
from discluster.cluster.lease import ClusterLease
from discluster.lease import boottime
from discluster.messages import (
    ClusterReport,
    Halt,
    Lease,
    Message,
    Permit,
    PermitRequest,
    cluster_to_control,
    decode,
    encode,
)


def permit(shard: int, *, since: float = 0.0, life: float = 10.0) -> Permit:
    """``since``: seconds from now."""
    begins = SystemClock().monotonic() + since
    return Permit(shard=shard, since=begins, until=begins + life)


ENDLESS = Lease(until=None)


def endless_lease() -> ClusterLease:
    """Of a cluster whose test is not about leases."""
    lease = ClusterLease(boottime=boottime)
    lease.take(ENDLESS)
    return lease


class FakeControl:
    """Notes what it hears; grants every permit at once while ``grants`` is set.

    ``halt``, ``lease``: what it says to a cluster that introduces itself; None: nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[Message] = []
        self.grants = True
        self.halt: Halt | None = Halt(reason=None)
        self.lease: Lease | None = ENDLESS
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self.path.parent.mkdir(exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.vanish()

    async def vanish(self) -> None:
        """Its socket stays behind, as that of a process that was killed."""
        assert self._server is not None
        self._server.close()
        self.hang_up()
        await self._server.wait_closed()

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def say(self, message: Message | bytes) -> None:
        line = message if isinstance(message, bytes) else encode(message) + b"\n"
        self._writers[-1].write(line)

    @property
    def connected(self) -> bool:
        return bool(self._writers)

    @property
    def reports(self) -> list[ClusterReport]:
        return [message for message in self.heard if isinstance(message, ClusterReport)]

    @property
    def permits(self) -> list[Message]:
        return [message for message in self.heard if not isinstance(message, ClusterReport)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        introduces = True
        try:
            while line := await reader.readline():
                message = decode(cluster_to_control, line, peer="the cluster")
                self.heard.append(message)
                if introduces:
                    for word in (self.lease, self.halt):
                        if word is not None:
                            self.say(word)
                introduces = False
                if self.grants and isinstance(message, PermitRequest):
                    self.say(permit(message.shard))
        except (ConnectionError, IndexError):
            pass
        finally:
            if writer in self._writers:
                self._writers.remove(writer)
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
