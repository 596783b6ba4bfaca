# SPDX-License-Identifier: Apache-2.0
"""A raw gateway client for these tests: it does what it is told, right or wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import zstandard

from discluster.simulator.frames import Opcode, frame, unmask
from discluster.simulator.settings import DEFAULT_TOKEN

ALL_INTENTS = 53_608_447
TIMEOUT = 5.0
Payload = dict[str, Any]


IDENTIFY: Payload = {
    "token": DEFAULT_TOKEN,
    "intents": ALL_INTENTS,
    "properties": {"os": "linux", "browser": "test", "device": "test"},
}
MASK = b"\x11\x22\x33\x44"
UPGRADE = (
    b"GET /?v=10&encoding=json HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def client_frame(opcode: int, payload: bytes, *, final: bool = True, mask: bytes = MASK) -> bytes:
    """A frame as a client sends it."""
    whole = bytearray(frame(Opcode(opcode), payload))
    whole[0] = opcode | (0x80 if final else 0)
    whole[1] |= 0x80
    end = len(whole) - len(payload)
    return bytes(whole[:end]) + mask + unmask(payload, mask)


class ClosedError(Exception):
    """The connection ended; `code` is what the server sent, None for a TCP drop."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


def decoder(scheme: str | None) -> Callable[[bytes], bytes]:
    """The reverse of the server's compression, for one connection."""
    if scheme == "zlib-stream":
        return zlib.decompressobj().decompress
    if scheme == "zstd-stream":
        return zstandard.ZstdDecompressor().decompressobj().decompress
    return bytes


class Client:
    """One connection."""

    def __init__(
        self, ws: aiohttp.ClientWebSocketResponse, scheme: str | None, patience: float
    ) -> None:
        self.ws = ws
        self.patience = patience
        self.seq: int | None = None
        self.session_id = ""
        self.resume_url = ""
        self.dispatches: list[Payload] = []
        self.decode = decoder(scheme)

    async def receive(self) -> Payload:
        """The next payload; raises ClosedError."""
        # Not wait_for: in Python 3.11 it can swallow a cancellation when a message comes with it.
        async with asyncio.timeout(self.patience):
            message = await self.ws.receive()
        if message.type is aiohttp.WSMsgType.CLOSE:
            raise ClosedError(message.data or None)
        if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
            raise ClosedError(None)
        raw = message.data.encode() if isinstance(message.data, str) else message.data
        payload: Payload = json.loads(self.decode(raw))
        if payload["op"] == 0:
            self._note(payload)
        return payload

    def _note(self, payload: Payload) -> None:
        self.seq = payload["s"]
        self.dispatches.append(payload)
        if payload["t"] == "READY":
            self.session_id = payload["d"].get("session_id", "")
            self.resume_url = payload["d"].get("resume_gateway_url", "")

    async def until(self, predicate: Callable[[Payload], bool]) -> Payload:
        """Read on until a payload satisfies `predicate`."""
        while not predicate(payload := await self.receive()):
            pass
        return payload

    async def op(self, number: int) -> Payload:
        """Read on until this opcode."""
        return await self.until(lambda payload: payload["op"] == number)

    async def event(self, name: str) -> Payload:
        """Read on until this dispatch."""
        return await self.until(lambda payload: payload.get("t") == name)

    async def reach(self, seq: int) -> None:
        """Read on until this sequence, unless it came already."""
        while self.seq is None or self.seq < seq:
            await self.receive()

    async def closed(self) -> int | None:
        """Read on until the end; returns the close code."""
        try:
            while True:
                await self.receive()
        except ClosedError as end:
            return end.code

    async def send(self, op: int, data: Any) -> None:
        """Send a payload."""
        await self.ws.send_str(json.dumps({"op": op, "d": data}))

    async def identify(self, shard: tuple[int, int] | None = (0, 4), **changes: Any) -> None:
        """Send IDENTIFY; `changes` replace or (None) remove fields."""
        data = {**IDENTIFY, "shard": shard and list(shard), **changes}
        await self.send(2, {key: value for key, value in data.items() if value is not None})

    async def resume(self, other: Client, *, seq: Any = None, token: str = DEFAULT_TOKEN) -> None:
        """Send RESUME for the session that another connection began."""
        data = {
            "token": token,
            "session_id": other.session_id,
            "seq": other.seq if seq is None else seq,
        }
        self.session_id, self.resume_url = other.session_id, other.resume_url
        await self.send(6, data)

    async def heartbeat(self) -> None:
        """Send a heartbeat and read on until its acknowledgement."""
        await self.send(1, self.seq)
        await self.op(11)

    async def close(self, code: int = 4000) -> None:
        """Close with a code."""
        await self.ws.close(code=code)

    def kill(self) -> None:
        """Drop the TCP connection."""
        sock = self.ws.get_extra_info("socket")
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)


class Dialer:
    """Opens connections, and closes them all in the end."""

    def __init__(self, http: aiohttp.ClientSession, gateway_url: str, patience: float) -> None:
        self.http = http
        self.patience = patience
        self.gateway_url = gateway_url
        self.clients: list[Client] = []

    async def dial(
        self, url: str | None = None, query: str = "v=10&encoding=json", *, hello: bool = True
    ) -> Client:
        """Connect and take HELLO."""
        base = (url or self.gateway_url).rstrip("/")
        target = f"{base}?{query}" if url else f"{base}/?{query}"
        scheme = dict(part.split("=") for part in query.split("&") if part).get("compress")
        ws = await self.http.ws_connect(target, autoclose=True, max_msg_size=0)
        client = Client(ws, scheme, self.patience)
        self.clients.append(client)
        if hello:
            assert (await client.receive())["op"] == 10
        return client

    async def ready(
        self,
        shard: tuple[int, int] | None = (0, 4),
        query: str = "v=10&encoding=json",
        **identify: Any,
    ) -> Client:
        """Connect, identify, and take READY."""
        client = await self.dial(query=query)
        await client.identify(shard, **identify)
        await client.event("READY")
        return client

    async def resumed(self, other: Client, query: str = "v=10&encoding=json") -> Client:
        """Connect to the session's own host, resume, and take RESUMED."""
        client = await self.dial(other.resume_url, query)
        await client.resume(other)
        await client.event("RESUMED")
        return client


@asynccontextmanager
async def dialing(
    gateway_url: str, address: str = "127.0.0.1", patience: float = TIMEOUT
) -> AsyncIterator[Dialer]:
    """A Dialer whose connections come from `address`, and all end with the block.

    They wait `patience` seconds for a payload.
    """
    headers = {"User-Agent": "DiscordBot (https://example.com, 1.0)"}
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with aiohttp.ClientSession(headers=headers, connector=connector) as http:
        dialer = Dialer(http, gateway_url, patience)
        try:
            yield dialer
        finally:
            for client in dialer.clients:
                if not client.ws.closed:
                    client.kill()
                # aiohttp 3.11 leaves this to the garbage collector after a reset.
                client.ws._response.close()
