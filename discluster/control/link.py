# SPDX-License-Identifier: Apache-2.0
"""CONTROL's connection to MASTER: dials, greets with a full snapshot, keeps it alive, dials again.

Both sides ping, so that each knows within its lease that the other is gone. Nothing about the
clusters depends on this connection.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable
from typing import Final, Protocol

import aiohttp

from discluster.clock import Clock
from discluster.control.identity import CLOCK
from discluster.control.joining import clock_trouble, explain_connection_error, masters_clock
from discluster.control.mastertime import MasterTime
from discluster.errors import DisclusterError, ProtocolError, RefusedError, UnavailableError
from discluster.messages import (
    Goodbye,
    GoodbyeSeen,
    Hello,
    MasterToControl,
    Message,
    Ping,
    Pong,
    Rejected,
    Welcome,
    decode,
    encode,
    master_to_control,
)
from discluster.pace import Pace
from discluster.sidelane import OutgoingQueue, keep_little_unsent

log = logging.getLogger(__name__)

# The plan of a host with every shard there can be, each with a session that came along.
_MAX_MESSAGE: Final = 32 * 1024 * 1024
# Twice the shards there can be: what waits for a MASTER that does not read is no use to it.
_MOST_WAITING: Final = 131_072
_CLOSE_TIMEOUT: Final = 2.0
_KEPT_OUT: Final = ("revoked", "removed")


class Contact(Protocol):
    """Who goes by when MASTER was heard, and when MASTER must have heard us. Its clock goes on
    while the machine sleeps.
    """

    def instant(self) -> float: ...

    def greeting(self) -> None:
        """A hello is about to be sent; raises if it must not be."""
        ...

    def not_taken(self) -> None:
        """MASTER refused the hello without taking notice of this host."""
        ...

    def turned_away(self) -> None:
        """MASTER keeps this host out, and gives its shards to others."""
        ...

    def heard(self) -> None: ...

    def welcomed(self, *, sent: float, length: float) -> None:
        """The hello that was sent at ``sent`` was taken; MASTER's lease is ``length`` seconds."""
        ...

    def confirmed(self, sent: float) -> None:
        """What was sent at ``sent`` was answered."""
        ...


class MasterLink:
    """One connection at a time; ``state`` says in words how it stands."""

    def __init__(
        self,
        *,
        url: Callable[[], str],
        ssl_context: Callable[[], ssl.SSLContext],
        hello: Callable[[], Hello],
        on_connected: Callable[[MasterTime], None],
        on_lost: Callable[[], None],
        on_message: Callable[[MasterToControl], None],
        contact: Contact,
        clock: Clock,
        rng: random.Random,
        connect_timeout: float,
        longest_pause: float,
    ) -> None:
        """``url``: gives MASTER's address, ``https://HOST:PORT``, or raises. Times in seconds."""
        self._find_url = url
        self._url = "MASTER"
        self._ssl_context = ssl_context
        self._hello = hello
        self._on_connected = on_connected
        self._on_lost = on_lost
        self._on_message = on_message
        self._contact = contact
        self._clock = clock
        self._rng = rng
        self._connect_timeout = connect_timeout
        self._longest_pause = longest_pause
        self._queue: OutgoingQueue | None = None
        self._stuck = asyncio.Event()
        self._parting: asyncio.Future[bool] | None = None
        self._last_heard = self._answered_at = 0.0
        self._time: MasterTime | None = None
        self._pings: dict[int, tuple[float, float]] = {}
        self.local_address: str | None = None
        self.state = "not reached yet"

    @property
    def connected(self) -> bool:
        return self._queue is not None

    def send(self, message: Message) -> None:
        """Queues ``message``; dropped while there is no connection: a snapshot follows anyway."""
        if self._queue is None:
            return
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._stuck.set()

    def send_call(self, message: Message) -> bool:
        """Queues what belongs to a call behind all else. Whether there was room for it."""
        if self._queue is None or not self._queue.admits(message):
            return False
        self._queue.put_nowait(message)
        return True

    async def say_goodbye(self, patience: float) -> bool:
        """Tells MASTER that CONTROL stops in an orderly way; True if MASTER acknowledged it within
        ``patience`` seconds. Not waited for any longer once the connection is lost.
        """
        if self._queue is None:
            return False
        self._parting = asyncio.get_running_loop().create_future()
        self.send(Goodbye())
        try:
            async with asyncio.timeout(patience):
                return await self._parting
        except TimeoutError:
            return False

    async def run(self) -> None:
        """Connects, and connects again, until cancelled."""
        pause = 0.25
        while True:
            began = self._clock.monotonic()
            try:
                await self._connect_once()
                error: DisclusterError = UnavailableError("MASTER closed the connection")
            except DisclusterError as raised:
                error = await self._with_clocks(raised)
            if self._clock.monotonic() - began > 30:
                pause = 0.25
            self._tell(error)
            await self._clock.sleep(pause * (0.5 + self._rng.random()))
            pause = min(pause * 2, self._longest_pause)

    async def _with_clocks(self, error: DisclusterError) -> DisclusterError:
        """A certificate that is not valid yet, or no more, may be so by one clock only."""
        if error.code != CLOCK:
            return error
        masters = await masters_clock(self._url)
        told = clock_trouble(self._clock.wall(), masters) if masters is not None else None
        if told is None:
            return error
        hint = "set the clock that is wrong: timedatectl set-ntp true"
        return RefusedError(f"{error.message}; {told}", hint=hint, code=error.code)

    def _tell(self, error: DisclusterError) -> None:
        state = error.render()
        if state != self.state:
            log.warning("waiting for MASTER: %s", state)
        self.state = state

    async def _connect_once(self) -> None:
        self._url = self._find_url()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout)
        close_timeout = aiohttp.ClientWSTimeout(ws_close=_CLOSE_TIMEOUT)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                async with asyncio.timeout(self._connect_timeout):
                    socket = await session.ws_connect(
                        f"{self._url}/v1/control",
                        ssl=self._ssl_context(),
                        max_msg_size=_MAX_MESSAGE,
                        timeout=close_timeout,
                    )
                try:
                    await self._converse(socket)
                finally:
                    # aiohttp's own limit begins anew with each message that still comes.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(2 * _CLOSE_TIMEOUT):
                            await socket.close()
        except aiohttp.WSServerHandshakeError as error:
            raise RefusedError(
                f"{self._url} refused the connection: HTTP {error.status} {error.message}",
                hint="is this the address of a MASTER, and did this machine join its fleet?",
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise explain_connection_error(self._url, error) from None

    async def _converse(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.local_address = (socket.get_extra_info("sockname") or (None,))[0]
        keep_little_unsent(socket.get_extra_info("socket"))
        self._contact.greeting()
        hello = encode(self._hello())
        asked, sent = self._clock.monotonic(), self._contact.instant()
        await socket.send_bytes(hello)
        async with asyncio.timeout(self._connect_timeout):
            welcome = await self._receive(socket)
        if isinstance(welcome, Rejected):
            if welcome.code == ProtocolError.code:
                self._contact.not_taken()
            raise self._rejected(f"MASTER refused this machine: {welcome.reason}", welcome)
        if not isinstance(welcome, Welcome):
            raise ProtocolError("MASTER did not greet")
        self._queue = OutgoingQueue(_MOST_WAITING)
        self._stuck.clear()
        self._last_heard = self._answered_at = now = self._clock.monotonic()
        self._time = MasterTime(asked=asked, told=welcome.now, heard=now)
        self._pings.clear()
        self.state = "connected"
        log.info("connected to MASTER at %s", self._url)
        try:
            self._contact.heard()
            self._contact.welcomed(sent=sent, length=welcome.lease)
            self._on_connected(self._time)
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(self._write(socket, self._queue)),
                    tasks.create_task(self._ping(socket, welcome)),
                    tasks.create_task(self._break_off_when_stuck()),
                ]
                await self._read(socket)
                for helper in helpers:
                    helper.cancel()
        except ExceptionGroup as group:
            # Raised outside of except*, which would wrap it into a group again.
            raise self._explain(_first(group)) from None
        finally:
            self._queue = None
            self._part(acknowledged=False)
            self._on_lost()

    def _part(self, *, acknowledged: bool) -> None:
        if self._parting is not None and not self._parting.done():
            self._parting.set_result(acknowledged)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        pace = Pace()
        while (message := await self._receive(socket)) is not None:
            self._last_heard = began = self._clock.monotonic()
            self._contact.heard()
            if isinstance(message, Ping):
                self.send(Pong(number=message.number))
            elif isinstance(message, Pong):
                self._answered(message)
            elif isinstance(message, GoodbyeSeen):
                self._part(acknowledged=True)
            elif isinstance(message, Rejected):
                raise self._rejected(f"MASTER ended the connection: {message.reason}", message)
            elif not isinstance(message, Welcome):
                self._on_message(message)
            now = self._clock.monotonic()
            if pause := pace.spent(now - began, now):
                await self._clock.sleep(pause)

    def _rejected(self, words: str, message: Rejected) -> RefusedError:
        if message.code in _KEPT_OUT:
            self._contact.turned_away()
        return RefusedError(words, code=message.code)

    def _answered(self, pong: Pong) -> None:
        if (ping := self._pings.pop(pong.number, None)) is None:
            return
        asked, sent = ping
        self._answered_at = max(self._answered_at, asked)
        if pong.now is not None and self._time is not None:
            self._time.learn(asked=asked, told=pong.now, heard=self._last_heard)
        self._contact.confirmed(sent)

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> MasterToControl | None:
        received = await socket.receive()
        if received.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT):
            message: MasterToControl = decode(master_to_control, received.data, peer="MASTER")
            return message
        if received.type is aiohttp.WSMsgType.ERROR:
            raise explain_connection_error(self._url, socket.exception() or OSError("broken off"))
        return None

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, (OSError, aiohttp.ClientError)):
            return explain_connection_error(self._url, error)
        return error

    async def _write(
        self, socket: aiohttp.ClientWebSocketResponse, queue: asyncio.Queue[Message]
    ) -> None:
        while True:
            await socket.send_bytes(encode(await queue.get()))

    async def _break_off_when_stuck(self) -> None:
        await self._stuck.wait()
        raise UnavailableError("MASTER does not read what it is told")

    async def _ping(self, socket: aiohttp.ClientWebSocketResponse, welcome: Welcome) -> None:
        number = 0
        while True:
            # At once: the greeting, for which MASTER had to read a report, tells its time badly.
            number += 1
            self._pings[number] = (self._clock.monotonic(), self._contact.instant())
            self.send(Ping(number=number))
            await self._clock.sleep(welcome.ping_interval)
            now = self._clock.monotonic()
            if (silence := now - self._last_heard) > welcome.lease:
                raise UnavailableError(f"MASTER has been silent for {silence:.0f} s")
            if (silence := now - self._answered_at) > welcome.lease:
                raise UnavailableError(f"MASTER has answered nothing for {silence:.0f} s")


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
