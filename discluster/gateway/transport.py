# SPDX-License-Identifier: Apache-2.0
"""The socket under a connection: what a shard asks of it, and the real one over aiohttp."""

import asyncio
import ssl
from types import TracebackType
from typing import Any, Final, Protocol, Self

import aiohttp
import msgspec

from discluster import USER_AGENT
from discluster.errors import UnavailableError
from discluster.gateway import urls
from discluster.gateway.closecodes import KEEP_SESSION
from discluster.gateway.compression import MAXIMUM_PAYLOAD

CLOSE_LIMIT: Final = 1.0  # seconds for the close handshake; then the socket is aborted


class Closed(msgspec.Struct, frozen=True):
    """The end of a socket. ``code``: of the peer's close frame, None if there was none."""

    code: int | None
    reason: str = ""


class Socket(Protocol):
    """One open WebSocket. What was received is held back in the kernel while nobody receives."""

    async def receive(self) -> bytes | str | Closed:
        """The next message; Closed at the end, and again at every further call."""
        ...

    async def send(self, data: bytes) -> None:
        """Writes one text message.

        Raises:
            ConnectionError: the socket is closed and nothing was written.
        """
        ...

    async def close(self, code: int) -> None:
        """Says goodbye with ``code`` and ends the socket within a second, whoever is receiving.

        A second call waits for the first, whose code counts.
        """
        ...

    def abort(self) -> None:
        """Ends the socket at once without a close frame. Harmless on one that has ended."""
        ...


class Transport(Protocol):
    """Opens sockets."""

    async def connect(self, url: str) -> Socket:
        """A socket after its WebSocket handshake. Cancellable.

        Raises:
            UnavailableError: the handshake did not succeed.
        """
        ...


class _WebSocket(aiohttp.ClientWebSocketResponse):
    """Knows the HTTP response that it grew out of, since aiohttp offers no way to abort it.

    aiohttp closes of its own accord in some cases, with 1000, which would end the session; here
    it is ``goodbye`` that it closes with.
    """

    def __init__(
        self, reader: Any, writer: Any, protocol: Any, response: Any, *rest: Any, **options: Any
    ) -> None:
        super().__init__(reader, writer, protocol, response, *rest, **options)
        self.upgrade: aiohttp.ClientResponse = response
        self.goodbye = KEEP_SESSION

    async def close(self, *, code: int | None = None, message: bytes = b"") -> bool:
        code = self.goodbye if code is None else code
        return await super().close(code=code, message=message)


class AiohttpSocket:
    """A socket of :class:`AiohttpTransport`."""

    def __init__(self, websocket: _WebSocket, tcp: asyncio.Transport) -> None:
        self._websocket = websocket
        self._tcp = tcp
        self._goodbye: asyncio.Event | None = None

    async def receive(self) -> bytes | str | Closed:
        if self._goodbye is not None:
            # Within aiohttp, a receive after a close was begun would race with it.
            await self._goodbye.wait()
            return Closed(None)
        message = await self._websocket.receive()
        kind = message.type
        if kind is aiohttp.WSMsgType.BINARY or kind is aiohttp.WSMsgType.TEXT:
            data: bytes | str = message.data
            return data
        if kind is aiohttp.WSMsgType.CLOSE:
            return Closed(message.data or None, _printable(message.extra))
        if kind is aiohttp.WSMsgType.ERROR:
            return Closed(None, _printable(str(message.data)))
        return Closed(None)

    async def send(self, data: bytes) -> None:
        if self._websocket.closed or self._tcp.is_closing():
            raise ConnectionResetError("the socket is closed")
        try:
            await self._websocket.send_frame(data, aiohttp.WSMsgType.TEXT)
        except (OSError, aiohttp.ClientError):
            # Part of it may be on its way, so it counts as sent; receive() tells of the end.
            pass

    async def close(self, code: int) -> None:
        if self._goodbye is not None:
            await self._goodbye.wait()
            return
        self._goodbye = asyncio.Event()
        self._websocket.goodbye = code
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._websocket.close()
        except TimeoutError:
            pass  # a peer that does not answer gets no more time
        finally:
            self.abort()
            self._goodbye.set()

    def abort(self) -> None:
        self._tcp.abort()
        self._websocket.upgrade.close()  # gives the connection back to aiohttp


class AiohttpTransport:
    """WebSockets over aiohttp. Use it as an async context; leaving it ends all its sockets."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, maximum_message: int = MAXIMUM_PAYLOAD
    ) -> None:
        """``tls``: for gateways with a certificate that the system does not trust.
        ``maximum_message``: bytes on the wire; a longer message ends its socket.
        """
        self._maximum_message = maximum_message
        self._tls: ssl.SSLContext | bool = tls if tls is not None else True
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # One connector serves all shards of a cluster, each of which holds on to a socket.
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
            headers={"User-Agent": USER_AGENT},
            ws_response_class=_WebSocket,
            # A shard bounds its dials itself; any total here would end the socket, too.
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def connect(self, url: str) -> AiohttpSocket:
        if self._session is None:
            raise RuntimeError("AiohttpTransport is used outside of its context")
        try:
            websocket = await self._session.ws_connect(
                url,
                autoclose=False,  # aiohttp would answer with 1000, which ends the session
                max_msg_size=self._maximum_message,
                compress=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_LIMIT),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError(_dial_problem(url, error)) from None
        return _adopt(websocket)


def _adopt(websocket: aiohttp.ClientWebSocketResponse) -> AiohttpSocket:
    assert isinstance(websocket, _WebSocket)  # the class that the session was given
    connection = websocket.upgrade.connection
    if connection is None or connection.transport is None:
        raise UnavailableError("the connection was lost right after its handshake")
    return AiohttpSocket(websocket, connection.transport)


def _dial_problem(url: str, error: Exception) -> str:
    where = urls.host(url)
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"{where} answered the WebSocket upgrade with HTTP {error.status}"
    return f"{where} cannot be reached: {_printable(str(error)) or type(error).__name__}"


def _printable(text: str | None) -> str:
    """Text from a peer, fit for a journal."""
    return "".join(c if c.isprintable() else " " for c in (text or "")[:200])
