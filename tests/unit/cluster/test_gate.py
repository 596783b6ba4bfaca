# SPDX-License-Identifier: Apache-2.0
"""Several shards behind one gate, with a scripted Discord and CONTROL's words played by hand."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from discluster.cluster.gate import ClusterGate
from discluster.cluster.lease import ClusterLease
from discluster.gateway import Shard
from discluster.messages import Clearance, ClearanceCase, Halt, Lease, Message
from tests.clock import ManualClock, settle
from tests.unit.cluster.controls import endless_lease
from tests.unit.gateway.fakes import (
    GATEWAY,
    FakePermits,
    FakeSessions,
    FakeSocket,
    FakeTransport,
    plain_identity,
)

FATAL = (4004, 4010, 4011, 4012, 4013, 4014)
NEVER = "closed it (4003 Not authenticated); one shard tries for all"


class Cluster:
    """Shards 0 to n-1; ``connection[n]`` is the socket that shard n has now."""

    def __init__(self, shards: int) -> None:
        self.clock = ManualClock()
        self.transport = FakeTransport(self.clock)
        self.permits = FakePermits()
        self.lease = endless_lease()
        self.gate = ClusterGate(lease=self.lease, clock=self.clock, rng=random.Random(1))
        self.to_control: list[Message] = []
        self.shards = [self._shard(number, shards) for number in range(shards)]
        self.connection: dict[int, FakeSocket] = {}
        self._tasks = [asyncio.create_task(self.gate.run())]

    def _shard(self, number: int, count: int) -> Shard:
        return Shard(
            shard=number,
            shard_count=count,
            gateway_url=GATEWAY,
            identity=plain_identity(),
            transport=self.transport,
            clock=self.clock,
            rng=random.Random(number),
            permits=self.permits,
            sessions=FakeSessions(),
            handler=lambda event: None,
            on_change=lambda: None,
            gate=self.gate,
        )

    @classmethod
    @asynccontextmanager
    async def of(cls, shards: int) -> AsyncIterator["Cluster"]:
        cluster = cls(shards)
        for shard in cluster.shards:
            cluster._tasks.append(asyncio.create_task(shard.run()))
            await settle()
            socket = cluster.connection[shard.shard] = cluster.transport.sockets[-1]
            socket.hello()
            await settle()
            socket.ready(f"session-{shard.shard}")
            await settle()
        assert cluster.in_state("ready") == list(range(shards))
        try:
            yield cluster
        finally:
            for task in cluster._tasks:
                task.cancel()
            await asyncio.gather(*cluster._tasks, return_exceptions=True)

    def in_state(self, state: str) -> list[int]:
        return [shard.shard for shard in self.shards if shard.view().state == state]

    def problems(self) -> set[str | None]:
        return {shard.view().problem for shard in self.shards if shard.view().state == "held"}

    def close(self, code: int | None, *numbers: int) -> None:
        for number in numbers:
            self.connection[number].end(code)

    async def dials(self, seconds: float) -> list[FakeSocket]:
        """The connections that were made meanwhile. Discord acknowledges all heartbeats."""
        before = len(self.transport.sockets)
        for _ in range(int(seconds * 2)):
            beats = [len(socket.beats()) for socket in self.transport.sockets]
            await self.clock.advance(0.5)
            for socket, seen in zip(self.transport.sockets, beats, strict=False):
                for _ in range(len(socket.beats()) - seen):
                    socket.ack()
        return self.transport.sockets[before:]

    def connect_to_control(self) -> None:
        self.gate.control_connected(self.to_control.append)


async def resume(socket: FakeSocket, seq: int = 2) -> None:
    socket.hello()
    await settle()
    assert socket.ops()[-1] == 6
    socket.event(seq, "RESUMED", {})
    await settle()


@pytest.mark.covers("T-58", "F12")
async def test_4003_on_all_shards_lets_one_try_and_its_success_brings_all_back() -> None:
    async with Cluster.of(20) as cluster:
        cluster.close(4003, *range(20))
        (canary,) = await cluster.dials(20.0)
        assert len(cluster.in_state("held")) == 19
        assert all(problem is not None and NEVER in problem for problem in cluster.problems())
        await resume(canary)
        others = await cluster.dials(6.0)
        assert len(others) == 19
        for socket in others:
            await resume(socket)
        assert cluster.in_state("ready") == list(range(20))
        assert cluster.permits.log.count("used") == 20, "no session was lost"


async def test_shards_that_follow_the_canary_do_not_dial_in_step() -> None:
    async with Cluster.of(20) as cluster:
        cluster.close(4003, *range(20))
        (canary,) = await cluster.dials(20.0)
        await resume(canary)
        await cluster.dials(6.0)
        times = [time for time, _ in cluster.transport.dials[-19:]]
        assert max(times) - min(times) > 0.5
        assert len({round(time, 3) for time in times}) > 15


@pytest.mark.covers("T-58", "F12")
@pytest.mark.parametrize("code", [4004, 4014])
async def test_canary_that_is_rejected_keeps_all_others_from_dialing(code: int) -> None:
    async with Cluster.of(20) as cluster:
        cluster.close(4003, *range(20))
        (canary,) = await cluster.dials(20.0)
        canary.hello()
        await settle()
        canary.end(code)
        assert await cluster.dials(900.0) == []
        (fatal,) = cluster.in_state("fatal")
        assert len(cluster.in_state("held")) == 19
        (told,) = cluster.problems()
        assert told is not None
        assert told.startswith(f"shard {fatal} was rejected: Discord rejected")
        assert f"({code} " in told


async def test_single_4003_costs_no_delay() -> None:
    async with Cluster.of(3) as cluster:
        cluster.connect_to_control()
        cluster.close(4003, 1)
        await cluster.dials(1.0)
        assert cluster.to_control == [ClearanceCase(shard=1, state="asks")]
        cluster.gate.control_said(Clearance(shard=1))
        await settle()
        canary = cluster.transport.sockets[-1]
        assert len(cluster.transport.sockets) == 4
        await resume(canary)
        assert cluster.to_control[-1] == ClearanceCase(shard=1, state="accepted")
        assert cluster.in_state("ready") == [0, 1, 2]


async def test_op9_does_not_cost_the_canary_its_place() -> None:
    """Discord drops the sessions as well: what it thinks of the token only an IDENTIFY shows."""
    async with Cluster.of(3) as cluster:
        cluster.close(4003, *range(3))
        (canary,) = await cluster.dials(5.0)
        canary.hello()
        await settle()
        canary.payload(9, False)
        (again,) = await cluster.dials(8.0)
        again.hello()
        await settle()
        assert again.ops() == [2]
        again.ready("new")
        assert len(await cluster.dials(8.0)) == 2


async def test_canary_whose_connection_breaks_gives_way() -> None:
    async with Cluster.of(3) as cluster:
        cluster.close(4003, *range(3))
        (first,) = await cluster.dials(5.0)
        first.hello()
        await settle()
        first.end()
        again = await cluster.dials(4.0)
        assert len(again) == 1
        assert again[0].url.startswith("wss://edge-b")
        again[0].hello()
        await settle()
        sessions = [s.sent[0]["d"]["session_id"] for s in (first, again[0])]
        assert sessions[0] != sessions[1], "it was another shard's turn"


async def test_canary_that_waits_too_long_gives_way() -> None:
    async with Cluster.of(3) as cluster:
        cluster.close(4003, *range(3))
        await cluster.dials(5.0)
        cluster.transport.sockets[-1].hello()
        assert len(await cluster.dials(65.0)) >= 1


async def test_connected_shards_do_not_care_what_happened_to_others() -> None:
    async with Cluster.of(6) as cluster:
        cluster.close(4003, 0, 1)
        await cluster.dials(10.0)
        assert cluster.in_state("ready") == [2, 3, 4, 5]
        cluster.close(None, 2)
        (again,) = await cluster.dials(2.0)
        await resume(again)
        assert 2 in cluster.in_state("ready"), "not under suspicion, not held up"


@pytest.mark.covers("T-04", "T-07", "T-08", "F12", "F29", "O-07")
@pytest.mark.parametrize("code", FATAL)
async def test_terminal_code_of_one_shard_stops_all_dials_and_leaves_who_is_connected(
    code: int,
) -> None:
    async with Cluster.of(5) as cluster:
        cluster.close(code, 3)
        await cluster.dials(1.0)
        cluster.close(None, 0)
        cluster.connection[1].payload(7)
        assert await cluster.dials(900.0) == []
        assert cluster.in_state("ready") == [2, 4]
        assert cluster.in_state("held") == [0, 1]
        (told,) = cluster.problems()
        assert told is not None
        assert told.startswith("shard 3 was rejected: ")
        cluster.gate.left(3)  # as when the cluster's assignment changes
        await settle()
        assert len(cluster.transport.sockets) == 7


@pytest.mark.covers("F12", "T-38")
async def test_permit_that_comes_after_a_rejection_goes_back_unused() -> None:
    async with Cluster.of(2) as cluster:
        cluster.permits.held = True
        cluster.connection[0].payload(9, False)
        (again,) = await cluster.dials(6.0)
        again.hello()
        await settle()
        cluster.close(4004, 1)
        await settle()
        cluster.permits.grant()
        await settle()
        assert cluster.permits.log[-2:] == ["granted", "returned"]
        assert again.ops() == []
        assert cluster.in_state("held") == [0]


@pytest.mark.covers("F12")
async def test_resume_is_not_sent_when_the_rejection_came_between_dial_and_hello() -> None:
    async with Cluster.of(2) as cluster:
        cluster.close(None, 0)
        (again,) = await cluster.dials(2.0)
        cluster.close(4004, 1)
        await settle()
        again.hello()
        await settle()
        assert again.ops() == []
        cluster.gate.left(1)
        await settle()
        assert again.ops() == [6]


async def test_controls_word_stops_and_starts_all_dials() -> None:
    async with Cluster.of(2) as cluster:
        cluster.gate.control_said(Halt(reason="on beta, shard 9 was rejected: …"))
        cluster.close(None, 0)
        assert await cluster.dials(60.0) == []
        assert cluster.problems() == {"on beta, shard 9 was rejected: …"}
        cluster.gate.control_away()
        assert await cluster.dials(60.0) == [], "what it said last stays in force"
        cluster.gate.control_said(Halt(reason=None))
        await settle()
        assert len(cluster.transport.sockets) == 3


async def test_lost_control_leaves_the_decision_to_the_cluster() -> None:
    async with Cluster.of(3) as cluster:
        cluster.connect_to_control()
        cluster.close(4003, *range(3))
        assert await cluster.dials(10.0) == []
        cluster.gate.control_away()
        (canary,) = await cluster.dials(1.0)
        await resume(canary)
        assert len(await cluster.dials(5.0)) == 2


async def test_release_by_control_brings_all_back_without_a_canary_here() -> None:
    async with Cluster.of(3) as cluster:
        cluster.connect_to_control()
        cluster.close(4003, *range(3))
        assert await cluster.dials(10.0) == []
        cluster.gate.control_said(Clearance(shard=None))
        assert len(await cluster.dials(5.0)) == 3


async def test_held_shard_shows_that_it_is_alive_and_can_be_stopped() -> None:
    async with Cluster.of(2) as cluster:
        cluster.close(4004, 0)
        await settle()
        cluster.close(None, 1)
        await cluster.dials(10.0)
        for _ in range(10):
            seen = cluster.shards[1].progress
            await cluster.clock.advance(10.0)
            assert cluster.shards[1].progress > seen
        await cluster.shards[1].stop()
        assert cluster.shards[1].view().state == "idle"


async def test_shard_that_lost_its_connection_waits_for_a_lease_and_then_resumes_at_once() -> None:
    async with Cluster.of(2) as cluster:
        cluster.lease.take(Lease(until=1.0))
        cluster.connection[0].end(4000)
        await cluster.clock.advance(30.0)
        assert cluster.in_state("held") == [0]
        assert cluster.in_state("ready") == [1], "what is connected, its daemon closes"
        assert "the lease ended: CONTROL is away" in str(cluster.shards[0].view().problem)
        assert len(cluster.transport.sockets) == 2
        cluster.lease.take(Lease(until=None))
        cluster.gate.renewed()
        await settle()
        assert len(cluster.transport.sockets) == 3


async def test_obstacle_tells_a_lost_control_from_a_lost_master() -> None:
    gate = ClusterGate(lease=endless_lease(), clock=ManualClock(), rng=random.Random(1))
    assert gate.unleased is None
    gate = ClusterGate(
        lease=ClusterLease(boottime=lambda: 5.0), clock=ManualClock(), rng=random.Random(1)
    )
    assert gate.unleased == "no lease yet: CONTROL is away; the sessions are kept"
    gate.control_connected(lambda message: None)
    assert "out of touch with MASTER" in str(gate.unleased)
    gate.control_away()
    assert "CONTROL is away" in str(gate.obstacle(3))
    assert not gate.may_run()


async def test_first_word_is_waited_for_but_not_for_ever() -> None:
    clock = ManualClock()
    gate = ClusterGate(lease=endless_lease(), clock=clock, rng=random.Random(1))
    waiting = asyncio.create_task(gate.informed(2.0))
    await clock.advance(1.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()
    gate.control_away()
    await asyncio.create_task(gate.informed(2.0))


@pytest.mark.covers("T-44")
async def test_sick_shard_does_not_hold_up_the_recovery_of_others() -> None:
    async with Cluster.of(10) as cluster:
        cluster.transport.script.append("hang")
        cluster.close(None, 0)
        await cluster.dials(2.0)
        cluster.close(None, *range(1, 10))
        again = await cluster.dials(2.0)
        assert len(again) == 9
        for socket in again:
            await resume(socket)
        assert cluster.in_state("ready") == list(range(1, 10))
        assert cluster.in_state("dialing") == [0]
