# SPDX-License-Identifier: Apache-2.0
"""Assembles the simulated Discord: listeners, the stream of events, the control API."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from aiohttp import web

from discluster.errors import ConfigurationError, UnavailableError
from discluster.simulator import ledger
from discluster.simulator.attention import Attention
from discluster.simulator.control import Control
from discluster.simulator.edges import MAIN, Address, Edges, Listener
from discluster.simulator.gateway import Gateway
from discluster.simulator.http import Api
from discluster.simulator.settings import SimulatorSettings, check
from discluster.simulator.tally import Tally
from discluster.simulator.timing import Timing
from discluster.simulator.world import World

# How often events are made and sent, in real seconds: short against what a person notices, long
# against what a turn of the event loop costs.
_TICK = 0.02


class Simulator:
    """A simulated Discord: `async with Simulator(settings) as simulator`.

    Attributes `api`, `gateway_url` and `control_url` tell where it listens. Raises
    UnavailableError on entry when a port or path cannot be had, ConfigurationError when settings
    contradict each other.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        tick: float = _TICK,
    ) -> None:
        """`tick`: how often events are made and sent, in seconds of `clock`."""
        check(settings)
        self.settings = settings
        self.api = ""
        self.gateway_url = ""
        self.control_url = ""
        self._clock = clock
        self._tick = tick
        self._stack = contextlib.AsyncExitStack()
        self._edges = Edges(len(settings.edge_addresses) or settings.edges)

    async def __aenter__(self) -> Simulator:
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        settings, loop = self.settings, asyncio.get_running_loop()
        tls = _tls(settings)
        timing = Timing(factor=settings.time_factor, loop=loop, clock=self._clock)
        tally = Tally()
        book = ledger.Ledger(clock=timing.now, limit=settings.ledger_records, notify=self._noted)
        attention = Attention(
            every=self._tick,
            timing=timing,
            loop=loop,
            note=lambda seconds: book.append(ledger.HeldUp(seconds=seconds)),
        )
        stack.callback(attention.close)
        self.world = World(
            settings,
            timing=timing,
            ledger=book,
            edges=self._edges,
            attention=attention,
        )
        stack.callback(self.world.close)
        self.gateway = Gateway(self.world, loop=loop)
        stack.push_async_callback(self.gateway.shut)
        self.control = Control(self.gateway, tally=tally)
        self._tally = tally
        await self._listen(stack, tls)
        stack.callback(self.control.close)
        self._pumping = asyncio.create_task(self._pump())
        stack.push_async_callback(_cancelled, self._pumping)

    async def serve(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set; raises what broke the stream of events, if that ends."""
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, self._pumping}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if self._pumping.done():
            self._pumping.result()

    def _noted(self, record: ledger.Record) -> None:
        self._tally.add(record)
        self.control.wake()

    async def _listen(self, stack: contextlib.AsyncExitStack, tls: ssl.SSLContext | None) -> None:
        settings = self.settings
        scheme = "wss" if tls else "ws"
        bases, hosts = [], []
        for port in settings.gateway_ports:
            listener = self.gateway.listener(MAIN if settings.edge_addresses else None, tls)
            place = await _open(stack, listener, (settings.host, port))
            bases.append(f"{scheme}://{self._public_host}:{place[1]}")
            hosts.append((listener, place))
        self.gateway_url = bases[0] + ("/" if settings.trailing_slash else "")
        if settings.edge_addresses:
            self._edges.place(MAIN, bases[0], *hosts[0])
            await self._listen_edges(stack, tls, scheme)
        else:
            self._share(bases)
        api = Api(self.gateway, gateway_url=lambda: self.gateway_url).app()
        address = await _serve(stack, api, host=settings.host, port=settings.http_port, tls=tls)
        self.api = f"{'https' if tls else 'http'}://{self._public_host}:{address}/api/v10"
        self.control_url = await _serve_control(stack, self.control.application(), settings.control)

    def _share(self, bases: list[str]) -> None:
        """All edges are paths on the gateway's ports."""
        self._edges.place(MAIN, bases[0])
        others = bases[1:] or bases
        for number, name in enumerate(self._edges.resume_hosts):
            self._edges.place(name, f"{others[number % len(others)]}/{name}")

    async def _listen_edges(
        self, stack: contextlib.AsyncExitStack, tls: ssl.SSLContext | None, scheme: str
    ) -> None:
        """A listener for each resume host."""
        for name, where in zip(self._edges.resume_hosts, self.settings.edge_addresses, strict=True):
            host, _, port = where.rpartition(":")
            listener = self.gateway.listener(name, tls)
            place = await _open(stack, listener, (host.strip("[]"), int(port)))
            self._edges.place(name, f"{scheme}://{host}:{place[1]}", listener, place)

    @property
    def _public_host(self) -> str:
        host = self.settings.advertise or self.settings.host
        return f"[{host}]" if ":" in host else host

    async def _pump(self) -> None:
        last = self._clock()
        while True:
            await asyncio.sleep(self._tick)
            now = self._clock()
            self.gateway.pump(now - last)
            last = now


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _tls(settings: SimulatorSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        raise ConfigurationError(
            f"{settings.tls_certificate}: cannot be used as a certificate: {error}",
            hint="set tls_certificate and tls_key to PEM files that belong together",
        ) from None
    return context


async def _open(stack: contextlib.AsyncExitStack, listener: Listener, address: Address) -> Address:
    """Listen at this address; returns the real one."""
    try:
        place = await listener.open(address)
    except OSError as error:
        raise _taken(f"{address[0]}:{address[1]}", error) from None
    stack.callback(listener.close)
    return place


def _taken(where: str, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"cannot listen on {where}: {error.strerror or error}",
        hint="choose another address, or port 0 for a free one",
    )


async def _serve(
    stack: contextlib.AsyncExitStack,
    application: web.Application,
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
) -> int:
    """Serve on TCP; returns the port."""
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=0.2, handler_cancellation=True
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
    except OSError as error:
        raise _taken(f"{host}:{port}", error) from None
    return int(runner.addresses[0][1])


def _answers(path: Path) -> bool:
    """Whether a living program has this socket; asyncio would take it away without asking."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) in (0, errno.EAGAIN)


async def _serve_control(
    stack: contextlib.AsyncExitStack, application: web.Application, where: str
) -> str:
    """Serve on `unix:/path` or `host:port`; returns the URL for a client."""
    if not where.startswith("unix:"):
        host, colon, port = where.rpartition(":")
        if not colon or not port.isdecimal():
            raise ConfigurationError(
                f"control: {where!r} is not an address", hint="write unix:/path or host:port"
            )
        bare = host.strip("[]")
        taken = await _serve(stack, application, host=bare, port=int(port))
        return f"http://{host}:{taken}"
    path = Path(where.removeprefix("unix:"))
    if _answers(path):
        raise UnavailableError(
            f"cannot listen on {where}: another program does", hint="choose another path"
        )
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=0.2, handler_cancellation=True
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.UnixSite(runner, str(path)).start()
    except OSError as error:
        raise _taken(where, error) from None
    stack.callback(path.unlink, missing_ok=True)
    return where
