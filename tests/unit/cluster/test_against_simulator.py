# SPDX-License-Identifier: Apache-2.0
"""Shards of one cluster behind its gate, over real sockets, against the simulated Discord."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest

from discluster.clock import SystemClock
from discluster.cluster.gate import ClusterGate
from discluster.gateway import AiohttpTransport, Event, Identity, Shard
from discluster.gateway.commands import RequestGuildMembers, UpdatePresence, shard_of
from discluster.secret import Secret
from discluster.simulator.client import SimulatorClient
from discluster.simulator.settings import DEFAULT_TOKEN, SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.unit.cluster.controls import endless_lease
from tests.unit.gateway.fakes import FakeSessions
from tests.unit.gateway.test_against_simulator import Impatient, PacedPermits
from tests.waiting import wait_for

PACE = 0.2


class Cluster:
    """Some shards of one process."""

    def __init__(
        self, simulator: Simulator, client: SimulatorClient, transport: AiohttpTransport, count: int
    ) -> None:
        self.client = client
        self.taken: list[Event] = []
        self.handle: Callable[[Event], Awaitable[None] | None] = self.taken.append
        self.gate = ClusterGate(lease=endless_lease(), clock=SystemClock(), rng=random.Random(1))
        self.sessions = [FakeSessions() for _ in range(count)]
        self._simulator = simulator
        self._transport = transport
        self.permits = PacedPermits()
        self.shards = [self._shard(number) for number in range(count)]
        self.tasks: list[asyncio.Task[None]] = []

    def _shard(self, number: int) -> Shard:
        return Shard(
            shard=number,
            shard_count=len(self.sessions),
            gateway_url=self._simulator.gateway_url,
            identity=Identity(token=Secret(DEFAULT_TOKEN), intents=515),
            transport=self._transport,
            clock=SystemClock(),
            rng=Impatient(number),
            permits=self.permits,
            sessions=self.sessions[number],
            handler=self._hand_over,
            on_change=lambda: None,
            gate=self.gate,
        )

    def _hand_over(self, event: Event) -> Awaitable[None] | None:
        return self.handle(event)

    @classmethod
    @asynccontextmanager
    async def of(cls, count: int, **settings: Any) -> AsyncIterator[Self]:
        defaults: dict[str, Any] = {
            "shards": count,
            "guilds": 4 * count,
            "events_per_second": 50,
            "heartbeat_interval": 1.0,
            "heartbeat_tolerance": 5.0,
            "identify_interval": PACE,
        }
        async with (
            Simulator(SimulatorSettings(**(defaults | settings))) as simulator,
            SimulatorClient(simulator.control_url) as client,
            AiohttpTransport() as transport,
        ):
            cluster = cls(simulator, client, transport, count)
            cluster.tasks.append(asyncio.create_task(cluster.gate.run()))
            for shard in cluster.shards:
                cluster.tasks.append(asyncio.create_task(shard.run()))
            try:
                await cluster.until(ready=count)
                yield cluster
            finally:
                await asyncio.gather(*(shard.stop() for shard in cluster.shards))
                for task in cluster.tasks:
                    task.cancel()
                await asyncio.gather(*cluster.tasks, return_exceptions=True)

    def states(self) -> dict[str, int]:
        states = [shard.view().state for shard in self.shards]
        return {state: states.count(state) for state in states}

    async def until(self, **states: int) -> None:
        await wait_for(lambda: self.states() == states, 20, what=f"{states}")


@pytest.mark.covers("F12", "F29", "T-04", "T-58", "O-07")
async def test_token_that_was_reset_costs_one_dial_of_one_shard() -> None:
    async with Cluster.of(6) as cluster:
        before = await cluster.client.summary()
        await cluster.client.revoke_token()
        await cluster.until(fatal=1, held=5)
        after = await cluster.client.summary()
        tried = after.identifies + after.resumes - before.identifies - before.resumes
        assert tried <= 2, "a RESUME, and an IDENTIFY if the session is gone"
        assert await cluster.client.judgement() == []


@pytest.mark.covers("F12", "T-58")
async def test_sessions_that_were_all_closed_with_4003_come_back_without_an_identify() -> None:
    async with Cluster.of(6) as cluster:
        before = await cluster.client.summary()
        await cluster.client.close_connection("all", 4003)
        after = await cluster.client.wait_for_summary(
            lambda summary: summary.resumed == before.resumed + 6, 20.0
        )
        assert after.identifies == before.identifies
        await cluster.until(ready=6)
        assert await cluster.client.judgement() == []


@pytest.mark.covers("T-40")
async def test_resumes_wait_for_no_permit_while_every_lane_is_blocked() -> None:
    async with Cluster.of(6) as cluster:
        await cluster.permits.acquire(99)
        before = await cluster.client.summary()
        await cluster.client.invalidate(0, resumable=False)
        await cluster.until(ready=5, waiting=1)
        for shard in range(1, 6):
            await cluster.client.drop(shard)
        await cluster.client.wait_for_summary(lambda s: s.resumed == before.resumed + 5, 20.0)
        await cluster.until(ready=5, waiting=1)
        assert (await cluster.client.summary()).identifies == before.identifies
        cluster.permits.returned(99)
        await cluster.until(ready=6)
        assert await cluster.client.judgement() == []


@pytest.mark.covers("O-10")
async def test_commands_are_to_discords_liking_and_answered() -> None:
    async with Cluster.of(2) as cluster:
        guilds = {0: 2 << 22, 1: 1 << 22}
        for number, guild in guilds.items():
            assert shard_of(guild, 2) == number
            await cluster.shards[number].send(UpdatePresence(status="dnd"))
            await cluster.shards[number].send(
                RequestGuildMembers(guild_id=guild, query="", nonce="all")
            )
        await wait_for(
            lambda: {e.shard for e in cluster.taken if e.type == "GUILD_MEMBERS_CHUNK"} == {0, 1},
            10,
        )
        assert (await cluster.client.summary()).violations == 0
        assert cluster.states() == {"ready": 2}


@pytest.mark.covers("F25", "T-34", "O-13")
async def test_handler_that_stalls_costs_neither_the_connection_nor_an_event() -> None:
    async with Cluster.of(2, events_per_second=400) as cluster:
        release = asyncio.Event()

        async def stall(event: Event) -> None:
            await release.wait()
            cluster.taken.append(event)

        cluster.handle = stall
        beats = (await cluster.client.summary()).heartbeats
        await cluster.client.wait_for_summary(lambda s: s.heartbeats >= beats + 8, 20.0)
        seen = len(cluster.taken)
        assert cluster.states() == {"ready": 2}
        release.set()
        await cluster.client.stream(0)
        sent = [await cluster.client.sent(number) for number in range(2)]
        last = {number: max(seq for *_, seq in log) for number, log in enumerate(sent)}
        await wait_for(lambda: all(cluster.sessions[n].seq == last[n] for n in last), 20)
        for number in range(2):
            seqs = [e.seq for e in cluster.taken if e.shard == number]
            assert seqs == list(range(1, last[number] + 1))
        assert len(cluster.taken) > seen
        assert (await cluster.client.summary()).connections == 2
