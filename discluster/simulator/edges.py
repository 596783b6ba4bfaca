# SPDX-License-Identifier: Apache-2.0
"""The hosts of the simulated gateway: where sessions begin, and those that resume URLs name.

An edge is a path on a listener that all share, or, with an address of its own, a listener. Then
it can really refuse connections, or take them and say nothing.
"""

from __future__ import annotations

import asyncio
import ssl
import string
from collections.abc import Callable, Sequence
from typing import Final, Literal, cast

import msgspec

MAIN: Final = "main"
"""Where IDENTIFY belongs."""

EdgeState = Literal["up", "draining", "refusing", "black-hole"]
Address = tuple[str, int]


class EdgeView(msgspec.Struct, frozen=True, kw_only=True):
    """One edge as the control API shows it. `connections`: living ones."""

    name: str
    url: str
    state: EdgeState
    connections: int = 0


class _BlackHole(asyncio.Protocol):
    """Takes the connection and never says a word; what is sent to it stays unread."""

    def __init__(self, held: set[asyncio.Transport]) -> None:
        self._held = held

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not a check: uvloop's transports are no subclass of asyncio's.
        taken = cast("asyncio.Transport", transport)
        taken.pause_reading()
        self._held.add(taken)


class Listener:
    """The socket of one edge, which can be closed and opened again at the same address."""

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        *,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._make = make
        self._loop = loop
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._held: set[asyncio.Transport] = set()

    async def open(self, address: Address) -> Address:
        """Listen; returns the address with its real port. Raises OSError."""
        self.close()
        self._server = await self._loop.create_server(
            self._make, *address, ssl=self._tls, backlog=4096
        )
        return address[0], int(self._server.sockets[0].getsockname()[1])

    async def swallow(self, address: Address) -> None:
        """Listen, but leave everybody without an answer, even to a TLS handshake."""
        self.close()
        self._server = await self._loop.create_server(
            lambda: _BlackHole(self._held), *address, backlog=4096
        )

    def close(self) -> None:
        """Refuse connections from now on, and drop those in the black hole."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for transport in self._held:
            transport.abort()
        self._held.clear()


class _Edge:
    def __init__(self, name: str) -> None:
        self.name = name
        self.url = ""
        self.state: EdgeState = "up"
        self.listener: Listener | None = None
        self.address: Address = ("", 0)


class Edges:
    """All edges: "main" and "edge-a", "edge-b", …."""

    def __init__(self, resume_hosts: int) -> None:
        names = [f"edge-{string.ascii_lowercase[number]}" for number in range(resume_hosts)]
        self._edges = {name: _Edge(name) for name in (MAIN, *names)}
        self.resume_hosts = names
        self._turn = 0

    @property
    def names(self) -> Sequence[str]:
        """ "main" comes first."""
        return list(self._edges)

    def at_path(self, path: str) -> str | None:
        """The edge of a path on a shared listener."""
        name = path.removeprefix("/") or MAIN
        return name if path == "/" or name in self.resume_hosts else None

    def place(
        self, name: str, url: str, listener: Listener | None = None, address: Address = ("", 0)
    ) -> None:
        """Say where an edge is; without a listener of its own it shares one."""
        edge = self._edges[name]
        edge.url, edge.listener, edge.address = url, listener, address

    def url(self, name: str) -> str:
        """For resume_gateway_url."""
        return self._edges[name].url

    def state(self, name: str) -> EdgeState:
        """How it is."""
        return self._edges[name].state

    def next(self) -> str:
        """The resume host of the next session: the next in turn that is up, if any is."""
        names = self.resume_hosts
        for _ in names:
            name = names[self._turn % len(names)]
            self._turn += 1
            if self.state(name) == "up":
                return name
        return names[self._turn % len(names)]

    async def change(self, name: str, state: EdgeState) -> None:
        """Change its state, and that of its listener if it has one. Raises OSError."""
        edge = self._edges[name]
        before, edge.state = edge.state, state
        if edge.listener is None or before == state:
            return
        if state == "refusing":
            edge.listener.close()
        elif state == "black-hole":
            await edge.listener.swallow(edge.address)
        elif before in ("refusing", "black-hole"):
            await edge.listener.open(edge.address)

    def views(self, connections: Callable[[str], int]) -> list[EdgeView]:
        """All edges."""
        return [
            EdgeView(name=e.name, url=e.url, state=e.state, connections=connections(e.name))
            for e in self._edges.values()
        ]
