# SPDX-License-Identifier: Apache-2.0
"""A scripted Discord at the level of the socket, and everything else that a shard needs."""

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import msgspec

from discluster.errors import UnavailableError
from discluster.gateway import Closed, Event, Handler, Identity, Shard
from discluster.gateway.contracts import Gate
from discluster.gateway.handling import Handling
from discluster.gateway.sockets import Message, Messages
from discluster.messages import ShardState
from discluster.plan import Session
from discluster.secret import Secret
from tests.clock import ManualClock, settle

GATEWAY = "wss://gateway.example"
EDGE = "wss://edge-b.example"
QUERY = "/?v=10&encoding=json"
INTERVAL = 41.25
TOKEN = "MTk4NjIyNDgz.Cl2FMQ.secretpart-of-the-token"


class FakeSocket:
    """One connection. The test says what Discord sends; ``sent`` is what it received."""

    def __init__(self, url: str, clock: ManualClock) -> None:
        self.url = url
        self.sent: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.close_codes: list[int] = []
        self.aborted = False
        self.broken = False
        self.received = 0
        self._clock = clock
        self._inbox: asyncio.Queue[Messages | Closed] = asyncio.Queue()
        self._together: Messages | None = None
        self._end: Closed | None = None

    # what the shard calls

    async def receive(self) -> Messages | Closed:
        if self._end is not None and self._inbox.empty():
            return self._end
        messages = await self._inbox.get()
        self.received += 1
        if isinstance(messages, Closed):
            self._end = messages
        return messages

    async def send(self, data: bytes) -> None:
        if self._end is not None or self.broken:
            raise ConnectionResetError("closed")
        assert len(data) <= 4096
        self.sent.append(json.loads(data))
        self.times.append(self._clock.monotonic())

    async def close(self, code: int) -> None:
        if self._end is None and not self.aborted:
            self.close_codes.append(code)
        self.abort()

    def abort(self) -> None:
        if not self.aborted:
            self.aborted = True
            self._inbox.put_nowait(Closed(None))

    # what Discord does

    def push(self, message: Message | Closed) -> None:
        if isinstance(message, Closed):
            self._inbox.put_nowait(message)
        elif self._together is not None:
            self._together.append(message)
        else:
            self._inbox.put_nowait([message])

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is pushed meanwhile comes with one read of the socket."""
        self._together = []
        yield
        self._inbox.put_nowait(self._together)
        self._together = None

    def payload(self, op: int, d: Any = None, *, s: Any = None, t: Any = None) -> None:
        self.push(json.dumps({"t": t, "s": s, "op": op, "d": d}))

    def hello(self, interval: Any = INTERVAL * 1000) -> None:
        self.payload(10, {"heartbeat_interval": interval, "_trace": ["x"]})

    def ack(self) -> None:
        self.push('{"op":11}')

    def ready(self, session_id: Any = "session-1", url: Any = EDGE, *, guilds: int = 2) -> None:
        listed = [{"id": str(n), "unavailable": True} for n in range(1, guilds + 1)]
        body = {"session_id": session_id, "resume_gateway_url": url, "guilds": listed}
        self.payload(0, body, s=1, t="READY")

    def event(self, s: Any, t: Any = "MESSAGE_CREATE", d: Any = None) -> None:
        self.payload(0, d if d is not None else {"n": s}, s=s, t=t)

    def end(self, code: int | None = None, reason: str = "") -> None:
        self.push(Closed(code, reason))

    # what the test looks at

    def ops(self) -> list[int]:
        return [payload["op"] for payload in self.sent]

    def beats(self) -> list[float]:
        """When the heartbeats were sent."""
        pairs = zip(self.sent, self.times, strict=True)
        return [time for payload, time in pairs if payload["op"] == 1]

    def authentications(self) -> list[dict[str, Any]]:
        return [payload for payload in self.sent if payload["op"] in (2, 6)]


class FakeTransport:
    """Hands out sockets. ``script`` holds what the next dials meet: ``refuse`` or ``hang``."""

    def __init__(self, clock: ManualClock) -> None:
        self.sockets: list[FakeSocket] = []
        self.dials: list[tuple[float, str]] = []
        self.script: deque[str] = deque()
        self.refuse: Callable[[str], bool] = lambda url: False
        self._clock = clock

    async def connect(self, url: str) -> FakeSocket:
        self.dials.append((self._clock.monotonic(), url))
        scene = self.script.popleft() if self.script else ""
        if scene == "hang":
            await asyncio.get_running_loop().create_future()
        if scene == "refuse" or self.refuse(url):
            raise UnavailableError("refused by the script")
        socket = FakeSocket(url, self._clock)
        self.sockets.append(socket)
        return socket


class FakePermits:
    """Grants at once, or, with ``held``, when the test calls :meth:`grant`."""

    def __init__(self) -> None:
        self.held = False
        self.expired = False
        self.log: list[str] = []
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self, shard: int) -> None:
        self.log.append("asked")
        if self.held:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                await future
            except asyncio.CancelledError:
                self.log.append("cancelled")
                raise
        self.log.append("granted")

    def grant(self) -> None:
        self._waiting.popleft().set_result(None)

    def valid(self, shard: int) -> bool:
        return not self.expired

    def used(self, shard: int) -> None:
        self.log.append("used")

    def returned(self, shard: int) -> None:
        self.log.append("returned")


class FakeSessions:
    """Keeps one session in memory and remembers what happened to it."""

    def __init__(self, session: Session | None = None) -> None:
        self.session = session
        self.seq = session.seq if session is not None else None
        self.advances: list[int] = []
        self.saved: list[Session] = []
        self.clears = 0

    def load(self) -> Session | None:
        if self.session is None or self.seq is None:
            return None
        return msgspec.structs.replace(self.session, seq=self.seq)

    def save(self, session: Session) -> None:
        self.session, self.seq = session, session.seq
        self.saved.append(session)

    def advance(self, seq: int) -> None:
        assert self.session is not None
        self.seq = seq
        self.advances.append(seq)

    def clear(self) -> None:
        self.session = self.seq = None
        self.clears += 1


def stored_session(seq: int = 41, url: str = EDGE) -> Session:
    return Session(session_id="stored-session", resume_url=url, seq=seq, guilds=7)


class Rig:
    """A shard among fakes. Leaving it stops the shard and proves that no task is left."""

    def __init__(
        self,
        *,
        session: Session | None = None,
        handler: Handler | Handling | None = None,
        seed: int = 1,
        identity: Identity | None = None,
        unacknowledged: int = 10_000,
        gate: Gate | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.transport = FakeTransport(self.clock)
        self.permits = FakePermits()
        self.sessions = FakeSessions(session)
        self.events: list[Event] = []
        self.states: list[ShardState] = []
        self.shard = Shard(
            shard=3,
            shard_count=16,
            gateway_url=GATEWAY,
            identity=identity or plain_identity(),
            transport=self.transport,
            clock=self.clock,
            rng=random.Random(seed),
            permits=self.permits,
            sessions=self.sessions,
            handler=handler or self._record,
            on_change=self._changed,
            unacknowledged=unacknowledged,
            gate=gate,
        )
        self.task: asyncio.Task[None] | None = None
        self._tasks_before: set[asyncio.Task[Any]] = set()

    def _record(self, event: Event) -> None:
        self.events.append(event)

    def _changed(self) -> None:
        self.states.append(self.shard.view().state)

    async def __aenter__(self) -> Self:
        self._tasks_before = asyncio.all_tasks()
        self.task = asyncio.create_task(self.shard.run())
        await settle()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.task is not None
        if self.task.done():
            return
        stopping = asyncio.create_task(self.shard.stop())
        await self.clock.advance(2.0)
        await stopping
        if error is None:
            await self.task
            self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        """No task, and no socket."""
        left = {task for task in asyncio.all_tasks() - self._tasks_before if not task.done()}
        assert not left
        assert all(socket.aborted for socket in self.transport.sockets)

    @property
    def socket(self) -> FakeSocket:
        """The newest connection."""
        return self.transport.sockets[-1]

    @property
    def state(self) -> ShardState:
        return self.shard.view().state

    async def become_ready(self, session_id: str = "session-1", **options: Any) -> FakeSocket:
        """HELLO, IDENTIFY, READY."""
        self.socket.hello()
        await settle()
        self.socket.ready(session_id, **options)
        await settle()
        assert self.state == "ready"
        return self.socket

    async def become_resumed(self, seq: int = 2) -> FakeSocket:
        """HELLO, RESUME, RESUMED."""
        self.socket.hello()
        await settle()
        self.socket.event(seq, "RESUMED", {})
        await settle()
        assert self.state == "ready"
        return self.socket

    async def next_socket(self, within: float = 60.0) -> FakeSocket:
        """Time passes until the shard has dialed again."""
        before = len(self.transport.sockets)
        deadline = self.clock.monotonic() + within
        while self.clock.monotonic() < deadline:
            if len(self.transport.sockets) > before:
                return self.socket
            await self.clock.advance(0.25 if within <= 60 else 2.0)
        raise AssertionError(f"no new connection within {within} seconds, state {self.state}")

    async def stay_healthy(self, seconds: float) -> None:
        """Discord acknowledges each heartbeat for so long."""
        socket = self.socket
        for _ in range(int(seconds)):
            beats = len(socket.beats())
            await self.clock.advance(1.0)
            for _ in range(len(socket.beats()) - beats):
                socket.ack()
        await settle()


def plain_identity(**changes: Any) -> Identity:
    options: dict[str, Any] = {"token": Secret(TOKEN), "intents": 513, "compression": "none"}
    return Identity(**(options | changes))
