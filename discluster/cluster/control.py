# SPDX-License-Identifier: Apache-2.0
"""The cluster's end of CONTROL's UNIX socket: reports go up, assignments and permits come down.

Without CONTROL the shards run on and resume; only identifies wait.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from discluster.clock import Clock
from discluster.cluster.calls import ClusterCalls
from discluster.cluster.gate import ClusterGate
from discluster.errors import ProtocolError
from discluster.messages import (
    Assignment,
    CalledMessage,
    Clearance,
    ClusterReport,
    Halt,
    Lease,
    Message,
    Permit,
    PermitDenied,
    PermitRequest,
    PermitReturned,
    PermitUsed,
    Rejected,
    control_to_cluster,
    decode,
    encode,
)
from discluster.sidelane import SideLane

log = logging.getLogger(__name__)

_LINE_LIMIT: Final = 4 * 1024 * 1024
_REPORT_EVERY: Final = 2.0
_REPORT_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class ControlLink:
    """Connects, and connects again; asks for permits on behalf of the shards."""

    def __init__(
        self,
        *,
        path: Path,
        report: Callable[[], ClusterReport],
        on_assignment: Callable[[Assignment], None],
        on_lease: Callable[[Lease], None],
        gate: ClusterGate,
        calls: ClusterCalls,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._path = path
        self._report = report
        self._on_assignment = on_assignment
        self._on_lease = on_lease
        self._gate = gate
        self._calls = calls
        self._clock = clock
        self._rng = rng
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Permit]] = {}
        self._permits: dict[int, Permit] = {}
        self._untold: list[PermitUsed] = []
        self._due = asyncio.Event()
        self.denials: dict[int, str] = {}

    @property
    def connected(self) -> bool:
        return self._writer is not None

    def report_soon(self) -> None:
        """Something changed that CONTROL should hear about."""
        self._due.set()

    # --- permits (see gateway.contracts.Permits) ---

    async def acquire(self, shard: int) -> None:
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiting[shard] = future
        self._send(PermitRequest(shard=shard))
        try:
            permit = await future
            # It comes a little ahead of its time.
            await self._clock.sleep(permit.since - self._clock.monotonic())
        except asyncio.CancelledError:
            self.returned(shard)
            raise
        finally:
            if self._waiting.get(shard) is future:
                del self._waiting[shard]
            self.denials.pop(shard, None)

    def valid(self, shard: int) -> bool:
        permit = self._permits.get(shard)
        return permit is not None and self._clock.monotonic() < permit.until

    def used(self, shard: int) -> None:
        self._permits.pop(shard, None)
        message = PermitUsed(shard=shard, at=self._clock.monotonic())
        if self.connected:
            self._send(message)
        else:
            self._untold.append(message)

    def returned(self, shard: int) -> None:
        self._permits.pop(shard, None)
        self._send(PermitReturned(shard=shard))

    # --- the connection ---

    async def run(self) -> None:
        """Keeps a connection until cancelled."""
        pause = 0.1
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=_LINE_LIMIT)
            except OSError as error:
                log.debug("CONTROL is away: %s", error)
            else:
                log.info("connected to CONTROL")
                pause = 0.1
                await self._attend(reader, writer)
                log.info("CONTROL is away; the shards run on")
            self._gate.control_away()
            await self._clock.sleep(pause * (0.5 + self._rng.random()))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def say_last(self) -> None:
        """Sends a final report and waits until it is on its way."""
        if self._writer is not None:
            self._send(self._report())
            with contextlib.suppress(OSError):
                await self._writer.drain()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._send(self._report())
        for used in self._untold:
            self._send(used)
        self._untold.clear()
        for shard in self._waiting:
            self._send(PermitRequest(shard=shard))
        self._gate.control_connected(self._send)
        lane = SideLane(writer)
        self._calls.control_connected(lane.send)
        reporter = asyncio.create_task(self._keep_reporting(), name="reports")
        try:
            while line := await reader.readline():
                self._take(line)
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            log.warning("the connection to CONTROL broke: %s", error)
        except ProtocolError as error:
            log.error("%s", error.render())
        finally:
            self._writer = None
            self._calls.control_lost()
            lane.close()
            reporter.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reporter
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _take(self, line: bytes) -> None:
        message = decode(control_to_cluster, line, peer="CONTROL")
        if isinstance(message, Assignment):
            self._on_assignment(message)
        elif isinstance(message, Lease):
            self._on_lease(message)
        elif isinstance(message, Permit):
            self._granted(message)
        elif isinstance(message, PermitDenied):
            self.denials[message.shard] = message.reason
            loop = asyncio.get_running_loop()
            loop.call_later(message.retry_after, self._ask_again, message.shard)
        elif isinstance(message, (Clearance, Halt)):
            self._gate.control_said(message)
        elif isinstance(message, CalledMessage):
            self._calls.control_said(message)
        elif isinstance(message, Rejected):
            raise ProtocolError(f"CONTROL refused this cluster: {message.reason}")

    def _granted(self, permit: Permit) -> None:
        future = self._waiting.pop(permit.shard, None)
        if future is None or future.done():
            self._send(PermitReturned(shard=permit.shard))
        else:
            self._permits[permit.shard] = permit
            future.set_result(permit)

    def _ask_again(self, shard: int) -> None:
        if shard in self._waiting:
            self._send(PermitRequest(shard=shard))

    def _send(self, message: Message) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message) + b"\n")

    async def _keep_reporting(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_EVERY):
                    await self._due.wait()
            self._due.clear()
            self._send(self._report())
            await self._clock.sleep(_REPORT_PAUSE)
