# SPDX-License-Identifier: Apache-2.0
import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.control import slots
from discluster.control.mastertime import MasterTime
from discluster.control.permits import PermitDesk
from discluster.messages import (
    Message,
    Permit,
    PermitDenied,
    PermitRequest,
    PermitReturned,
    PermitUsed,
)
from discluster.plan import IdentifySlots
from tests.clock import ManualClock, settle
from tests.unit.control.purses import full_purse

INTERVAL = 5.05
AHEAD = 500.0  # seconds by which MASTER's clock is ahead of the machine's
ALONE = IdentifySlots(max_concurrency=1, slot=0, slots=1)


class Desk:
    """A desk with its loop running; notes what MASTER and the clusters are told."""

    def __init__(self, wall: float = 1_700_000_000.0, identify: IdentifySlots = ALONE) -> None:
        self.clock = ManualClock(wall=wall)
        self.desk = PermitDesk(clock=self.clock, interval=INTERVAL, purse=full_purse(self.clock))
        self.desk.follow(identify)
        self.to_master: list[Message] = []
        self.granted: list[tuple[int, float]] = []
        self.answers: list[Message] = []
        self.ends: list[float] = []
        self.task = asyncio.create_task(self.desk.run())

    def connect(self, way: float = 0.0) -> None:
        """``way``: seconds to MASTER, and from there."""
        now = self.clock.monotonic()
        time = MasterTime(asked=now - 2 * way, told=now - way + AHEAD, heard=now)
        self.desk.master_connected(self.to_master.append, time)
        self.to_master.pop(0)  # the report on the allowance

    def permit(self, shard: int, *, since: float = 0.0, life: float = 10.0) -> Permit:
        """As MASTER words it; ``since``: seconds from now."""
        begins = self.clock.monotonic() + AHEAD + since
        return Permit(shard=shard, since=begins, until=begins + life)

    def here(self, shard: int, *, since: float = 0.0, life: float = 10.0) -> Permit:
        """As the cluster is to be told."""
        begins = self.clock.monotonic() + since
        return Permit(shard=shard, since=begins, until=begins + life)

    def used(self, shard: int, *, since: float = 0.0, alone: bool = False) -> PermitUsed:
        """As MASTER is to be told; ``since``: when, in seconds from now."""
        return PermitUsed(shard=shard, at=self.clock.monotonic() + AHEAD + since, alone=alone)

    def request(self, shard: int, cluster: int = 1) -> None:
        self.desk.request(shard, cluster=cluster, reply=self._reply)

    def _reply(self, message: Message) -> None:
        self.answers.append(message)
        if isinstance(message, Permit):
            self.granted.append((message.shard, self.clock.wall()))
            self.ends.append(message.until)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    await made.close()


async def test_request_goes_to_master_and_its_permit_to_the_cluster(desk: Desk) -> None:
    desk.connect()
    desk.request(3)
    assert desk.to_master == [PermitRequest(shard=3)]
    desk.desk.answer(desk.permit(3, since=0.25))
    assert desk.answers == [desk.here(3, since=0.25)], "by the machine's clock"
    await desk.clock.advance(1)
    desk.desk.used(3, at=desk.clock.monotonic() - 0.5)
    assert desk.to_master[1:] == [desk.used(3, since=-0.5)], "by MASTER's clock"


async def test_denial_is_forwarded_and_forgotten(desk: Desk) -> None:
    desk.connect()
    denied = PermitDenied(shard=3, reason="the budget is spent", retry_after=60.0)
    desk.request(3)
    desk.desk.answer(denied)
    assert desk.answers == [denied]
    desk.desk.answer(desk.permit(3))
    assert desk.answers == [denied]
    assert desk.to_master[-1] == PermitReturned(shard=3)


async def test_permit_for_a_shard_that_gave_up_goes_back(desk: Desk) -> None:
    desk.connect()
    desk.request(3)
    desk.desk.returned(3)
    desk.desk.answer(desk.permit(3))
    assert desk.to_master[1:] == [PermitReturned(shard=3), PermitReturned(shard=3)]
    assert desk.answers == []


async def test_lost_cluster_returns_what_it_waited_for(desk: Desk) -> None:
    desk.connect()
    desk.request(3, cluster=1)
    desk.request(4, cluster=2)
    desk.desk.cluster_gone(1)
    assert desk.to_master[2:] == [PermitReturned(shard=3)]


@pytest.mark.covers("T-38")
async def test_permit_of_a_lost_cluster_counts_as_used(desk: Desk) -> None:
    """It may have identified just before it was killed; Discord counts that."""
    desk.connect()
    desk.request(3)
    desk.desk.answer(desk.permit(3))
    desk.desk.cluster_gone(1)
    assert desk.to_master[1:] == [desk.used(3, since=10)], "it may even live, and use it yet"


@pytest.mark.covers("T-38")
async def test_permit_that_a_lost_cluster_could_not_use_yet_goes_back(desk: Desk) -> None:
    desk.connect()
    desk.request(3)
    desk.desk.answer(desk.permit(3, since=0.25))
    desk.desk.cluster_gone(1)
    assert desk.to_master[1:] == [PermitReturned(shard=3)]


@pytest.mark.covers("T-38")
async def test_unused_permit_goes_back(desk: Desk) -> None:
    desk.connect()
    desk.request(3)
    desk.desk.answer(desk.permit(3))
    desk.desk.returned(3)
    assert desk.to_master[1:] == [PermitReturned(shard=3)]


async def test_permit_that_came_too_late_goes_back_and_is_asked_for_again(desk: Desk) -> None:
    """It lay in the socket while CONTROL stood still."""
    desk.connect(way=0.5)
    desk.request(3)
    late = desk.permit(3)
    await desk.clock.advance(9.6)
    desk.desk.answer(late)
    assert desk.answers == [], "0.4 s are left, if the way to MASTER took a second"
    assert desk.to_master[1:] == [PermitReturned(shard=3), PermitRequest(shard=3)]
    desk.desk.answer(desk.permit(3))
    assert len(desk.answers) == 1


async def test_shard_that_asks_again_while_it_holds_a_permit_has_used_it(desk: Desk) -> None:
    desk.connect()
    desk.request(3)
    desk.desk.answer(desk.permit(3))
    desk.request(3)
    assert desk.to_master[1:] == [desk.used(3), PermitRequest(shard=3)]


async def test_master_that_comes_back_hears_of_identifies_permits_and_waiters(desk: Desk) -> None:
    for shard in (1, 2, 3):
        desk.request(shard)
    while len(desk.granted) < 2:
        await desk.clock.advance(0.05)
    ends = desk.ends[-1] - desk.clock.monotonic()
    desk.desk.used(1)
    desk.connect()
    assert desk.to_master == [
        desk.used(1, alone=True),
        desk.used(2, since=ends, alone=True),
        PermitRequest(shard=3),
    ]
    desk.to_master.clear()
    desk.desk.used(2)
    desk.desk.master_lost()
    desk.connect()
    assert desk.to_master == [PermitRequest(shard=3)], "each identify is told once"


async def test_nothing_is_granted_from_slots_while_master_is_there(desk: Desk) -> None:
    desk.connect()
    desk.request(3)
    await desk.clock.advance(60)
    assert desk.granted == []


async def test_lost_master_leaves_an_interval_for_what_it_granted_last(desk: Desk) -> None:
    desk.connect()
    await desk.clock.advance(100)
    desk.desk.master_lost()
    lost = desk.clock.wall()
    desk.request(3)
    await desk.clock.advance(30)
    assert desk.granted[0][1] - lost >= INTERVAL


async def test_own_slots_wait_until_master_must_know_that_it_is_out_of_touch(desk: Desk) -> None:
    desk.desk.follow(IdentifySlots(slot=0, slots=1, after=45.0))
    desk.connect()
    desk.desk.master_lost()
    lost = desk.clock.wall()
    desk.request(3)
    await desk.clock.advance(44.9)
    assert desk.granted == []
    await desk.clock.advance(30)
    assert 45.0 <= desk.granted[0][1] - lost <= 45.0 + slots.window_length(INTERVAL)


@pytest.mark.covers("T-39")
async def test_new_control_leaves_an_interval_for_its_predecessor() -> None:
    """CONTROL was killed right after it granted: its successor must not use the same window."""
    window = slots.window_length(INTERVAL)
    start = window * 1000
    first = Desk(wall=start)
    first.request(3)
    await first.clock.advance(window + 0.5)
    at = first.granted[0][1]
    await first.close()
    second = Desk(wall=at + 0.5)
    second.request(7)
    await second.clock.advance(3 * window)
    await second.close()
    assert second.granted[0][1] - at >= INTERVAL


@pytest.mark.covers("F31", "T-43")
async def test_wall_clock_set_back_opens_no_second_turn() -> None:
    desk = Desk(wall=slots.window_length(INTERVAL) * 1000)
    desk.request(1)
    await desk.clock.advance(11)
    assert len(desk.granted) == 1
    granted = desk.clock.monotonic()
    desk.clock._wall -= slots.window_length(INTERVAL)
    desk.request(2)
    while len(desk.granted) < 2:
        await desk.clock.advance(0.25)
        assert desk.clock.monotonic() - granted < 60
    assert desk.clock.monotonic() - granted >= INTERVAL - 0.5
    await desk.close()


async def test_a_permit_from_the_own_slot_ends_with_the_part_of_the_window_that_is_ours(
    desk: Desk,
) -> None:
    desk.request(1)
    await desk.clock.advance(22)
    window = slots.window_length(INTERVAL)
    ends_at = desk.ends[0] - desk.clock.monotonic() + desk.clock.wall()
    assert ends_at % window == pytest.approx(window / 4)


async def test_a_turn_that_was_not_used_is_taken_by_the_next_in_the_same_window(
    desk: Desk,
) -> None:
    desk.request(1)
    desk.request(2)
    while not desk.granted:
        await desk.clock.advance(0.1)
    desk.desk.returned(1)
    await desk.clock.advance(0.1)
    assert [shard for shard, _ in desk.granted] == [1, 2]
    assert desk.ends[0] == pytest.approx(desk.ends[1], abs=1e-3)
    desk.request(3)
    await desk.clock.advance(1)
    assert len(desk.granted) == 2


async def test_a_host_without_a_slot_identifies_only_with_masters_permit() -> None:
    desk = Desk(identify=IdentifySlots(slot=None, slots=1))
    desk.request(1)
    await desk.clock.advance(120)
    assert desk.granted == []
    desk.connect()
    desk.desk.answer(desk.permit(1))
    assert [shard for shard, _ in desk.granted] == [1]
    await desk.close()


@pytest.mark.covers("T-41")
async def test_buckets_have_turns_of_their_own() -> None:
    desk = Desk(identify=IdentifySlots(max_concurrency=2, slot=0, slots=1))
    for shard in range(4):
        desk.request(shard)
    await desk.clock.advance(21)
    assert {shard for shard, _ in desk.granted} == {0, 1}
    await desk.clock.advance(11)
    assert {shard for shard, _ in desk.granted} == {0, 1, 2, 3}
    await desk.close()


async def test_without_a_plan_nobody_identifies() -> None:
    clock = ManualClock()
    desk = PermitDesk(clock=clock, interval=INTERVAL, purse=full_purse(clock))
    answers: list[Any] = []
    task = asyncio.create_task(desk.run())
    desk.request(1, cluster=1, reply=answers.append)
    await clock.advance(60)
    assert answers == []
    desk.follow(ALONE)
    await clock.advance(12)
    assert [answer.shard for answer in answers] == [1]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await settle()


@pytest.mark.covers("F12", "O-07")
async def test_nobody_identifies_from_slots_while_discord_rejects_the_fleet(desk: Desk) -> None:
    desk.request(3)
    desk.desk.block(True)
    await desk.clock.advance(120)
    assert desk.granted == []
    desk.desk.block(False)
    await desk.clock.advance(12)
    assert [shard for shard, _ in desk.granted] == [3]


@given(
    hosts=st.integers(1, 4),
    skews=st.lists(st.floats(-INTERVAL / 4, INTERVAL / 4), min_size=4, max_size=4),
    begin=st.floats(0, 100),
    interval=st.just(INTERVAL),
)
def test_hosts_whose_clocks_differ_by_half_an_interval_keep_it(
    hosts: int, skews: list[float], begin: float, interval: float
) -> None:
    """The bound in slots.py: true times of all turns of one bucket, for all hosts."""
    turns = []
    for host in range(hosts):
        mine = IdentifySlots(slot=host, slots=hosts)
        now, last = 1_700_000_000.0 + begin, None
        while now < 1_700_000_000.0 + begin + 120:
            window = slots.current_window(now + skews[host], mine, interval)
            if window is not None and window != last:
                # Both ends of what the window allows.
                start = window * slots.window_length(interval) - skews[host]
                turns.append((start, start + interval / 2, host, window))
                last = window
            now += 0.25
    turns.sort()
    for (_, end, *_), (start, *_) in itertools.pairwise(turns):
        assert start - end >= interval - 1e-6


@given(
    now=st.floats(0, 4e9),
    count=st.integers(1, 50),
    slot=st.integers(0, 49),
    interval=st.floats(0.5, 60),
)
def test_next_window_is_this_hosts_and_strictly_later(
    now: float, count: int, slot: int, interval: float
) -> None:
    mine = IdentifySlots(slot=slot % count, slots=count)
    start = slots.next_window_start(now, mine, interval)
    assert now < start <= now + slots.window_length(interval) * (count + 1e-6)
    middle = start + interval / 8
    assert slots.current_window(middle, mine, interval) is not None
    assert slots.current_window(start + interval * 0.75, mine, interval) is None
