# SPDX-License-Identifier: Apache-2.0
"""A simulated Discord and real shards over real sockets in simulated time, judged at the end.

The simulator was written from the same documentation by other hands and shares no code with the
gateway, so that both would have to misread it in the same way. What a test asserts besides is its
own; what every test asserts is in :meth:`Stage.conclude`.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from discluster.cluster.gate import ClusterGate
from discluster.gateway import AiohttpTransport, Compression, Event, Identity, Shard
from discluster.messages import ShardState
from discluster.secret import Secret
from discluster.sessions import SessionFile
from discluster.simulator.client import SimulatorClient
from discluster.simulator.deeds import AnyDeed
from discluster.simulator.ledger import Record
from discluster.simulator.oracles import Claims, Consumed
from discluster.simulator.script import At, Point
from discluster.simulator.simulator import Simulator
from tests.faults.loop import LoopClock
from tests.unit.cluster.controls import endless_lease

HEALED_WITHIN: Final = 300.0  # simulated seconds from the end of the last fault (O-18)
INTENTS: Final = 513  # GUILDS and GUILD_MESSAGES

R = TypeVar("R", bound=Record)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the handler took. ``event``: (guild, count) of one that is counted."""

    shard: int
    session: str
    seq: int
    type: str
    time: float
    event: tuple[int, int] | None


class Lanes:
    """Permits as a CONTROL grants them: one identify per lane and interval (T-37, T-39).

    Discord measures at arrival; what an IDENTIFY takes to arrive must not shorten the gap.
    """

    def __init__(self, lanes: int, interval: float) -> None:
        self.returned_by: list[int] = []
        self.used_by: list[int] = []
        self._interval = interval
        self._free = [asyncio.Lock() for _ in range(lanes)]

    def unpaced(self) -> None:
        """From now on, as if nobody kept the pace."""
        self._interval = -0.25

    async def acquire(self, shard: int) -> None:
        await self._free[shard % len(self._free)].acquire()

    def valid(self, shard: int) -> bool:
        return True

    def used(self, shard: int) -> None:
        self.used_by.append(shard)
        lock = self._free[shard % len(self._free)]
        asyncio.get_running_loop().call_later(self._interval + 0.25, lock.release)

    def returned(self, shard: int) -> None:
        self.returned_by.append(shard)
        self._free[shard % len(self._free)].release()


class Stage:
    """Made by :class:`tests.faults.scene.Scene`."""

    def __init__(
        self,
        simulator: Simulator,
        client: SimulatorClient,
        transport: AiohttpTransport,
        *,
        shards: int,
        compression: Compression,
        token: str,
        directory: Path,
        gateway_url: str,
        gated: bool,
    ) -> None:
        self.simulator = simulator
        self.client = client
        self.taken: list[Taken] = []
        self.attend: Callable[[Event], Awaitable[None] | None] = lambda event: None
        self.permits = Lanes(
            simulator.settings.max_concurrency, simulator.settings.identify_interval
        )
        self.shards: list[Shard] = []
        self.changes: list[list[tuple[float, ShardState]]] = [[] for _ in range(shards)]
        self.file = SessionFile(directory / "sessions")
        self.clock = LoopClock()
        self._count = shards
        self._gate = (
            ClusterGate(lease=endless_lease(), clock=self.clock, rng=random.Random(4))
            if gated
            else None
        )
        self._transport = transport
        self._gateway_url = gateway_url
        self._identity = Identity(token=Secret(token), intents=INTENTS, compression=compression)
        self._tasks: list[asyncio.Task[None]] = []
        self._gating: asyncio.Task[None] | None = None
        self._runs = 0

    # --- shards ----------------------------------------------------------------------------------

    async def start(self, *, ready: bool = True) -> None:
        """All shards, from what the session file holds; ``ready``: returns when all are."""
        self._runs += 1
        self.shards = [self._shard(n) for n in range(self._count)]
        self._tasks = [asyncio.create_task(shard.run()) for shard in self.shards]
        if self._gate is not None and self._gating is None:
            self._gating = asyncio.create_task(self._gate.run())
        if ready:
            await self.all_are("ready")

    def _shard(self, number: int) -> Shard:
        return Shard(
            shard=number,
            shard_count=self._count,
            gateway_url=self._gateway_url,
            identity=self._identity,
            transport=self._transport,
            clock=self.clock,
            rng=random.Random(f"{self._runs}/{number}"),
            permits=self.permits,
            sessions=self.file.slot(number, self._count),
            handler=self._take,
            on_change=lambda: self._changed(number),
            gate=self._gate,
        )

    def _take(self, event: Event) -> Awaitable[None] | None:
        waiting = self.attend(event)
        if waiting is None:
            self._taken(event)
            return None
        return self._later(waiting, event)

    async def _later(self, waiting: Awaitable[None], event: Event) -> None:
        await waiting
        self._taken(event)

    def _taken(self, event: Event) -> None:
        body = _body(event)
        guild, count = body.get("guild_id"), body.get("_count")
        self.taken.append(
            Taken(
                shard=event.shard,
                session=event.session_id,
                seq=event.seq,
                type=event.type,
                time=self.clock.monotonic(),
                event=(int(guild), count) if guild is not None and count is not None else None,
            )
        )

    def _changed(self, number: int) -> None:
        if number < len(self.shards):
            self.changes[number].append((self.now, self.shards[number].view().state))

    async def stop(self, *, keep_session: bool = True) -> None:
        await asyncio.gather(*(shard.stop(keep_session=keep_session) for shard in self.shards))
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Everything that was started ends."""
        await self.stop()
        if self._gating is not None:
            self._gating.cancel()
            await asyncio.gather(self._gating, return_exceptions=True)
        self.file.close()

    async def kill(self) -> None:
        """As far as Discord can tell, the process was killed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    # --- looking ---------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Simulated seconds."""
        return self.clock.monotonic()

    def is_in(self, shard: int) -> ShardState:
        """The state that a shard claims."""
        return self.shards[shard].view().state

    def states(self, shard: int) -> list[ShardState]:
        """The states that a shard went through."""
        return [state for _, state in self.changes[shard]]

    def records(self, kind: type[R], *, since: int = 0) -> list[R]:
        """The ledger: what really arrived at Discord."""
        return [r for r in self.simulator.world.ledger.since(since) if isinstance(r, kind)]

    @property
    def mark(self) -> int:
        """The newest record, for ``since``."""
        return self.simulator.world.ledger.last

    def types(self, shard: int) -> list[str]:
        """Of the events that the handler took."""
        return [event.type for event in self.taken if event.shard == shard]

    # --- waiting ---------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], object], timeout: float, what: str = "") -> None:
        """Returns within a twentieth of a second; ``timeout`` in simulated seconds."""
        end = self.now + timeout
        while not condition():
            if self.now > end:
                views = [v for v in (s.view() for s in self.shards) if v.state != "ready"][:3]
                raise TimeoutError(f"not within {timeout:g} s: {what or condition}; {views}")
            await asyncio.sleep(0.05)

    async def all_are(self, state: ShardState, timeout: float = HEALED_WITHIN) -> None:
        """All shards are in ``state``."""
        await self.until(
            lambda: all(s.view().state == state for s in self.shards), timeout, f"all {state}"
        )

    async def seen(
        self,
        kind: type[R],
        test: Callable[[R], object] = lambda record: True,
        *,
        since: int = 0,
        timeout: float = HEALED_WITHIN,
    ) -> R:
        """The first record of a kind after ``since`` for which ``test`` holds."""
        found: list[R] = []

        def look() -> bool:
            found[:] = [r for r in self.records(kind, since=since) if test(r)]
            return bool(found)

        await self.until(look, timeout, f"a record {kind.__name__}")
        return found[0]

    async def hit(self, act: Callable[[], Awaitable[object]], *, timeout: float = 60.0) -> int:
        """Does what costs every shard its connection; returns the mark from before, when all have
        one again.
        """
        before, mark = [len(changes) for changes in self.changes], self.mark
        await act()

        def recovered() -> bool:
            return all(
                len(changes) > n and changes[-1][1] == "ready"
                for changes, n in zip(self.changes, before, strict=True)
            )

        await self.until(recovered, timeout, "every shard left and came back")
        return mark

    async def script(self, point: Point, *deeds: AnyDeed, instead: bool = False, **at: Any) -> int:
        """Adds a rule to the simulator's script; ``at``: fields of :class:`script.At`."""
        return await self.client.script(At(point=point, **at), *deeds, instead=instead)

    # --- judging ---------------------------------------------------------------------------------

    async def sent(self) -> dict[int, list[tuple[int, int, int]]]:
        """For each shard what Discord sent: guild, count, sequence."""
        return {shard: await self.client.sent(shard) for shard in range(self._count)}

    async def conclude(
        self, *, heals: bool, accused: frozenset[str], conserves: bool, duplicates: bool
    ) -> None:
        """What holds after every fault: the oracles of the simulator, and ours."""
        calm_since = self.simulator.world.timing.now()
        if heals:
            await self.all_are("ready")
        await self.client.stream(0)
        if heals and conserves:
            await self._everything_is_taken()
        now = self.simulator.world.timing.now()
        claims = Claims(
            healthy=[(s.shard, self._count) for s in self.shards if s.view().state == "ready"],
            consumed=self._consumed() if heals and conserves else [],
            calm_since=calm_since if heals else None,
            within=now - calm_since,
        )
        verdicts = await self.client.judgement(claims)
        unexpected = [verdict for verdict in verdicts if verdict.oracle not in accused]
        assert unexpected == [], "\n".join(f"{v.oracle} {v.text}" for v in unexpected)
        missing = accused - {verdict.oracle for verdict in verdicts}
        assert not missing, f"expected, but not accused: {missing}"
        if conserves and not duplicates:
            self._nothing_is_taken_twice()

    async def _everything_is_taken(self) -> None:
        """What is on its way arrives; O-13 judges whether it is all."""
        await asyncio.sleep(2)
        end = self.now + 60
        while self.now < end:
            sent = [len(await self.client.sent(shard)) for shard in range(self._count)]
            if sum(sent) <= sum(taken.event is not None for taken in self.taken):
                return
            await asyncio.sleep(1)

    def _consumed(self) -> list[Consumed]:
        return [
            Consumed(
                shard=(shard, self._count),
                events=[t.event for t in self.taken if t.shard == shard and t.event is not None],
            )
            for shard in range(self._count)
        ]

    def _nothing_is_taken_twice(self) -> None:
        """Stricter than O-13, which lets a replay repeat what was taken: a RESUME that begins
        after the last event that was taken repeats nothing.
        """
        times = Counter(taken.event for taken in self.taken if taken.event is not None)
        assert [event for event, n in times.items() if n > 1] == []


def _body(event: Event) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(event.body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}
