# SPDX-License-Identifier: Apache-2.0
"""Where other hosts of the fleet can ask whether this one hears MASTER.

``GET /v1/witness`` over mutual TLS 1.3, answered by a :class:`WitnessAnswer`; there is nothing else
to be had. The port is open to the network, so everything is bounded (see
:mod:`discluster.reception`), and strangers keep no host of the fleet out.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from discluster.admission import Bounds
from discluster.clock import Clock
from discluster.control.addresses import Endpoint, is_loopback, outward_address
from discluster.errors import DisclusterError, UnavailableError
from discluster.messages import WitnessAnswer, encode
from discluster.reception import Limits, Reception

log = logging.getLogger(__name__)

PATH: Final = "/v1/witness"
_REQUEST_LIMIT: Final = 4096
_TIME_LIMIT: Final = 5.0
_TRY_AGAIN_EVERY: Final = 5.0
# When MASTER is gone, all of a large fleet ask the same few within seconds, each for an instant.
_LIMITS: Final = Limits(
    bounds=Bounds(strangers=256, per_address=32, per_name=4, moment=1.0),
    handshake=_TIME_LIMIT,
    unsettled=_TIME_LIMIT,
    bytes=_REQUEST_LIMIT,
    shutdown=_TIME_LIMIT,
)


class Witness:
    """Serves one address. ``trouble``: why it does not, in words."""

    def __init__(
        self,
        *,
        listen: Endpoint,
        announced: str | None,
        ssl_context: Callable[[], ssl.SSLContext],
        admits: Callable[[bytes | None], bool],
        answer: Callable[[], WitnessAnswer],
        on_change: Callable[[], None],
        clock: Clock,
    ) -> None:
        """``announced``: ADDRESS:PORT that others are to use, where it is not ``listen``.
        ``admits``: whether who shows this certificate (DER), which TLS verified, is answered.
        ``on_change``: called when it listens.
        """
        self._listen = listen
        self._announced = announced
        self._ssl_context = ssl_context
        self._admits = admits
        self._answer = answer
        self._on_change = on_change
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._socket: socket.socket | None = None
        self._reception: Reception | None = None
        self.trouble: str | None = None

    def address(self, towards_master: str | None) -> str | None:
        """As MASTER is told it; None while nobody can ask. Without the address where MASTER sees
        that better than this machine does.

        ``towards_master``: our end of the connection to MASTER. If MASTER runs on this machine as
        well, others need another one than MASTER sees.
        """
        if self._socket is None:
            return None
        if self._announced is not None:
            return self._announced
        host = "" if self._listen.is_any else self._listen.host
        if not host and towards_master is not None and is_loopback(towards_master):
            host = outward_address() or ""
        return str(Endpoint(host=host, port=self._socket.getsockname()[1]))

    def open(self) -> None:
        """Listens, if it does not yet, or says in :attr:`trouble` why not."""
        if self._socket is not None:
            return
        try:
            self._context = self._ssl_context()
            self._socket = self._bind()
            self.trouble = None
        except DisclusterError as error:
            if self.trouble != error.render():
                log.error("no other host can ask this one about MASTER: %s", error.render())
            self.trouble = error.render()

    def renew(self) -> None:
        """Our certificate, or whom we trust, has changed: connections from now on go by that."""
        if self._socket is None:
            return
        try:
            self._context = self._ssl_context()
        except DisclusterError as error:
            log.error("the witness goes on with the former certificate: %s", error.render())

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def run(self) -> None:
        """Until cancelled."""
        try:
            self.open()
            while self._socket is None:
                await self._clock.sleep(_TRY_AGAIN_EVERY)
                self.open()
            self._reception = Reception(what="the witness", limits=_LIMITS, name=shown_certificate)
            self._reception.open([self._socket], self._guest, lambda: self._context)
            self._on_change()
            await asyncio.get_running_loop().create_future()
        finally:
            self.close()
            if self._reception is not None:
                await self._reception.close()

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._listen.host else socket.AF_INET
        fresh = socket.socket(family, socket.SOCK_STREAM)
        try:
            fresh.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            fresh.setblocking(False)
            fresh.bind((self._listen.host, self._listen.port))
            fresh.listen(_LIMITS.backlog)
        except (OSError, OverflowError, UnicodeError) as error:
            fresh.close()
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "another program has this port" if taken else "it must be of this machine"
            told = getattr(error, "strerror", None) or error
            raise UnavailableError(
                f"witness_listen {self._listen} cannot be used: {told}",
                hint=f"{why}: set witness_listen in control.yaml; CONTROL tries again by itself",
            ) from None
        return fresh

    def _guest(self) -> asyncio.BaseProtocol:
        reader = asyncio.StreamReader(limit=_REQUEST_LIMIT)
        return asyncio.StreamReaderProtocol(reader, self._converse)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        failures = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        try:
            if not self._admits(_shown_by(writer.transport)):
                return
            # Strangers may come as often as they like: they are not worth a line in the journal.
            with contextlib.suppress(*failures):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(request))
                writer.close()
                await writer.wait_closed()
        finally:
            # A guest that does not take its leave is not waited for.
            writer.transport.abort()

    def _response(self, request: bytes) -> bytes:
        if request.split(b" ", 2)[:2] != [b"GET", PATH.encode()]:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        body = encode(self._answer())
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


def shown_certificate(transport: asyncio.BaseTransport) -> str | None:
    """Whose connection this is: TLS has seen to it that a certificate is of this fleet."""
    certificate = transport.get_extra_info("peercert") or {}
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return ",".join(names) or None


def _shown_by(transport: asyncio.BaseTransport) -> bytes | None:
    """The guest's certificate, DER."""
    connection = transport.get_extra_info("ssl_object")
    raw: bytes | None = connection.getpeercert(binary_form=True) if connection is not None else None
    return raw
