# SPDX-License-Identifier: Apache-2.0
"""A WebSocket server that does exactly what the test says, frame by frame, and reads raw frames."""

import asyncio
import base64
import hashlib
import ssl
from types import TracebackType
from typing import Self

CLOSE, PING, PONG, TEXT, BINARY = 8, 9, 10, 1, 2


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.request = b""

    async def shake_hands(self, *, spoil: str = "", greeting: bytes = b"") -> None:
        self.request = await self.reader.readuntil(b"\r\n\r\n")
        [key] = [
            line.split(b": ")[1]
            for line in self.request.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        ]
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        upgrade = b"something" if spoil == "upgrade" else b"websocket"
        accept = base64.b64encode(digest[::-1] if spoil == "accept" else digest)
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: " + upgrade,
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + accept,
            b"",
        ]
        if spoil == "extension":
            lines.insert(1, b"Sec-WebSocket-Extensions: x")
        self.writer.write(b"\r\n".join(lines) + b"\r\n" + greeting)

    def send(self, opcode: int, data: bytes = b"", *, final: bool = True) -> None:
        first = (0x80 if final else 0) | opcode
        size = len(data)
        if size < 126:
            header = bytes([first, size])
        elif size < 1 << 16:
            header = bytes([first, 126]) + size.to_bytes(2)
        else:
            header = bytes([first, 127]) + size.to_bytes(8)
        self.writer.write(header + data)

    async def receive(self) -> tuple[int, bytes] | None:
        """The next frame as (opcode, data); None at the end of the stream."""
        try:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
            mask = await self.reader.readexactly(4)
            data = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return first & 0x0F, bytes(b ^ mask[n % 4] for n, b in enumerate(data))

    async def close_codes(self) -> list[int]:
        """The codes of all close frames until the end of the stream."""
        codes = []
        while (frame := await self.receive()) is not None:
            if frame[0] == CLOSE:
                codes.append(int.from_bytes(frame[1][:2]))
        return codes


class RawServer:
    """Listens on loopback; ``await peer()`` is the next connection after its handshake."""

    def __init__(
        self,
        *,
        answer: bytes | None = None,
        tls: ssl.SSLContext | None = None,
        spoil: str = "",
        greeting: bytes = b"",
    ) -> None:
        """``answer``: instead of an upgrade. ``spoil``: the part of the upgrade's answer that is
        wrong. ``greeting``: sent together with it.
        """
        self._answer = answer
        self._spoil = spoil
        self._greeting = greeting
        self._tls = tls
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._all: list[Peer] = []
        self._server: asyncio.Server | None = None
        self.url = ""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self._all.append(peer)
        if self._answer is not None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._answer)
            writer.close()
            return
        await peer.shake_hands(spoil=self._spoil, greeting=self._greeting)
        self._peers.put_nowait(peer)

    async def peer(self) -> Peer:
        return await self._peers.get()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'wss' if self._tls else 'ws'}://127.0.0.1:{port}/"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for peer in self._all:
            peer.writer.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
