# SPDX-License-Identifier: Apache-2.0
"""The network of a fleet on loopback: everything goes through proxies that can lose and delay it.

Who listens on 127.0.0.1 is reached at 127.0.0.2 on the same port. Whose connection it is, /proc
tells. TCP sends again what got lost; so what is cut is kept, and comes late when the cut is mended.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from functools import partial
from typing import Final, final

NEAR: Final = "127.0.0.1"
FAR: Final = "127.0.0.2"
_READ: Final = 65536
# Of chunks on their way, so that a sender whose receiver stands still is held back.
_MOST: Final = 64
# What a lost packet costs: Linux sends it again after 0.2 s or more (RFC 6298, its minimum there).
_AGAIN: Final = (0.2, 0.4)

Way = tuple[str, str]
"""From which place to which."""


class _Weather:
    """What is wrong on the ways just now."""

    def __init__(self, delay: float, rng: random.Random) -> None:
        self.lost = 0.0
        self._delay = delay
        self._rng = rng
        self._cut: set[Way] = set()
        self._unplugged: set[str] = set()
        self._change = asyncio.Event()

    def cut(self, ways: set[Way], *, cut: bool) -> None:
        self._cut = self._cut | ways if cut else self._cut - ways
        self._changed()

    def unplug(self, place: str, *, unplugged: bool) -> None:
        (self._unplugged.add if unplugged else self._unplugged.discard)(place)
        self._changed()

    def lateness(self) -> float:
        """Seconds by which the next chunk is late."""
        return self._delay + (self._rng.uniform(*_AGAIN) if self._rng.random() < self.lost else 0.0)

    async def passable(self, way: Way) -> None:
        """Returns when something can come through."""
        while way in self._cut or not self._unplugged.isdisjoint(way):
            await self._change.wait()

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


@final
class Wires:
    """See tests.scenario.network.Network."""

    def __init__(
        self, whose: Callable[[int], str | None], *, delay: float = 0.0, rng: random.Random
    ) -> None:
        """``whose``: the place that a connection comes from, by its port. ``delay``: seconds for
        which everything is on its way.
        """
        self._whose = whose
        self._weather = _Weather(delay, rng)
        self._servers: list[asyncio.Server] = []
        self._calls: dict[asyncio.Task[None], Way] = {}

    async def lead_to(self, place: str, port: int) -> None:
        """From now on FAR:port leads to NEAR:port, which is ``place``'s."""
        serve = partial(self._accepted, place, port)
        self._servers.append(await asyncio.start_server(serve, FAR, port))

    async def cut(self, one: str, other: str, *, one_way: bool = False) -> None:
        self._weather.cut({(one, other)} | (set() if one_way else {(other, one)}), cut=True)

    async def mend(self, one: str, other: str) -> None:
        self._weather.cut({(one, other), (other, one)}, cut=False)

    async def unplug(self, place: str) -> None:
        self._weather.unplug(place, unplugged=True)

    async def plug(self, place: str) -> None:
        self._weather.unplug(place, unplugged=False)

    async def lose(self, part: float) -> None:
        self._weather.lost = part

    def forget(self, place: str) -> None:
        """All connections of a place end, with what was under way: its machine was switched off,
        and the other ends hear of it now.
        """
        for call, way in self._calls.items():
            if place in way:
                call.cancel()

    async def close(self) -> None:
        """Ends all connections."""
        for server in self._servers:
            server.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _accepted(
        self, place: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A task of its own for each connection, as asyncio calls it."""
        call = asyncio.current_task()
        assert call is not None
        way = self._whose(int(writer.get_extra_info("peername")[1])) or "nobody", place
        self._calls[call] = way
        call.add_done_callback(self._calls.__delitem__)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._carried(port, way, reader, writer)
        writer.transport.abort()

    async def _carried(
        self, port: int, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._weather.passable(way)
        far_reader, far_writer = await asyncio.open_connection(NEAR, port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pumped(way, reader, far_writer))
                group.create_task(self._pumped(way[::-1], far_reader, writer))
        except* OSError:
            pass  # one end was reset, and so will the other be
        finally:
            far_writer.transport.abort()

    async def _pumped(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Until the sender has ended; what it sent comes in order, however late."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._delivered(way, chunks, writer))
            clock, due = asyncio.get_running_loop().time, 0.0
            data = b"first"
            while data:
                data = await reader.read(_READ)
                due = max(due, clock() + self._weather.lateness())
                await chunks.put((due, data))

    async def _delivered(
        self,
        way: Way,
        chunks: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(max(0.0, due - clock()))
            await self._weather.passable(way)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
