# SPDX-License-Identifier: Apache-2.0
"""The calibration: what anybody would write first, aiohttp's messages one by one and json.loads.

It sends no heartbeats and keeps no sequence. It tells how fast the machine is, since it never
changes.
"""

import asyncio
import json
from typing import Any

import aiohttp
import uvloop

from tests.bench.clients.floor import decompressor
from tests.bench.orders import EVENT, INTENTS, READY, Orders, Teller, read_orders, say


class Shard:
    """One connection."""

    def __init__(self, orders: Orders, number: int, teller: Teller) -> None:
        self.ready = asyncio.Event()
        self._orders = orders
        self._number = number
        self._teller = teller

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Reads until the connection ends."""
        scheme = self._orders.compression
        query = "" if scheme == "none" else f"&compress={scheme}-stream"
        url = f"{self._orders.gateway}/?v=10&encoding=json{query}"
        decompress = decompressor(scheme)
        async with session.ws_connect(url, max_msg_size=0, compress=0) as websocket:
            async for message in websocket:
                data = message.data if decompress is None else decompress(message.data)
                payload = json.loads(data)
                if payload["t"] == EVENT:
                    self._teller.count()
                else:
                    await self._other(payload, websocket)

    async def _other(self, payload: Any, websocket: aiohttp.ClientWebSocketResponse) -> None:
        if payload["op"] == 10:
            await websocket.send_json({"op": 2, "d": self._identify()})
        elif payload["t"] == "READY":
            self.ready.set()

    def _identify(self) -> dict[str, object]:
        return {
            "token": self._orders.token,
            "intents": INTENTS,
            "properties": {"os": "linux", "browser": "calibration", "device": "calibration"},
            "shard": [self._number, self._orders.shards],
        }


async def run(orders: Orders) -> None:
    """Until it is killed."""
    teller = Teller(orders.marks)
    shards = [Shard(orders, number, teller) for number in range(orders.shards)]
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for shard in shards:
            tasks.create_task(shard.run(session))
            await shard.ready.wait()
        say(READY)


if __name__ == "__main__":
    uvloop.run(run(read_orders()))
