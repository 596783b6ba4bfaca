# SPDX-License-Identifier: Apache-2.0
"""A small bot for the local gateway: it says and notes what the test wants to know."""

import asyncio
import contextlib
import zlib
from typing import Any, Self

import aiohttp
import msgspec
import zstandard

from tests.waiting import wait_for


class Bot:
    """One connection. ``events``: (type, s, body) of all dispatches. ``counted``: what the
    simulator counts, as (guild, count). ``close_code``: once it is closed.
    """

    def __init__(self, url: str, token: str, *, compress: str = "", beats: bool = True) -> None:
        """``beats``: it answers op 1 at once, as every library does."""
        self.url = url
        self.events: list[tuple[str, int, Any]] = []
        self.counted: list[tuple[int, int]] = []
        self.ops: list[int] = []
        self.session_id = ""
        self.resume_url = ""
        self.seq: int | None = None
        self.close_code: int | None = None
        self.reason = ""
        self.beats = beats
        self._token = token
        self._compress = compress
        self._inflate = _inflater(compress)
        self._http = aiohttp.ClientSession()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        query = "?v=10&encoding=json" + (f"&compress={self._compress}" if self._compress else "")
        self._socket = await self._http.ws_connect(self.url + query, max_msg_size=0)
        self._reader = asyncio.create_task(self._read(self._socket))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        """As SIGKILL does: the connection ends without a word."""
        if self._socket is not None and self._socket._response.connection is not None:
            transport = self._socket._response.connection.transport
            if transport is not None:
                transport.abort()
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        await self._http.close()

    async def stall(self) -> None:
        """It reads nothing more, until :meth:`go_on`."""
        assert self._reader is not None
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    def go_on(self) -> None:
        """It reads again."""
        assert self._socket is not None
        self._reader = asyncio.create_task(self._read(self._socket))

    # --- what it says ---

    async def say(self, op: int, body: object) -> None:
        assert self._socket is not None
        await self._socket.send_bytes(msgspec.json.encode({"op": op, "d": body}))

    async def identify(self, shard: int, count: int, **more: Any) -> None:
        """Returns when it is ready."""
        await self.say(2, self.identity(shard, count, **more))
        await self.until("READY")

    def identity(self, shard: int, count: int, **more: Any) -> dict[str, Any]:
        intents = more.pop("intents", 1 | 512 | 4096)
        asked = {"token": self._token, "intents": intents, "shard": [shard, count]}
        return {**asked, "properties": {}, **more}

    async def resume(self, session_id: str, seq: int) -> None:
        """Returns when it has resumed, or cannot."""
        await self.say(6, {"token": self._token, "session_id": session_id, "seq": seq})
        await wait_for(
            lambda: 9 in self.ops or "RESUMED" in self.types() or self.close_code is not None, 20
        )

    async def beat(self) -> None:
        await self.say(1, self.seq)

    # --- what it heard ---

    def types(self) -> list[str]:
        return [kind for kind, _, _ in self.events]

    async def until(self, kind: str, count: int = 1, timeout: float = 20.0) -> None:
        """So many events of the type have come."""
        await wait_for(
            lambda: self.types().count(kind) >= count or self.close_code is not None,
            timeout,
            what=f"{count} {kind}",
        )
        assert self.types().count(kind) >= count, (self.close_code, self.reason)

    async def until_closed(self) -> int | None:
        await wait_for(lambda: self.close_code is not None, 20)
        return self.close_code

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            data = message.data
            text = self._inflate(data) if isinstance(data, bytes) else data.encode()
            await self._heard(msgspec.json.decode(text))
        self.close_code = socket.close_code
        self.reason = str(getattr(socket, "_close_reason", ""))

    async def _heard(self, payload: dict[str, Any]) -> None:
        op = payload["op"]
        self.ops.append(op)
        if op == 1 and self.beats:
            await self.beat()
        if op != 0:
            return
        kind, body = payload["t"], payload["d"]
        self.seq = payload["s"]
        self.events.append((kind, payload["s"], body))
        if kind == "READY":
            self.session_id, self.resume_url = body["session_id"], body["resume_gateway_url"]
        elif body.get("_count") is not None:
            self.counted.append((int(body["guild_id"]), body["_count"]))


def _inflater(compress: str) -> Any:
    if compress == "zlib-stream":
        return zlib.decompressobj().decompress
    if compress == "zstd-stream":
        return zstandard.ZstdDecompressor().decompressobj().decompress
    return bytes
