# SPDX-License-Identifier: Apache-2.0
"""One socket and everything that must die with it: inflater, heartbeat, send log, timers.

A connection knows nothing of sessions. It keeps itself alive and tells its owner of HELLO and of
dispatches, until it ends for a reason that it returns. No part of it is ever used for another
socket, so nothing late from an old socket can reach a new one.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Coroutine
from typing import Any, Final, Protocol

import msgspec

from discluster.clock import Clock
from discluster.decoding import DECODE_ERRORS
from discluster.gateway import closecodes, payloads
from discluster.gateway.compression import StreamError
from discluster.gateway.ending import Ending
from discluster.gateway.envelope import DISPATCH, Envelope, Op
from discluster.gateway.heartbeat import Heartbeat, Verdict, usable_interval
from discluster.gateway.inbound import Inbound
from discluster.gateway.limiter import Kind, SendLog
from discluster.gateway.sockets import Closed, Socket

HELLO_LIMIT: Final = 20.0  # seconds
_LONGEST_TURN: Final = 0.02  # seconds


class Owner(Protocol):
    """What a connection tells its shard."""

    def greeted(self, connection: "Connection") -> None:
        """HELLO was received, heartbeats run: time to IDENTIFY or RESUME."""
        ...

    def dispatched(self, connection: "Connection", run: list[Envelope]) -> Awaitable[None] | None:
        """Op 0s; nothing more is read before what is returned, if anything, is done."""
        ...


class Connection:
    """One socket. ``seq``: last sequence received in the session, for the heartbeats.

    ``dispatches`` is counted by the owner: what it calls progress; see :meth:`expect`.
    ``read_at``: when the socket was read last, monotonic seconds.
    """

    def __init__(
        self,
        *,
        socket: Socket,
        inbound: Inbound,
        clock: Clock,
        rng: random.Random,
        owner: Owner,
        seq: int | None,
    ) -> None:
        self.seq = seq
        self.frames = 0
        self.beats = 0
        self.dispatches = 0
        self.read_at = 0.0
        self._socket = socket
        self._inbound = inbound
        self._clock = clock
        self._rng = rng
        self._owner = owner
        self._heartbeat: Heartbeat | None = None
        self._sends: SendLog | None = None
        self._unread = 0.0
        self._busy_since: float | None = None
        self._ending: Ending | None = None
        self._deadline: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._group = asyncio.TaskGroup()

    @property
    def latency(self) -> float | None:
        """Seconds from the last acknowledged heartbeat to its ACK."""
        return self._heartbeat.latency if self._heartbeat is not None else None

    @property
    def over(self) -> bool:
        """It has ended, or is about to: nothing more may be sent or handed over."""
        return self._ending is not None

    async def run(self) -> Ending:
        """Serves the socket until it is over. The socket itself stays with the caller.

        What the owner raises, here or in a task that it spawned, ends it too and is passed on.
        """
        try:
            async with self._group:
                self.expect("HELLO", HELLO_LIMIT)
                try:
                    return await self._read()
                finally:
                    for task in self._tasks:
                        task.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is cancelled when the connection is over."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def expect(self, what: str, seconds: float) -> None:
        """From now on there must be progress every so many seconds, or the connection ends."""
        self.expect_nothing()
        self._deadline = self.spawn(self._expire(what, seconds))

    def expect_nothing(self) -> None:
        """The phase is complete."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def end(self, ending: Ending) -> None:
        """Ends the connection from outside of its reading loop; the first reason counts."""
        if self._ending is None:
            self._ending = ending
            self._socket.abort()

    def conclude(self, ending: Ending) -> Ending:
        """Nothing more is read or handed over, for the first reason told. Other than with end(),
        the socket stays open for a goodbye; so only the reading loop notices.
        """
        if self._ending is None:
            self._ending = ending
        return self._ending

    async def send(self, payload: bytes) -> None:
        """Sends a payload that the limit allows; IDENTIFY and RESUME always are.

        Raises:
            ConnectionError: the socket is closed and nothing was written.
        """
        await self._socket.send(payload)
        if self._sends is not None:
            self._sends.sent(now=self._clock.monotonic())

    def room(self, now: float) -> float:
        """Seconds until a command may be sent; 0 if now. Room for heartbeats stays free."""
        return self._sends.wait("command", now=now) if self._sends is not None else math.inf

    def unread(self, now: float) -> float:
        """Seconds for which the socket was not read because the handler was busy."""
        return self._unread + (now - self._busy_since if self._busy_since is not None else 0.0)

    # --- reading ---------------------------------------------------------------------------------

    async def _read(self) -> Ending:
        receive = self._socket.receive
        try:
            while True:
                received = await receive()
                if isinstance(received, Closed):
                    return self.conclude(_closed(received))
                self.read_at = began = self._clock.monotonic()
                self.frames += len(received)
                for run in self._inbound.feed(received):
                    if ending := await self._take(run):
                        return self.conclude(ending)
                    # A handler that computes must not keep heartbeats from their turn.
                    now = self._clock.monotonic()
                    if now - began > _LONGEST_TURN:
                        await self._clock.sleep(0)
                        began = now
        except StreamError as error:
            return self.conclude(Ending(cause="garbled", text=error.message))

    async def _take(self, run: list[Envelope]) -> Ending | None:
        if self._ending is not None:
            return self._ending
        if not run:
            return None
        if run[0].op != DISPATCH:
            return await self._control(run[0])
        for envelope in reversed(run):
            if envelope.s is not None:
                self.seq = envelope.s
                break
        waiting = self._owner.dispatched(self, run)
        if waiting is not None:
            await self._attend(waiting)
        return self._ending

    async def _attend(self, waiting: Awaitable[None]) -> None:
        """Back-pressure: the socket is not read while the handler is busy."""
        self._busy_since = self._clock.monotonic()
        try:
            await waiting
        finally:
            self._unread = self.unread(self._clock.monotonic())
            self._busy_since = None

    async def _control(self, envelope: Envelope) -> Ending | None:
        match envelope.op:
            case Op.HEARTBEAT_ACK if self._heartbeat is not None:
                now = self._clock.monotonic()
                self._heartbeat.acknowledged(now, unread=self.unread(now))
            case Op.HEARTBEAT:
                await self._beat("answer")
            case Op.RECONNECT:
                return Ending(cause="reconnect", text="Discord asked to reconnect (op 7)")
            case Op.INVALID_SESSION:
                return _invalid(envelope)
            case Op.HELLO if self._heartbeat is None:
                return self._greet(envelope)
        return None  # opcodes that we do not know are none of our business

    def _greet(self, envelope: Envelope) -> Ending | None:
        interval = _interval(envelope)
        if interval is None:
            return Ending(cause="garbled", text="HELLO came without a usable heartbeat interval")
        self.expect_nothing()
        self._sends = SendLog(heartbeat_interval=interval)
        self._heartbeat = Heartbeat(
            interval=interval, now=self._clock.monotonic(), jitter=self._rng.random()
        )
        self.spawn(self._keep_alive(self._heartbeat))
        self._owner.greeted(self)
        return None

    # --- timers ----------------------------------------------------------------------------------

    async def _keep_alive(self, heartbeat: Heartbeat) -> None:
        while True:
            await self._clock.sleep(heartbeat.due - self._clock.monotonic())
            now = self._clock.monotonic()
            verdict = heartbeat.tick(now, frames=self.frames, unread=self.unread(now))
            if verdict is not Verdict.ALIVE:
                self.end(Ending(cause="zombie", text=verdict.value))
                return
            await self._beat("vital")

    async def _beat(self, kind: Kind) -> None:
        if self._heartbeat is None or self._sends is None:
            return  # asked for a heartbeat before HELLO
        now = self._clock.monotonic()
        if self._sends.wait(kind, now=now) > 0:
            return  # Discord asks too often; the regular beat follows within an interval
        self._heartbeat.sent(now, unread=self.unread(now))
        try:
            await self.send(payloads.heartbeat(self.seq))
        except ConnectionError:
            return  # the reading loop meets the end of the socket, too
        self.beats += 1

    async def _expire(self, what: str, seconds: float) -> None:
        while True:
            began, unread, seen = self._mark()
            await self._clock.sleep(seconds)
            now, unread_now, seen_now = self._mark()
            busy = unread_now - unread > (now - began) / 2
            if seen_now == seen and not busy:
                break
        text = f"Discord sent no {what} within {seconds:g} seconds"
        self.end(Ending(cause="deadline", text=text))

    def _mark(self) -> tuple[float, float, int]:
        now = self._clock.monotonic()
        return now, self.unread(now), self.dispatches


class _Hello(msgspec.Struct):
    heartbeat_interval: Any = None


def _interval(envelope: Envelope) -> float | None:
    try:
        return usable_interval(msgspec.json.decode(envelope.d, type=_Hello).heartbeat_interval)
    except (*DECODE_ERRORS, OverflowError):
        return None


def _invalid(envelope: Envelope) -> Ending:
    """Discord: Gateway Events, Invalid Session. A ``d`` that is not true counts as false."""
    return Ending(
        cause="invalid",
        text="Discord says that the session is invalid (op 9)",
        resumable=bytes(envelope.d).strip() == b"true",
    )


def _closed(closed: Closed) -> Ending:
    return Ending(
        cause="closed", text=closecodes.describe(closed.code, closed.reason), code=closed.code
    )
