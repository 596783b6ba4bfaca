# SPDX-License-Identifier: Apache-2.0
"""A broker that does as the test says."""

import asyncio
import random
from collections.abc import Sequence

from discluster.cluster.handlers.publishing.broker import Answers, BrokerError, Refusal
from discluster.cluster.handlers.publishing.publisher import Bounds, Publisher
from discluster.gateway.events import Event
from tests.clock import ManualClock, settle
from tests.unit.cluster.publishing.events import event

PATIENCE = 8.0


class FakeConnection:
    """``written``: what arrived, in order, as (number, message)."""

    def __init__(self) -> None:
        self.written: list[tuple[int, bytes]] = []
        self.pings = 0
        self.closed = False
        self._answers: asyncio.Queue[Answers | str] = asyncio.Queue()

    def write(self, numbers: Sequence[int], messages: Sequence[bytes]) -> None:
        assert not self.closed
        self.written += zip(numbers, messages, strict=True)

    async def answers(self) -> Answers:
        answer = await self._answers.get()
        if isinstance(answer, str):
            raise BrokerError(answer)
        return answer

    def ping(self) -> None:
        self.pings += 1

    def abort(self, reason: str) -> None:
        self._answers.put_nowait(reason)

    async def close(self) -> None:
        self.closed = True

    # --- what the test says ---

    async def store(self, *numbers: int) -> None:
        await self.answer(Answers(numbers))

    async def refuse(self, *numbers: int, too_large: bool = False) -> None:
        refused = [
            Refusal(number=n, reason="it is full", hint="make room", too_large=too_large)
            for n in numbers
        ]
        await self.answer(Answers((), refused))

    async def answer(self, answers: Answers) -> None:
        self._answers.put_nowait(answers)
        await settle()

    async def lose(self) -> None:
        self.abort("the connection was lost")
        await settle()

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.written]


class FakeBroker:
    """``away``: why nobody can connect."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.dials = 0
        self.away: str | None = None

    async def dial(self) -> FakeConnection:
        self.dials += 1
        if self.away is not None:
            raise BrokerError(self.away)
        self.connections.append(FakeConnection())
        return self.connections[-1]

    def smaller(self, message: bytes) -> bytes:
        return b"small"

    def summary(self) -> str:
        return ""

    @property
    def newest(self) -> FakeConnection:
        return self.connections[-1]


class Publishing:
    """A publisher that runs on a clock of the test's."""

    def __init__(self, *, in_flight: int = 100, buffer: int = 1 << 20) -> None:
        self.broker = FakeBroker()
        self.clock = ManualClock()
        self.taken: list[tuple[int, int]] = []
        self.publisher = Publisher(
            title="Broker",
            broker=self.broker,
            bounds=Bounds(in_flight=in_flight, buffer=buffer, patience=PATIENCE),
            taken=self._took,
            clock=self.clock,
            rng=random.Random(1),
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Publishing":
        self._task = asyncio.create_task(self.publisher.run())
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    def publish(self, seq: int, *messages: bytes, shard: int = 1) -> None:
        """One batch; without ``messages``, of one."""
        self.publisher.publish(event(seq, shard=shard), lambda first: list(messages) or [b"m"])

    @property
    def problem(self) -> str:
        return self.publisher.problem or ""

    def _took(self, event: Event) -> None:
        self.taken.append((event.shard, event.seq))
