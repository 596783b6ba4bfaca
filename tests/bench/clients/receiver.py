# SPDX-License-Identifier: Apache-2.0
"""Bots at a local gateway, as simple as can be: they count what comes and acknowledge it.

``python -m tests.bench.clients.receiver NAME…``: for each name of a client one connection for each
shard. The measured program is the cluster that feeds them; what they do themselves does not count.
"""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import uvloop

from tests.bench.clients.floor import FloorShard
from tests.bench.orders import EVENT, READY, Orders, Teller, read_orders, say

_EVENT: Final = f'{{"t":"{EVENT}","s":'.encode()
_ASKS: Final = b'{"op":1,'
_BEAT: Final = 5.0  # seconds

Ends = asyncio.Future[None]
"""Fails with the first connection."""


class Receiver(FloorShard):
    """One connection. Events must come without a gap: the number of the last one tells."""

    def __init__(
        self, orders: Orders, shard: int, teller: Teller, ends: Ends, *, path: str
    ) -> None:
        super().__init__(orders, shard, teller, asyncio.Event(), path=path)
        self._ends = ends
        self._last: int | None = None

    async def ready(self) -> None:
        """Returns when READY has come."""
        await self._arrived.wait()

    def beat(self) -> None:
        """Also acknowledges."""
        self._say({"op": 1, "d": self._last})

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ends.done():
            self._ends.set_exception(error or ConnectionError(f"shard {self._shard} was closed"))

    def _take(self, payloads: list[memoryview]) -> None:
        text = self._text(payloads)
        if not self._arrived.is_set():
            self._begin(text)
        if count := text.count(_EVENT):
            self._count(text, count)
        if _ASKS in text:
            self.beat()

    def _begin(self, text: bytes) -> None:
        if b'"op":10' in text:
            self._identify()
        if b'"t":"READY"' in text:
            self._arrived.set()

    def _count(self, text: bytes, count: int) -> None:
        start = text.rfind(_EVENT) + len(_EVENT)
        last = int(text[start : text.index(b",", start)])
        if self._last is not None and last != self._last + count:
            raise RuntimeError(f"{count} events led from {self._last} to {last}")
        self._last = last
        self._teller.count_many(count)


async def run(orders: Orders, clients: Sequence[str]) -> None:
    """Until it is killed.

    Raises:
        ConnectionError, RuntimeError: a connection was closed, or events are missing.
    """
    loop = asyncio.get_running_loop()
    host, _, port = urlsplit(orders.gateway).netloc.partition(":")
    teller = Teller(orders.marks)
    ends: Ends = loop.create_future()
    receivers = []
    for client in clients:
        for shard in range(orders.shards):
            make = partial(Receiver, orders, shard, teller, ends, path=f"/{client}")
            _, receiver = await loop.create_connection(make, host, int(port))
            await receiver.ready()
            receivers.append(receiver)
    say(READY)
    while not ends.done():
        await asyncio.wait((ends,), timeout=_BEAT)
        for receiver in receivers:
            receiver.beat()
    ends.result()


if __name__ == "__main__":
    uvloop.run(run(read_orders(), sys.argv[1:]))
