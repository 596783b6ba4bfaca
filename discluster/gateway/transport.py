# SPDX-License-Identifier: Apache-2.0
"""Opens WebSockets: aiohttp dials, speaks TLS and shakes hands; the frames after that are ours."""

import base64
import hashlib
import os
import ssl
from types import TracebackType
from typing import Final, Literal, Self

import aiohttp

from discluster import USER_AGENT
from discluster.errors import UnavailableError
from discluster.gateway import takeover, urls
from discluster.gateway.aiohttp_socket import AiohttpSocket, UpgradedWebSocket
from discluster.gateway.compression import MAXIMUM_PAYLOAD
from discluster.gateway.sockets import CLOSE_LIMIT, Socket, printable
from discluster.gateway.websocket import WebSocket

_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3

Frames = Literal["ours", "aiohttp"]


class AiohttpTransport:
    """WebSockets over aiohttp. Use it as an async context; leaving it ends all its sockets."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        maximum_message: int = MAXIMUM_PAYLOAD,
        frames: Frames | None = None,
    ) -> None:
        """``tls``: for gateways with a certificate that the system does not trust.
        ``maximum_message``: bytes on the wire; a longer message ends its socket. ``frames``: who
        reads and writes them; None: we do, where this aiohttp lets us.
        """
        self._maximum_message = maximum_message
        self._tls: ssl.SSLContext | bool = tls if tls is not None else True
        self._session: aiohttp.ClientSession | None = None
        self._frames = frames

    async def __aenter__(self) -> Self:
        if self._frames is None:
            self._frames = "ours" if takeover.possible() else "aiohttp"
        self._session = aiohttp.ClientSession(
            # One connector serves all shards of a cluster, each of which holds on to a socket.
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
            headers={"User-Agent": USER_AGENT},
            ws_response_class=UpgradedWebSocket,
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

    async def connect(self, url: str) -> Socket:
        if self._session is None:
            raise RuntimeError("AiohttpTransport is used outside of its context")
        try:
            if self._frames == "ours":
                return await self._upgrade(self._session, url)
            return await self._websocket(self._session, url)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError(_dial_problem(url, error)) from None

    async def _upgrade(self, session: aiohttp.ClientSession, url: str) -> WebSocket:
        key = base64.b64encode(os.urandom(16))
        response = await session.get(
            url,
            allow_redirects=False,
            read_until_eof=False,
            headers={
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": key.decode(),
            },
        )
        try:
            _check_upgrade(response, key)
            connection = response.connection
            if connection is None or connection.transport is None:
                raise UnavailableError("the connection was lost right after its handshake")
            websocket = WebSocket(
                connection.transport, limit=self._maximum_message, release=response.close
            )
            takeover.take_over(response, websocket)
        except BaseException:
            response.close()
            raise
        return websocket

    async def _websocket(self, session: aiohttp.ClientSession, url: str) -> AiohttpSocket:
        websocket = await session.ws_connect(
            url,
            autoclose=False,  # aiohttp would answer with 1000, which ends the session
            max_msg_size=self._maximum_message,
            compress=0,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_LIMIT),
        )
        assert isinstance(websocket, UpgradedWebSocket)  # the class that the session was given
        connection = websocket.upgrade.connection
        if connection is None or connection.transport is None:
            raise UnavailableError("the connection was lost right after its handshake")
        return AiohttpSocket(websocket, connection.transport)


def _check_upgrade(response: aiohttp.ClientResponse, key: bytes) -> None:
    """What a client must check of the answer (RFC 6455, section 4.1)."""
    if response.status != 101:
        raise UnavailableError(_refusal(response.url.host, response.status))
    headers = response.headers
    digest = base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID).digest()).decode()
    fits = (
        headers.get("Upgrade", "").lower() == "websocket"
        and "upgrade" in headers.get("Connection", "").lower()
        and headers.get("Sec-WebSocket-Accept", "").strip() == digest
        and "Sec-WebSocket-Extensions" not in headers
    )
    if not fits:
        raise UnavailableError(f"{response.url.host} answered the WebSocket upgrade wrongly")


def _dial_problem(url: str, error: Exception) -> str:
    where = urls.host(url)
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return _refusal(where, error.status)
    return f"{where} cannot be reached: {printable(str(error)) or type(error).__name__}"


def _refusal(where: str | None, status: int) -> str:
    return f"{where} answered the WebSocket upgrade with HTTP {status}"
