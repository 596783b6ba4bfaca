# SPDX-License-Identifier: Apache-2.0
"""MASTER's end of the connections to the CONTROLs: ``wss://MASTER/v1/control``.

The name of a host is the one in its certificate, which TLS verified against the fleet's authority;
what a message says about that does not count.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Final, Protocol, cast

from aiohttp import WSMsgType, web

from discluster import __version__, pem
from discluster.certificates import Certificate
from discluster.clock import Clock
from discluster.errors import ProtocolError, RefusedError
from discluster.master.hosts.book import HostConnection
from discluster.master.hosts.outbox import longest_message
from discluster.messages import (
    PROTOCOL,
    CallAnswer,
    CallMessage,
    CallRequest,
    CertificateReport,
    ControlToMaster,
    Hello,
    HostReport,
    Message,
    Ping,
    Pong,
    Rejected,
    RenewRequest,
    Welcome,
    control_to_master,
    decode,
    encode,
)
from discluster.pace import Pace
from discluster.plan import FleetPlan
from discluster.sidelane import keep_little_unsent

log = logging.getLogger(__name__)

_HELLO_TIMEOUT: Final = 10.0
_SEND_TIMEOUT: Final = 10.0
_PARTING_TIMEOUT: Final = 1.0
_CLOSE_TIMEOUT: Final = 3.0
_LONGEST_VERSION: Final = 64
# A host that is refused again and again is told of once in so many seconds.
_TOLD_EVERY: Final = 60.0


class Controls(Protocol):
    """What the link tells MASTER's loop."""

    @property
    def fleet(self) -> FleetPlan | None: ...

    def objection(self, host: str, report: HostReport) -> str | None:
        """Why ``report`` cannot be, in words."""
        ...

    def refusal(self, host: str) -> str | None:
        """Why ``host`` is not let in, in words."""
        ...

    def host_connected(self, connection: HostConnection, hello: Hello) -> None: ...

    def host_heard(self, connection: HostConnection) -> None: ...

    def host_said(self, connection: HostConnection, message: ControlToMaster) -> None: ...

    def host_gone(self, connection: HostConnection) -> None: ...


class Certificates(Protocol):
    """What is needed of :class:`discluster.master.access.certificates.CertificateDesk`."""

    def refusal(self, certificate: Certificate) -> RefusedError | None: ...

    def connected(self, connection: HostConnection, certificate: Certificate) -> None: ...

    def gone(self, connection: HostConnection) -> None: ...

    def said(
        self, connection: HostConnection, message: CertificateReport | RenewRequest
    ) -> None: ...


class CallsBetween(Protocol):
    """What is needed of :class:`discluster.master.calls.FleetCalls`."""

    def connected(self, connection: HostConnection) -> None: ...

    def gone(self, connection: HostConnection) -> None: ...

    def said(self, connection: HostConnection, message: CallMessage) -> float:
        """Returns seconds that the host shall be charged with."""
        ...


class ControlLink:
    """Serves the WebSocket route."""

    def __init__(
        self,
        controls: Controls,
        certificates: Certificates,
        calls: CallsBetween,
        *,
        ping_interval: float,
        lease: float,
        clock: Clock,
        settle: Callable[[asyncio.BaseTransport | None], None] = lambda _: None,
    ) -> None:
        """``clock``: the one that permits are made with. ``settle``: takes a connection that may
        last, since its host has said hello.
        """
        self._controls = controls
        self._settle = settle
        self._certificates = certificates
        self._calls = calls
        self._clock = clock
        self._ping_interval = ping_interval
        self._lease = lease
        self._told: dict[str, float] = {}  # of each host, when

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One connection of a CONTROL, until it ends."""
        fleet = self._controls.fleet
        limit = longest_message(None if fleet is None else fleet.shard_count)
        # CONTROL neither compresses, which makes a little a lot, nor sends WebSocket's own pings.
        socket = web.WebSocketResponse(
            max_msg_size=limit, timeout=2.0, compress=False, autoping=False
        )
        await socket.prepare(request)
        try:
            await self._admit(socket, request, room=2 * limit)
        finally:
            await self._end(socket, request)
        return socket

    async def _admit(
        self, socket: web.WebSocketResponse, request: web.Request, *, room: int
    ) -> None:
        certificate = shown_certificate(request.transport)
        host = certificate.host if certificate is not None else None
        if certificate is None or host is None:
            await self._reject(socket, "no-certificate", "it showed no certificate of this fleet")
            return
        if (removed := self._controls.refusal(host)) is not None:
            await self._reject(socket, "removed", removed)
            return
        if (refused := self._certificates.refusal(certificate)) is not None:
            self._tell(host, f"refused a connection of {host}: {refused.message}")
            await self._reject(socket, refused.code, refused.message)
            return
        try:
            hello = await self._greeting(socket, host)
        except (ProtocolError, TimeoutError) as error:
            reason = str(error) or "it did not say hello in time"
            self._tell(host, f"refused a connection of {host}: {reason}")
            await self._reject(socket, "protocol", reason)
            return
        # It may have been revoked while its greeting was on its way.
        if (refused := self._certificates.refusal(certificate)) is not None:
            await self._reject(socket, refused.code, refused.message)
            return
        self._settle(request.transport)
        await self._attend(socket, certificate, hello, address=request.remote, room=room)

    async def _end(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        """A peer that does not read would keep us here for long, and what it did not read."""
        # uvloop's transports are no subclass of asyncio's.
        writing = cast(asyncio.WriteTransport | None, request.transport)
        if writing is None:
            return  # it is over
        if not writing.get_write_buffer_size():
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await socket.close()
        writing.abort()

    def _tell(self, host: str, sentence: str) -> None:
        now = self._clock.monotonic()
        if now - self._told.get(host, float("-inf")) >= _TOLD_EVERY:
            self._told[host] = now
            log.warning("%s", sentence)

    async def _greeting(self, socket: web.WebSocketResponse, host: str) -> Hello:
        async with asyncio.timeout(_HELLO_TIMEOUT):
            received = await socket.receive()
        if received.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            raise ProtocolError("it left without a word")
        hello = decode(control_to_master, received.data, peer=host)
        if not isinstance(hello, Hello):
            raise ProtocolError("its first message must be hello")
        if hello.protocol != PROTOCOL:
            raise ProtocolError(
                f"{host} speaks protocol {hello.protocol} (version {hello.version}), MASTER"
                f" {PROTOCOL} ({__version__}): install the same version on both"
            )
        self._refuse_impossible(host, hello.report)
        if len(hello.version) > _LONGEST_VERSION:
            raise ProtocolError("no version has such a name")
        return hello

    def _refuse_impossible(self, host: str, report: HostReport) -> None:
        if (complaint := self._controls.objection(host, report)) is not None:
            raise ProtocolError(complaint)

    async def _reject(self, socket: web.WebSocketResponse, code: str, reason: str) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await socket.send_bytes(encode(Rejected(code=code, reason=reason)))
                await socket.close(code=4000)

    async def _attend(
        self,
        socket: web.WebSocketResponse,
        certificate: Certificate,
        hello: Hello,
        *,
        address: str | None,
        room: int,
    ) -> None:
        ended = asyncio.Event()
        farewell: list[Message] = []

        def close(reason: str) -> None:
            if not ended.is_set():
                farewell.append(Rejected(code="closed", reason=reason))
            ended.set()

        connection = HostConnection(str(certificate.host), close, address=address, room=room)
        connection.send(self._welcome())
        keep_little_unsent(socket.get_extra_info("socket"))
        self._certificates.connected(connection, certificate)
        self._controls.host_connected(connection, hello)
        self._calls.connected(connection)
        parts = [
            asyncio.create_task(self._read(socket, connection)),
            asyncio.create_task(self._write(socket, connection)),
            asyncio.create_task(self._ping(connection)),
            asyncio.create_task(ended.wait()),
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            for outcome in await asyncio.gather(*parts, return_exceptions=True):
                if isinstance(outcome, Exception):
                    host = connection.host
                    self._tell(host, f"the connection of {host} ends: {outcome}")
                    if isinstance(outcome, ProtocolError):
                        farewell.append(Rejected(code=outcome.code, reason=outcome.message))
            self._certificates.gone(connection)
            self._calls.gone(connection)
            self._controls.host_gone(connection)
        if farewell:
            with contextlib.suppress(OSError, TimeoutError):
                await self._part(socket, connection, farewell[0])

    def _welcome(self) -> Welcome:
        return Welcome(
            protocol=PROTOCOL,
            version=__version__,
            ping_interval=self._ping_interval,
            lease=self._lease,
            now=self._clock.monotonic(),
        )

    async def _part(
        self, socket: web.WebSocketResponse, connection: HostConnection, farewell: Message
    ) -> None:
        """What was said already arrives first: a plan must not be lost with a MASTER that stops."""
        async with asyncio.timeout(_PARTING_TIMEOUT):
            while not connection.outbox.empty():
                await socket.send_bytes(encode(connection.outbox.get_nowait()))
            await socket.send_bytes(encode(farewell))

    async def _read(self, socket: web.WebSocketResponse, connection: HostConnection) -> None:
        pace = Pace()
        async for received in socket:
            if received.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return
            began = self._clock.monotonic()
            message = decode(control_to_master, received.data, peer=connection.host)
            self._controls.host_heard(connection)
            later = self._take(connection, message)
            now = self._clock.monotonic()
            if pause := pace.spent(now - began + later, now):
                await self._clock.sleep(pause)

    def _take(self, connection: HostConnection, message: ControlToMaster) -> float:
        """Seconds of work that ``message`` makes for others."""
        if isinstance(message, Hello):
            raise ProtocolError("it says hello again")
        if isinstance(message, HostReport):
            self._refuse_impossible(connection.host, message)
        if isinstance(message, Ping):
            connection.send(Pong(number=message.number, now=self._clock.monotonic()))
        elif isinstance(message, Pong):
            now = self._clock.monotonic()
            connection.steadiness.answered(message.number, now, lease=self._lease)
        elif isinstance(message, (CertificateReport, RenewRequest)):
            self._certificates.said(connection, message)
        elif isinstance(message, (CallRequest, CallAnswer)):
            return self._calls.said(connection, message)
        else:
            self._controls.host_said(connection, message)
        return 0.0

    async def _write(self, socket: web.WebSocketResponse, connection: HostConnection) -> None:
        while True:
            message = await connection.outbox.get()
            # A host that does not read must not hold its queue for ever.
            async with asyncio.timeout(_SEND_TIMEOUT):
                await socket.send_bytes(encode(message))

    async def _ping(self, connection: HostConnection) -> None:
        for number in itertools.count(1):
            connection.steadiness.pinged(number, self._clock.monotonic())
            connection.send(Ping(number=number))
            await asyncio.sleep(self._ping_interval)


def shown_certificate(transport: asyncio.BaseTransport | None) -> Certificate | None:
    """The client's, which TLS verified; None if it showed none."""
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    raw = connection.getpeercert(binary_form=True) if connection is not None else None
    try:
        return pem.read(raw) if raw else None
    except ValueError:
        return None


def certified_host(transport: asyncio.BaseTransport | None) -> str | None:
    """The host name in the client's certificate, None if it showed none."""
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not certificate:
        return None
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return names[0] if len(names) == 1 else None
