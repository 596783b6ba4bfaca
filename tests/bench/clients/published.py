# SPDX-License-Identifier: Apache-2.0
"""Looks at a broker until it has what is awaited. How many events a stream has, the broker knows.

``python -m tests.bench.clients.published nats|redis PORT STREAM``.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from tests.bench.orders import COUNTED, READY, Orders, read_orders, say

_PAUSE: Final = 0.02  # seconds
_INBOX: Final = "bench.inbox"

Size = Callable[[], Awaitable[int]]


async def redis(port: int, stream: str) -> Size:
    """Asks a Redis server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def size() -> int:
        writer.write(f"XLEN {stream}\r\n".encode())
        answer = await reader.readline()
        if not answer.startswith(b":"):
            raise RuntimeError(f"redis-server says {answer!r}")
        return int(answer[1:])

    return size


async def nats(port: int, stream: str) -> Size:
    """Asks a NATS server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()  # INFO
    said = {"verbose": False, "pedantic": False, "lang": "python", "version": "0"}
    writer.write(f"CONNECT {json.dumps(said)}\r\nSUB {_INBOX} 1\r\n".encode())

    async def size() -> int:
        writer.write(f"PUB $JS.API.STREAM.INFO.{stream} {_INBOX} 0\r\n\r\n".encode())
        while True:
            line = await reader.readline()
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
            elif line.startswith(b"MSG "):
                length = int(line.split()[-1])
                body = json.loads((await reader.readexactly(length + 2))[:length])
                return int(body["state"]["messages"])
            elif line.startswith(b"-ERR") or not line:
                raise RuntimeError(f"nats-server says {line!r}")

    return size


async def run(orders: Orders, broker: str, port: int, stream: str) -> None:
    """Until all marks are reached."""
    size = await {"redis": redis, "nats": nats}[broker](port, stream)
    say(READY)
    for mark in orders.marks:
        while (found := await size()) < mark:
            await asyncio.sleep(_PAUSE)
        say(f"{COUNTED} {found}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(read_orders(), sys.argv[1], int(sys.argv[2]), sys.argv[3]))
