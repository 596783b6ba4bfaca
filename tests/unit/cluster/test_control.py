# SPDX-License-Identifier: Apache-2.0
"""The cluster's connection to CONTROL."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from discluster.clock import SystemClock
from discluster.cluster.calls import ClusterCalls
from discluster.cluster.control import ControlLink
from discluster.cluster.gate import ClusterGate
from discluster.messages import (
    Assignment,
    ClusterReport,
    Lease,
    PermitDenied,
    PermitRequest,
    PermitReturned,
    PermitUsed,
    Rejected,
)
from tests.unit.cluster.controls import FakeControl, endless_lease, permit
from tests.waiting import wait_for

ASSIGNMENT = Assignment(
    cluster=3, generation=1, shard_count=4, gateway_url="wss://g.example", shards=(1,)
)


class Rig:
    def __init__(self, path: Path) -> None:
        self.control = FakeControl(path)
        self.assigned: list[Assignment] = []
        self.leases: list[Lease] = []
        self.uptime = 0
        self.gate = ClusterGate(lease=endless_lease(), clock=SystemClock(), rng=random.Random(1))
        self.link = ControlLink(
            path=path,
            report=self._report,
            on_assignment=self.assigned.append,
            on_lease=self.leases.append,
            gate=self.gate,
            calls=ClusterCalls(cluster=3, methods={}, clock=SystemClock()),
            clock=SystemClock(),
            rng=random.Random(1),
        )
        self.task = asyncio.create_task(self.link.run())

    def _report(self) -> ClusterReport:
        self.uptime += 1
        return ClusterReport(
            cluster=3, pid=1, generation=0, uptime=self.uptime, handler="", shards=()
        )


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path / "control.sock")
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_cluster_introduces_itself_and_follows_assignments(rig: Rig) -> None:
    async with rig.control as control:
        await wait_for(lambda: control.heard, 5)
        assert control.reports[0].cluster == 3
        assert rig.link.connected
        control.say(ASSIGNMENT)
        await wait_for(lambda: rig.assigned == [ASSIGNMENT], 5)


async def test_change_is_reported_soon_and_bursts_in_one(rig: Rig) -> None:
    async with rig.control as control:
        await wait_for(lambda: control.heard, 5)
        before = len(control.reports)
        for _ in range(100):
            rig.link.report_soon()
        await wait_for(lambda: len(control.reports) > before, 1.5)
        assert len(control.reports) <= before + 2


async def test_permit_is_asked_for_used_and_returned(rig: Rig) -> None:
    async with rig.control as control:
        await wait_for(lambda: control.heard, 5)
        await asyncio.wait_for(rig.link.acquire(1), 5)
        rig.link.used(1)
        await asyncio.wait_for(rig.link.acquire(2), 5)
        rig.link.returned(2)
        await wait_for(lambda: len(control.permits) == 4, 5)
        asked, used, *others = control.permits
        assert asked == PermitRequest(shard=1)
        assert isinstance(used, PermitUsed)
        assert used.at == pytest.approx(SystemClock().monotonic(), abs=5)
        assert others == [PermitRequest(shard=2), PermitReturned(shard=2)]


@pytest.mark.covers("T-37")
async def test_permit_that_comes_ahead_of_its_time_is_used_at_its_time(rig: Rig) -> None:
    rig.control.grants = False
    async with rig.control as control:
        await wait_for(lambda: control.heard, 5)
        asking = asyncio.create_task(rig.link.acquire(1))
        await wait_for(lambda: control.permits, 5)
        coming = permit(1, since=0.3)
        control.say(coming)
        await asyncio.wait_for(asking, 5)
        assert SystemClock().monotonic() >= coming.since
        assert rig.link.valid(1)


@pytest.mark.covers("T-37")
async def test_permit_is_void_once_its_time_is_over(rig: Rig) -> None:
    rig.control.grants = False
    async with rig.control as control:
        await wait_for(lambda: control.heard, 5)
        asking = asyncio.create_task(rig.link.acquire(1))
        await wait_for(lambda: control.permits, 5)
        assert not rig.link.valid(1)
        control.say(permit(1, life=0.2))
        await asyncio.wait_for(asking, 5)
        await wait_for(lambda: not rig.link.valid(1), 5)
        assert SystemClock().monotonic() >= 0.2


async def test_identify_that_control_was_not_there_to_hear_of_is_told_when_it_is_back(
    rig: Rig,
) -> None:
    async with rig.control as control:
        await wait_for(lambda: control.heard, 5)
        await asyncio.wait_for(rig.link.acquire(1), 5)
    await wait_for(lambda: not rig.link.connected, 5)
    rig.link.used(1)
    at = SystemClock().monotonic()
    async with rig.control as control:
        await wait_for(lambda: any(isinstance(m, PermitUsed) for m in control.permits), 10)
        (used,) = [m for m in control.permits if isinstance(m, PermitUsed)]
        assert used.at == pytest.approx(at, abs=0.5)


async def test_permit_is_asked_for_again_after_control_was_away(rig: Rig) -> None:
    asking = asyncio.create_task(rig.link.acquire(1))
    rig.control.grants = False
    async with rig.control as control:
        await wait_for(lambda: control.permits == [PermitRequest(shard=1)], 5)
        control.heard.clear()
        control.hang_up()
        await wait_for(lambda: control.permits == [PermitRequest(shard=1)], 5)
        assert isinstance(control.heard[0], ClusterReport), "it introduces itself first"
        control.say(permit(1))
        await asyncio.wait_for(asking, 5)


async def test_cancelled_request_is_returned(rig: Rig) -> None:
    rig.control.grants = False
    async with rig.control as control:
        await wait_for(lambda: control.heard, 5)
        asking = asyncio.create_task(rig.link.acquire(1))
        await wait_for(lambda: control.permits, 5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await wait_for(lambda: control.permits[1:] == [PermitReturned(shard=1)], 5)
        control.say(permit(1))
        await wait_for(lambda: control.permits[2:] == [PermitReturned(shard=1)], 5)


async def test_denial_is_shown_and_asked_about_again(rig: Rig) -> None:
    rig.control.grants = False
    async with rig.control as control:
        await wait_for(lambda: control.heard, 5)
        asking = asyncio.create_task(rig.link.acquire(1))
        await wait_for(lambda: control.permits, 5)
        control.say(PermitDenied(shard=1, reason="the budget is spent", retry_after=0.05))
        await wait_for(lambda: rig.link.denials == {1: "the budget is spent"}, 5)
        await wait_for(lambda: len(control.permits) == 2, 5)
        control.say(permit(1))
        await asyncio.wait_for(asking, 5)
        assert rig.link.denials == {}


@pytest.mark.parametrize(
    "said",
    [b"garbage\n", Rejected(code="x", reason="no"), b"x" * 5_000_000],
    ids=["garbage", "rejected", "oversized"],
)
async def test_senseless_control_is_left_and_tried_again(rig: Rig, said: bytes | Rejected) -> None:
    async with rig.control as control:
        await wait_for(lambda: control.heard, 5)
        control.heard.clear()
        control.say(said)
        await wait_for(lambda: control.reports and control.reports[0].uptime > 1, 5)
        control.say(ASSIGNMENT)
        await wait_for(lambda: rig.assigned, 5)


async def test_last_word_is_a_report(rig: Rig) -> None:
    await rig.link.say_last()
    async with rig.control as control:
        await wait_for(lambda: rig.link.connected and control.heard, 5)
        before = len(control.reports)
        await rig.link.say_last()
        await wait_for(lambda: len(control.reports) > before, 5)


async def test_lease_is_passed_on_with_each_connection(rig: Rig) -> None:
    rig.control.lease = Lease(until=7.0, then="keep")
    async with rig.control as control:
        await wait_for(lambda: rig.leases == [Lease(until=7.0, then="keep")], 5)
        control.say(Lease(until=9.0))
        await wait_for(lambda: rig.leases[1:] == [Lease(until=9.0)], 5)
