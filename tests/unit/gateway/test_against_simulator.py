# SPDX-License-Identifier: Apache-2.0
"""Shards over real sockets against the simulated Discord, which judges them by its own ledger.

The simulator was written from the same documentation by other hands and shares no code with the
gateway, so that both would have to misread it in the same way.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
import pytest

from discluster.clock import SystemClock
from discluster.gateway import (
    AiohttpTransport,
    Compression,
    Event,
    Identity,
    Sessions,
    Shard,
)
from discluster.messages import ShardState
from discluster.secret import Secret
from discluster.simulator.client import SimulatorClient
from discluster.simulator.settings import DEFAULT_TOKEN, SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.unit.gateway.fakes import FakeSessions

SHARDS = 2
PACE = 0.4  # seconds between identifies


class Impatient(random.Random):
    """Draws every back-off at its lower bound, to save the time of whoever runs the tests."""

    def uniform(self, a: float, b: float) -> float:
        return a


class PacedPermits:
    """One identify per interval, as a cluster's CONTROL would see to it."""

    def __init__(self) -> None:
        self._free = asyncio.Lock()

    async def acquire(self, shard: int) -> None:
        await self._free.acquire()

    def valid(self, shard: int) -> bool:
        return True

    def used(self, shard: int) -> None:
        asyncio.get_running_loop().call_later(PACE * 1.3, self._free.release)

    def returned(self, shard: int) -> None:
        self._free.release()


class Fleet:
    """Some shards in this process, their stored sessions, and what their handlers took."""

    def __init__(
        self, simulator: Simulator, transport: AiohttpTransport, compression: Compression
    ) -> None:
        self.sessions = [FakeSessions() for _ in range(SHARDS)]
        self.taken: list[Event] = []
        self.shards: list[Shard] = []
        self._simulator = simulator
        self._transport = transport
        self._identity = Identity(token=Secret(DEFAULT_TOKEN), intents=513, compression=compression)
        self._permits = PacedPermits()
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()

    def _shard(self, shard: int, sessions: Sessions) -> Shard:
        return Shard(
            shard=shard,
            shard_count=SHARDS,
            gateway_url=self._simulator.gateway_url,
            identity=self._identity,
            transport=self._transport,
            clock=SystemClock(),
            rng=Impatient(shard),
            permits=self._permits,
            sessions=sessions,
            handler=self.taken.append,
            on_change=lambda: None,
        )

    async def start(self) -> None:
        """All shards, and waits until they are ready."""
        self.shards = [self._shard(n, sessions) for n, sessions in enumerate(self.sessions)]
        self._tasks = [asyncio.create_task(shard.run()) for shard in self.shards]
        await self.until("ready")

    async def until(self, state: ShardState, timeout: float = 20.0) -> None:
        await self.wait_for(lambda: {s.view().state for s in self.shards} == {state}, timeout)

    async def wait_for(self, condition: Callable[[], bool], timeout: float = 20.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)

    async def stop(self, *, keep_session: bool = True) -> None:
        await asyncio.gather(*(shard.stop(keep_session=keep_session) for shard in self.shards))
        await asyncio.gather(*self._tasks)

    async def kill(self) -> None:
        """As far as Discord can tell, the process was killed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def counts(self) -> Counter[tuple[int, int]]:
        """How often each numbered event was taken, as (guild, count)."""
        return Counter(
            (int(body["guild_id"]), body["_count"])
            for body in map(_body, self.taken)
            if "_count" in body and "guild_id" in body
        )


def _body(event: Event) -> dict[str, Any]:
    decoded = msgspec.json.decode(event.body)
    return decoded if isinstance(decoded, dict) else {}


class World:
    """A simulator, its client, and a fleet."""

    def __init__(self, fleet: Fleet, client: SimulatorClient) -> None:
        self.fleet = fleet
        self.client = client

    @classmethod
    @asynccontextmanager
    async def of(
        cls, compression: Compression = "zstd-stream", **settings: Any
    ) -> AsyncIterator[Self]:
        defaults: dict[str, Any] = {
            "shards": SHARDS,
            "guilds": 20,
            "events_per_second": 100,
            "heartbeat_interval": 1.0,
            "heartbeat_tolerance": 5.0,
            "identify_interval": PACE,
        }
        async with (
            Simulator(SimulatorSettings(**(defaults | settings))) as simulator,
            SimulatorClient(simulator.control_url) as client,
            AiohttpTransport() as transport,
        ):
            fleet = Fleet(simulator, transport, compression)
            await fleet.start()
            try:
                yield cls(fleet, client)
            finally:
                await fleet.stop()

    async def recovered(self, act: Callable[[], Any]) -> None:
        """``act`` hits all shards; returns when all have come back."""
        before = [len(fleet_events(self.fleet, n)) for n in range(SHARDS)]
        await act()
        await self.fleet.wait_for(
            lambda: all(len(fleet_events(self.fleet, n)) > before[n] for n in range(SHARDS))
        )
        await self.fleet.until("ready")

    async def sent(self) -> set[tuple[int, int]]:
        """All numbered events that the simulator made for these shards, as (guild, count)."""
        logs = [await self.client.sent(shard) for shard in range(SHARDS)]
        return {(guild, count) for log in logs for guild, count, _ in log}

    async def everything_taken(self) -> set[tuple[int, int]]:
        """The stream ends; what was sent, as soon as all of it has been taken."""
        await self.client.stream(0)
        sent = await self.sent()
        assert len(sent) > 100
        await self.fleet.wait_for(lambda: sent <= set(self.fleet.counts()))
        return sent


def fleet_events(fleet: Fleet, shard: int) -> list[Event]:
    """The READY and RESUMED of a shard."""
    return [e for e in fleet.taken if e.shard == shard and e.type in ("READY", "RESUMED")]


@pytest.mark.covers("O-13")
@pytest.mark.parametrize("compression", ["none", "zlib-stream", "zstd-stream"])
async def test_o13_every_event_arrives_once_through_drops_reconnects_and_a_restart(
    compression: Compression,
) -> None:
    async with World.of(compression) as world:
        await world.recovered(lambda: world.client.drop("all"))
        await world.recovered(lambda: world.client.reconnect("all"))
        await world.recovered(lambda: world.client.close_connection("all", 1000))
        await world.fleet.stop()
        await world.fleet.start()
        sent = await world.everything_taken()
        counts = world.fleet.counts()
        assert {event: n for event, n in counts.items() if n != 1} == {}
        assert set(counts) == sent
        summary = await world.client.summary()
        assert (summary.identifies, summary.resumed, summary.lost) == (2, 8, 0)
        assert await world.client.judgement() == []


async def test_killed_process_loses_nothing_and_leaks_no_connection() -> None:
    async with World.of() as world:
        for _ in range(3):
            enough = len(world.fleet.taken) + 60
            await world.fleet.wait_for(lambda: len(world.fleet.taken) > enough)  # noqa: B023
            await world.fleet.kill()
            await world.fleet.start()
        await world.everything_taken()
        assert (await world.client.summary()).identifies == SHARDS
        assert await world.client.judgement() == []


async def test_half_open_connections_are_left_and_resumed() -> None:
    async with World.of() as world:
        await world.recovered(lambda: world.client.mute("all", 30.0))
        await world.everything_taken()
        summary = await world.client.summary()
        assert (summary.identifies, summary.resumed) == (2, 2)
        assert await world.client.judgement() == []


async def test_withheld_acknowledgements_are_outlived_while_events_flow() -> None:
    async with World.of() as world:
        await world.client.withhold_acks("all", 2)
        await world.client.request_heartbeat("all")
        beats = (await world.client.summary()).heartbeats
        await world.client.wait_for_summary(lambda s: s.heartbeats >= beats + 8, 20.0)
        assert (await world.client.summary()).connections == SHARDS
        assert await world.client.judgement() == []


async def test_invalidated_sessions_cost_one_identify_each() -> None:
    async with World.of() as world:
        await world.recovered(lambda: world.client.invalidate("all"))
        assert (await world.client.summary()).identifies == 2 * SHARDS
        assert await world.client.judgement() == []


async def test_sessions_that_expired_meanwhile_are_found_out_by_resuming() -> None:
    async with World.of() as world:
        await world.fleet.stop()
        await world.client.invalidate("all", silent=True)
        await world.fleet.start()
        assert (await world.client.summary()).identifies == 2 * SHARDS
        assert await world.client.judgement() == []


@pytest.mark.covers("T-58")
async def test_t58_revoked_token_ends_in_fatal_and_silence() -> None:
    async with World.of() as world:
        await world.client.revoke_token()
        await world.fleet.until("fatal")
        assert {shard.view().fatal for shard in world.fleet.shards} == {4004}
        assert await world.client.judgement() == []


async def test_final_stop_ends_the_sessions_and_any_other_keeps_them() -> None:
    async with World.of() as world:
        await world.fleet.stop()
        kept = await world.client.wait_for_shards(
            lambda shards: all(shard.state == "detached" for shard in shards), 5.0
        )
        assert len(kept) == SHARDS
        await world.fleet.start()
        await world.fleet.stop(keep_session=False)
        await world.client.wait_for_shards(lambda shards: not shards, 5.0)
        assert all(sessions.session is None for sessions in world.fleet.sessions)
