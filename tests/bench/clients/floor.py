# SPDX-License-Identifier: Apache-2.0
"""The floor: sockets read into a decompressor, and nothing else.

Of WebSocket it knows how long a frame is, to take its payload out; of what the payload says,
nothing: a frame counts as an event. It sends no heartbeats, keeps no sequence, hands nothing over.
All payloads that one read of the socket brought are decompressed in one call.
"""

import asyncio
import json
import zlib
from collections.abc import Callable
from functools import partial
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop
import zstandard

from tests.bench.orders import EVENT, INTENTS, READY, Compression, Orders, Teller, read_orders, say

_ROOM: Final = 256 * 1024
_EVENT: Final = f'"t":"{EVENT}"'.encode()
_MASK: Final = b"\0\0\0\0"  # allowed, and leaves the payload as it is


def decompressor(compression: Compression) -> Callable[[bytes], bytes] | None:
    """One for the life of one connection."""
    if compression == "zlib":
        return zlib.decompressobj().decompress
    if compression == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress
    return None


class FloorShard(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(
        self,
        orders: Orders,
        shard: int,
        teller: Teller,
        arrived: asyncio.Event,
        *,
        path: str = "/",
    ) -> None:
        """``arrived``: set when the shard is ready."""
        self._orders = orders
        self._path = path
        self._shard = shard
        self._teller = teller
        self._arrived = arrived
        self._decompress = decompressor(orders.compression)
        self._buffer = bytearray(_ROOM)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._upgraded = False
        self._counting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not derived from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        compress = {"none": "", "zlib": "&compress=zlib-stream", "zstd": "&compress=zstd-stream"}
        self._transport.write(
            f"GET {self._path}?v=10&encoding=json{compress[self._orders.compression]} HTTP/1.1\r\n"
            "Host: floor\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )

    def get_buffer(self, hint: int) -> memoryview:
        return self._view[self._filled :]

    def buffer_updated(self, size: int) -> None:
        self._filled += size
        start = 0
        if not self._upgraded:
            start = self._buffer.find(b"\r\n\r\n", 0, self._filled) + 4
            if start < 4:
                return
            self._upgraded = True
        consumed = self._frames(start)
        rest = self._filled - consumed
        if consumed and rest:
            self._buffer[:rest] = self._buffer[consumed : self._filled]
        self._filled = rest

    def _frames(self, position: int) -> int:
        """Takes the whole frames out of the buffer; returns where the rest begins."""
        buffer, view, filled = self._buffer, self._view, self._filled
        payloads: list[memoryview] = []
        while filled - position >= 4:
            length, head = buffer[position + 1], position + 2
            if length == 126:
                length, head = (buffer[head] << 8) | buffer[head + 1], head + 2
            elif length == 127:
                if filled - position < 10:
                    break
                length, head = int.from_bytes(view[head : head + 8], "big"), head + 8
            end = head + length
            if end > filled:
                if end - position > _ROOM:
                    raise RuntimeError("a frame is larger than the floor's buffer")
                break
            payloads.append(view[head:end])
            position = end
        if payloads:
            self._take(payloads)
        return position

    def _text(self, payloads: list[memoryview]) -> bytes:
        joined = b"".join(payloads)
        return joined if self._decompress is None else self._decompress(joined)

    def _take(self, payloads: list[memoryview]) -> None:
        text = self._text(payloads)
        if self._counting:
            self._teller.count_many(len(payloads))
        else:
            self._begin(text)

    def _begin(self, text: bytes) -> None:
        """HELLO is answered with IDENTIFY; from the first event on, frames are counted."""
        if b'"op":10' in text:
            self._identify()
        if b'"t":"READY"' in text:
            self._arrived.set()
        events = text.count(_EVENT)
        if events:
            self._counting = True
            self._teller.count_many(events)

    def _identify(self) -> None:
        data = {
            "token": self._orders.token,
            "intents": INTENTS,
            "properties": {"os": "linux", "browser": "floor", "device": "floor"},
            "shard": [self._shard, self._orders.shards],
        }
        self._say({"op": 2, "d": data})

    def _say(self, payload: object) -> None:
        data = json.dumps(payload).encode()
        size = len(data)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self._transport.write(b"\x81" + length + _MASK + data)


async def run(orders: Orders) -> None:
    """Until it is killed."""
    host, _, port = urlsplit(orders.gateway).netloc.partition(":")
    teller = Teller(orders.marks)
    for shard in range(orders.shards):
        arrived = asyncio.Event()
        make = partial(FloorShard, orders, shard, teller, arrived)
        await asyncio.get_running_loop().create_connection(make, host, int(port))
        await arrived.wait()
    say(READY)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(run(read_orders()))
