# SPDX-License-Identifier: Apache-2.0
"""The commands of one shard that wait to be sent. They outlive its connections.

They go in order, with two exceptions: a presence update or a request for all members of a guild
that Discord's own limit for it holds back lets the others pass.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Protocol

import msgspec

from discluster.clock import Clock, at_most
from discluster.errors import NotSentError
from discluster.gateway.commands import Command, RequestGuildMembers, UpdatePresence
from discluster.gateway.waiting import end

CAPACITY: Final = 2000  # commands; one connection sends about that many in 20 minutes
DEADLINE: Final = 60.0  # seconds, unless the caller says otherwise

# Discord: Gateway Events, Activity Object: "limited to 5 ... per 20 seconds".
# It counts them as they arrive: what the first is held up by on its way, more than the sixth, is
# missing between the two, so they leave further apart.
_PRESENCES: Final = 5
_PRESENCE_WINDOW: Final = 20.0 + 1.0
# Discord: Change Log, 14 August 2025: all members of a guild once in 30 seconds.
_EVERYBODY_WINDOW: Final = 30.0


class Line(Protocol):
    """The connection that commands leave by. ``over``: it takes nothing more."""

    @property
    def over(self) -> bool: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is cancelled when the connection is over."""
        ...

    def room(self, now: float) -> float:
        """Seconds until a command may be sent; 0 if now."""
        ...

    async def send(self, payload: bytes) -> None:
        """Raises ConnectionError if nothing was written."""
        ...


class Pace:
    """Discord's limits on single kinds of commands. Pure; the caller passes the time.

    They belong to the bot, not to a connection, so they outlive one.
    """

    def __init__(self) -> None:
        self._presences: tuple[float, ...] = ()
        self._asked: dict[int, float] = {}

    def wait(self, command: Command, now: float) -> float:
        """Seconds until this command may be sent; 0 if now."""
        until = float("-inf")
        if isinstance(command, UpdatePresence) and len(self._presences) == _PRESENCES:
            until = self._presences[0] + _PRESENCE_WINDOW
        elif isinstance(command, RequestGuildMembers) and command.everybody:
            until = self._asked.get(command.guild_id, until) + _EVERYBODY_WINDOW
        return max(0.0, until - now)

    def sent(self, command: Command, now: float) -> None:
        """The command was written."""
        if isinstance(command, UpdatePresence):
            self._presences = (*self._presences, now)[-_PRESENCES:]
        elif isinstance(command, RequestGuildMembers) and command.everybody:
            self._asked = {g: t for g, t in self._asked.items() if now - t < _EVERYBODY_WINDOW}
            self._asked[command.guild_id] = now


class Waiting(msgspec.Struct, eq=False):
    """``deadline``: monotonic seconds. ``writing``: it is on its way to the socket. ``done``:
    whether it was written; cancelled when nothing more will be.
    """

    command: Command
    payload: bytes
    deadline: float
    done: asyncio.Future[bool]
    writing: bool = False


class Outbox:
    """A bounded queue from all who send through one shard to the connection it has.

    An idle shard pays little for it: nothing waits where nothing is queued.
    """

    def __init__(self, *, shard: int, clock: Clock) -> None:
        self._shard = shard
        self._clock = clock
        self._pace = Pace()
        self._queue: dict[Waiting, None] = {}
        self._closed: str | None = None
        self._wake: asyncio.Event | None = None
        self._delivery: asyncio.Task[None] | None = None

    def put(self, command: Command, payload: bytes, *, timeout: float) -> Waiting:
        """Queues a command; :meth:`written` is to be awaited.

        Raises:
            NotSentError: the shard is stopped or rejected, or the queue is full.
        """
        self._check()
        loop = asyncio.get_running_loop()
        deadline = self._clock.monotonic() + timeout
        waiting = Waiting(command, payload, deadline, loop.create_future())
        self._queue[waiting] = None
        if self._wake is not None:
            self._wake.set()
        return waiting

    async def written(self, waiting: Waiting, *, timeout: float) -> None:
        """Returns once it was written to a socket.

        Raises:
            NotSentError: the shard was stopped or rejected, or ``timeout`` seconds passed.
        """
        try:
            await self._written_in_time(waiting, timeout)
        finally:
            self._queue.pop(waiting, None)

    def close(self, why: str) -> None:
        """Nothing will be sent any more: ``why`` says what became of the shard."""
        if self._closed is None:
            self._closed = why
        for waiting in self._queue:
            waiting.done.cancel()
        self._queue.clear()

    def deliver(self, line: Line) -> None:
        """Sends what is queued through ``line``, on which Discord has authenticated the shard."""
        busy = self._delivery is not None and not self._delivery.done()
        if self._queue and not busy and not line.over:
            self._delivery = line.spawn(self._drain(line))

    async def _drain(self, line: Line) -> None:
        wake = self._wake = asyncio.Event()
        while self._queue:
            wake.clear()
            waiting, pause = self._next(line, self._clock.monotonic())
            if waiting is None:
                await at_most(pause, wake.wait(), clock=self._clock)
            elif not await self._write(line, waiting):
                return

    def _check(self) -> None:
        if self._closed is not None:
            raise NotSentError(f"shard {self._shard} {self._closed}")
        if len(self._queue) >= CAPACITY:
            raise NotSentError(
                f"{CAPACITY} commands wait for shard {self._shard} already",
                hint="Discord takes 120 payloads a minute from one shard: await each command, or"
                " send fewer",
            )

    async def _written_in_time(self, waiting: Waiting, timeout: float) -> None:
        timer = asyncio.create_task(self._clock.sleep(timeout))
        try:
            either: set[asyncio.Future[Any]] = {waiting.done, timer}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if waiting.writing:
                # Its bytes may be with Discord already: that is known in a moment.
                await asyncio.wait({waiting.done})
        finally:
            await end(timer)
        if waiting.done.cancelled():
            raise NotSentError(f"shard {self._shard} {self._closed}")
        if not waiting.done.done() or not waiting.done.result():
            raise self._too_late(waiting.command, timeout)

    def _too_late(self, command: Command, timeout: float) -> NotSentError:
        return NotSentError(
            f"shard {self._shard} could not send {type(command).__name__} within {timeout:g}"
            " seconds",
            hint="its state tells why: disclusterctl status",
        )

    def _next(self, line: Line, now: float) -> tuple[Waiting | None, float]:
        """The command to send now, or how long to wait for one. Something is queued."""
        if (room := line.room(now)) > 0:
            return None, room
        pauses = []
        for waiting in self._queue:
            if (held := self._pace.wait(waiting.command, now)) <= 0:
                return waiting, 0.0
            pauses.append(held)
        return None, min(pauses)

    async def _write(self, line: Line, waiting: Waiting) -> bool:
        """False if the connection is over; the command waits for the next one."""
        waiting.writing = True
        try:
            await line.send(waiting.payload)
        except ConnectionError:
            waiting.writing = False
            if waiting.deadline <= self._clock.monotonic() and not waiting.done.done():
                waiting.done.set_result(False)
            return False
        except asyncio.CancelledError:
            self._sent(waiting)  # it was written, and only the socket's buffer was waited for
            raise
        self._sent(waiting)
        return True

    def _sent(self, waiting: Waiting) -> None:
        self._pace.sent(waiting.command, self._clock.monotonic())
        self._queue.pop(waiting, None)
        if not waiting.done.done():
            waiting.done.set_result(True)
