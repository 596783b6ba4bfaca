# SPDX-License-Identifier: Apache-2.0
"""What the control API can do to edges: drain them, refuse, fall silent, and come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, Literal

import msgspec

from discluster.simulator import ledger
from discluster.simulator.edges import EdgeState, EdgeView
from discluster.simulator.faults import Asked, FaultError
from discluster.simulator.gateway import Gateway
from discluster.simulator.peer import Peer

EdgeOrder = Literal["up", "drain", "refuse", "black-hole"]
EdgeConnections = Literal["keep", "rst", "close", "mute"]

_STATES: dict[str, EdgeState] = {
    "up": "up",
    "drain": "draining",
    "refuse": "refusing",
    "black-hole": "black-hole",
}
_AT_EASE = 1001


class EdgeAsked(Asked, frozen=True, kw_only=True):
    """`edge`: its name, or "all". All times are simulated seconds.

    do: refuse takes no connection, black-hole takes them and says nothing, drain sends
    RECONNECT to one connection after the other, `spacing` apart, closes (1001) what is left
    `grace` after the last, and refuses; new sessions are sent elsewhere at once. seconds: after
    that it is up again (drain: counted from its end); null for until it is told so.
    connections: what happens to those there are; not for drain and up.
    """

    edge: str
    do: EdgeOrder
    seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    connections: EdgeConnections = "keep"
    spacing: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    grace: Annotated[float, msgspec.Meta(ge=0)] = 5.0


class Outages:
    """Each edge obeys the newest request; older timers of it lapse."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._world = gateway.world
        self._edges = gateway.world.edges
        self._orders: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """The simulator ends: no timer of an edge means anything any more."""
        self._orders = {name: order + 1 for name, order in self._orders.items()}
        for task in self._tasks:
            task.cancel()

    def views(self) -> list[EdgeView]:
        """All edges."""
        return self._edges.views(lambda name: len(self._peers(name)))

    async def order(self, asked: EdgeAsked) -> int:
        """Do it; returns how many connections it concerns. Raises FaultError."""
        names = list(self._edges.names) if asked.edge == "all" else [asked.edge]
        if unknown := set(names) - set(self._edges.names):
            raise FaultError(
                f"there is no edge {', '.join(unknown)}",
                f"known are all, {', '.join(self._edges.names)}",
            )
        concerned = 0
        for name in names:
            self._orders[name] = self._orders.get(name, 0) + 1
            concerned += await self._begin(name, asked)
        return concerned

    async def _begin(self, name: str, asked: EdgeAsked) -> int:
        peers = self._peers(name)
        before = self._edges.state(name)
        if asked.do != "up" or before != "up":
            self._note("edge-back" if asked.do == "up" else f"edge-{asked.do}", name)
        await self._change(name, _STATES[asked.do])
        if asked.do == "up":
            return len(peers)
        if asked.do == "drain":
            self._drain(name, peers, asked)
            return len(peers)
        for peer in peers:
            _treat(peer, asked.connections)
        self._come_back(name, asked.seconds)
        return len(peers)

    def _drain(self, name: str, peers: list[Peer], asked: EdgeAsked) -> None:
        for number, peer in enumerate(peers):
            self._later(name, number * asked.spacing, partial(_move_on, peer))
        last = max(0, len(peers) - 1) * asked.spacing
        self._later(name, last + asked.grace, partial(self._drained, name, asked.seconds))

    def _drained(self, name: str, seconds: float | None) -> None:
        for peer in self._peers(name):
            peer.connection.close(_AT_EASE, "Going away.")
        self._start(self._change(name, "refusing"))
        self._come_back(name, seconds)

    def _come_back(self, name: str, seconds: float | None) -> None:
        if seconds is not None:
            self._later(name, seconds, lambda: self._start(self._restore(name)))

    async def _restore(self, name: str) -> None:
        await self._change(name, "up")
        self._note("edge-back", name)

    async def _change(self, name: str, state: EdgeState) -> None:
        try:
            await self._edges.change(name, state)
        except OSError as error:
            raise FaultError(
                f"{name} cannot listen again: {error.strerror or error}",
                "another program took its port; ask again, or give it a port of its own",
            ) from None

    def _later(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        order = self._orders[name]

        def unless_changed() -> None:
            if self._orders[name] == order:
                act()

        self._world.timing.later(seconds, unless_changed)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _peers(self, name: str) -> list[Peer]:
        return [peer for peer in self._gateway.peers.values() if peer.edge == name]

    def _note(self, action: str, name: str) -> None:
        self._world.ledger.append(ledger.Fault(action=action, detail={"edge": name}))


def _move_on(peer: Peer) -> None:
    if peer.connection.open:
        peer.reconnect()


def _treat(peer: Peer, how: str) -> None:
    if how == "rst":
        peer.connection.drop()
    elif how == "close":
        peer.connection.close(_AT_EASE, "Going away.")
    elif how == "mute":
        peer.excused = True
        peer.connection.mute(True)
