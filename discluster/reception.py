# SPDX-License-Identifier: Apache-2.0
"""Takes the connections of a listener, so that nobody who comes can use up what others need.

Everything is bounded from before the TLS handshake on: how many there are (see
:mod:`discluster.admission`), how long one may take until it is of use, and what it sends until it
is known whose it is. Strangers may come as often as they like, so what was turned away is told in
one sentence a minute.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from discluster.admission import Admission, Bounds, Guest, origin

log = logging.getLogger(__name__)

# Then it is the turn of everybody else in this process: so no more are taken than it gets on with,
# and of an honest crowd nobody has to give way.
_IN_ONE_GO: Final = 4
_TOO_MANY_FILES_PAUSE: Final = 1.0
_TOLD_AFTER: Final = 1.0
_TOLD_EVERY: Final = 60.0
_UCRED: Final = struct.Struct("3i")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """``handshake``: seconds for TLS. ``unsettled``: seconds from the beginning in which a
    connection must be of use (see :meth:`Reception.settle`); None: it is as soon as it is there.
    ``bytes``: that a stranger may send. ``shutdown``: seconds for its end. ``backlog``: connections
    that the kernel keeps for us.
    """

    bounds: Bounds
    handshake: float = 10.0
    unsettled: float | None = 30.0
    bytes: int = 32 * 1024
    shutdown: float = 5.0
    backlog: int = 1024


def _nothing() -> None:
    pass


def _without_tls() -> ssl.SSLContext | None:
    return None


def peer_user(connected: socket.socket) -> int:
    """The user at the other end of a UNIX socket."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(raw)[1]
    return uid


def origin_of(connected: socket.socket, address: Any) -> Hashable:
    """The user at the other end of a UNIX socket, else the address (see :func:`origin`)."""
    return peer_user(connected) if connected.family == socket.AF_UNIX else origin(address[0])


class Reception:
    """One listener."""

    def __init__(
        self,
        *,
        what: str,
        limits: Limits,
        name: Callable[[asyncio.BaseTransport], Hashable | None],
        address: Callable[[socket.socket, Any], Hashable] = origin_of,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        """``what``: the listener, in words. ``name``: whose a connection is, once TLS has spoken;
        None: nobody knows. ``address``: what counts as one for a stranger. ``tell``: takes a
        sentence about who was turned away.
        """
        self._address = address
        self._what = what
        self._limits = limits
        self._name = name
        self._tell = tell
        self._protocol: Callable[[], asyncio.BaseProtocol] = asyncio.Protocol
        self._context: Callable[[], ssl.SSLContext | None] = _without_tls
        self._sockets: list[socket.socket] = []
        self._visits: dict[asyncio.BaseTransport, _Visit] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._told_at = float("-inf")
        self._told = 0
        self._telling: asyncio.TimerHandle | None = None
        self.admission = Admission(limits.bounds)

    def open(
        self,
        sockets: Sequence[socket.socket],
        protocol: Callable[[], asyncio.BaseProtocol],
        context: Callable[[], ssl.SSLContext | None] = _without_tls,
    ) -> None:
        """Takes connections on ``sockets``, which are bound and belong to this from now on.
        ``protocol``: makes our end of one connection; ``context``: is asked for each.

        Raises:
            OSError: one cannot listen.
        """
        self._protocol, self._context = protocol, context
        for listening in sockets:
            self._sockets.append(listening)
            listening.setblocking(False)
            listening.listen(self._limits.backlog)
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def shut(self) -> None:
        """Takes no more; who is there stays."""
        if self._telling is not None:
            self._telling.cancel()
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._sockets.clear()

    async def close(self, *, patience: float = 0.0) -> None:
        """Ends everything. ``patience``: seconds for what is still to be sent."""
        self.shut()
        if patience:
            for transport in tuple(self._visits):
                cast(asyncio.Transport, transport).close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._empty.wait()
        for visit in tuple(self._visits.values()):
            visit.abort()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def recognise(self, transport: asyncio.BaseTransport | None, name: Hashable) -> None:
        """It turned out whose this connection is, by what it said."""
        if transport is not None and (visit := self._visits.get(transport)) is not None:
            self.admission.recognise(visit.guest, name)

    def settle(self, transport: asyncio.BaseTransport | None) -> None:
        """This connection is of use, and may last."""
        if transport is not None and (visit := self._visits.get(transport)) is not None:
            visit.settled.set()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_IN_ONE_GO):
            try:
                connected, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            self._take(connected, address)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        log.warning("no connection to %s can be taken: %s", self._what, error.strerror)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)

        def again() -> None:
            if listening in self._sockets:
                loop.add_reader(listening, self._accept, listening)

        loop.call_later(_TOO_MANY_FILES_PAUSE, again)

    def _take(self, connected: socket.socket, address: Any) -> None:
        loop = asyncio.get_running_loop()
        visit = _Visit(self)
        where = self._address(connected, address)
        visit.guest = Guest(where, arrived=loop.time(), drop=visit.abort)
        if not self.admission.arrive(visit.guest):
            connected.close()
        else:
            connected.setblocking(False)
            task = visit.task = loop.create_task(self._attend(visit, connected))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._attended(task, visit, connected))
        self._tell_turned_away()

    async def _attend(self, visit: "_Visit", connected: socket.socket) -> None:
        """Until it is of use, or over."""
        visit.begun = True
        context = self._context()
        secure: dict[str, Any] = {}
        if context is not None:
            secure = {
                "ssl": context,
                "ssl_handshake_timeout": self._limits.handshake,
                "ssl_shutdown_timeout": self._limits.shutdown,
            }
        loop = asyncio.get_running_loop()
        # Strangers are not worth a line each in the journal.
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._limits.unsettled):
                await loop.connect_accepted_socket(lambda: visit, connected, **secure)
                if self._limits.unsettled is not None:
                    await visit.settled.wait()
                return
        if visit.transport is not None:
            visit.transport.abort()

    def _attended(
        self, task: asyncio.Task[None], visit: "_Visit", connected: socket.socket
    ) -> None:
        self._tasks.discard(task)
        visit.task = None
        if visit.transport is None:
            self.admission.leave(visit.guest)
            visit.guest.drop = _nothing
        if not visit.begun:
            connected.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection to %s fails: %r", self._what, error)

    def made(self, visit: "_Visit", transport: asyncio.BaseTransport) -> asyncio.BaseProtocol:
        """TLS has spoken."""
        self._visits[transport] = visit
        self._empty.clear()
        if (name := self._name(transport)) is not None:
            self.admission.recognise(visit.guest, name)
        return self._protocol()

    def lost(self, visit: "_Visit", transport: asyncio.BaseTransport) -> None:
        """The connection is over."""
        self._visits.pop(transport, None)
        if not self._visits:
            self._empty.set()
        self.admission.leave(visit.guest)

    @property
    def allowance(self) -> int:
        """Bytes that a stranger may send."""
        return self._limits.bytes

    def _tell_turned_away(self) -> None:
        """Soon, when it is known how many they are, and not again for a while."""
        if self.admission.turned_away == self._told or self._telling is not None:
            return
        loop = asyncio.get_running_loop()
        wait = max(_TOLD_AFTER, self._told_at + _TOLD_EVERY - loop.time())
        self._telling = loop.call_later(wait, self._tell_now)

    def _tell_now(self) -> None:
        self._telling = None
        self._told_at = asyncio.get_running_loop().time()
        count, self._told = self.admission.turned_away - self._told, self.admission.turned_away
        crowd = self.admission.crowd()
        most = f"; most of those that are there come from {crowd[0]}" if crowd else ""
        were = (
            f"connection to {self._what} was"
            if count == 1
            else (f"connections to {self._what} were")
        )
        self._tell(f"{count} {were} turned away, of too many at once{most}")


class _Visit(asyncio.Protocol):
    """One connection, in front of the protocol that serves it."""

    guest: Guest

    def __init__(self, reception: Reception) -> None:
        self.begun = False
        self.settled = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self._reception = reception
        self._inner: asyncio.Protocol | None = None
        self._said = 0

    def abort(self) -> None:
        """Ends it at once, whatever its peer does."""
        if self.transport is not None:
            self.transport.abort()
        elif self.task is not None:
            self.task.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._inner = cast(asyncio.Protocol, self._reception.made(self, transport))
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        transport, inner = self.transport, self._inner
        # In no circle: what a crowd leaves behind must go at once, not when Python tidies up.
        self.transport = self._inner = None
        self.guest.drop = _nothing
        if transport is not None:
            self._reception.lost(self, transport)
        self.settled.set()
        if inner is not None:
            inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self.guest.name is None:
            self._said += len(data)
            if self._said > self._reception.allowance:
                self.abort()
                return
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()


def bound_sockets(host: str, port: int) -> list[socket.socket]:
    """One for each address that ``host`` stands for.

    Raises:
        OSError: there is none, or one cannot be had.
    """
    found: list[socket.socket] = []
    every = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, address in dict.fromkeys(every):
            fresh = socket.socket(family, kind, protocol)
            found.append(fresh)
            fresh.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                fresh.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            fresh.bind(address)
    except OSError:
        for fresh in found:
            fresh.close()
        raise
    return found


def bound_unix_socket(path: Path, *, mode: int) -> socket.socket:
    """In place of whatever is at ``path``.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    path.unlink(missing_ok=True)
    fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fresh.bind(str(path))
        path.chmod(mode)
    except OSError:
        fresh.close()
        raise
    return fresh
