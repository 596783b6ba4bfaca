# SPDX-License-Identifier: Apache-2.0
"""A WebSocket with aiohttp's own frames: where ours cannot take over its connections."""

import asyncio
from typing import Any

import aiohttp

from discluster.gateway.closecodes import KEEP_SESSION
from discluster.gateway.sockets import CLOSE_LIMIT, Closed, Message, Messages, printable


class UpgradedWebSocket(aiohttp.ClientWebSocketResponse):
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
    """A socket that uses what aiohttp documents, a message at a time."""

    def __init__(self, websocket: UpgradedWebSocket, tcp: asyncio.Transport) -> None:
        self._websocket = websocket
        self._tcp = tcp
        self._goodbye: asyncio.Event | None = None

    async def receive(self) -> Messages | Closed:
        if self._goodbye is not None:
            # Within aiohttp, a receive after a close was begun would race with it.
            await self._goodbye.wait()
            return Closed(None)
        message = await self._websocket.receive()
        kind = message.type
        if kind is aiohttp.WSMsgType.BINARY or kind is aiohttp.WSMsgType.TEXT:
            data: Message = message.data
            return [data]
        if kind is aiohttp.WSMsgType.CLOSE:
            return Closed(message.data or None, printable(message.extra))
        if kind is aiohttp.WSMsgType.ERROR:
            return Closed(None, printable(str(message.data)))
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
