# SPDX-License-Identifier: Apache-2.0
"""A handler that takes what one read brought, at once."""

import asyncio
from collections.abc import Awaitable

import pytest

from discluster.gateway import LATER, Event, Later
from discluster.gateway.failing import HandlerFailures, Reaction
from discluster.gateway.handling import Handling
from tests.clock import ManualClock, settle
from tests.unit.gateway.fakes import Rig, stored_session


class Batches:
    """``batches``: the sequences of each. ``answers``: what it returns, or raises, for each."""

    def __init__(self, *, wants: frozenset[str] | None = None, reaction: Reaction = "skip") -> None:
        self.batches: list[list[int]] = []
        self.events: list[Event] = []
        self.answers: list[Awaitable[Later | None] | Later | Exception | None] = []
        self.clock = ManualClock()
        self.failures = HandlerFailures(clock=self.clock, reaction=reaction, tries=3)
        self.handling = Handling(batch=self.take, failures=self.failures, wants=wants)

    def take(self, events: list[Event]) -> Awaitable[Later | None] | Later | None:
        self.batches.append([event.seq for event in events])
        self.events += events
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def gets(rig: Rig, *seqs: int, unwanted: tuple[int, ...] = ()) -> None:
    """All in one read."""
    with rig.socket.together():
        for seq in seqs:
            rig.socket.event(seq, "TYPING_START" if seq in unwanted else "MESSAGE_CREATE")
    await settle()


def resumed_rig(batches: Batches, *, unacknowledged: int = 100) -> Rig:
    return Rig(
        session=stored_session(seq=41), handler=batches.handling, unacknowledged=unacknowledged
    )


async def test_what_one_read_brought_is_one_batch() -> None:
    batches = Batches()
    async with resumed_rig(batches) as rig:
        await rig.become_resumed(42)
        await gets(rig, 43, 44, 45)
        await gets(rig, 46)
        assert batches.batches == [[42], [43, 44, 45], [46]]
        assert rig.sessions.advances == [42, 45, 46], "once for each batch, when it was taken"
        assert rig.shard.view().events == 5


async def test_batch_is_taken_when_its_awaitable_is_done_and_not_before() -> None:
    batches = Batches()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with resumed_rig(batches) as rig:
        await rig.become_resumed(42)
        batches.answers = [done]
        await gets(rig, 43, 44)
        await gets(rig, 45)
        assert batches.batches == [[42], [43, 44]]
        assert rig.sessions.seq == 42
        done.set_result(None)
        await settle()
        assert batches.batches == [[42], [43, 44], [45]]
        assert rig.sessions.seq == 45


async def test_shard_that_stops_amid_a_batch_has_taken_none_of_it() -> None:
    batches = Batches()
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with resumed_rig(batches) as rig:
        socket = await rig.become_resumed(42)
        batches.answers = [never]
        await gets(rig, 43, 44)
        stopping = asyncio.create_task(rig.shard.stop())
        await rig.clock.advance(1.5)
        await stopping
        assert rig.sessions.seq == 42
        assert socket.close_codes == [4000]


async def test_unwanted_events_in_a_batch_are_passed_over_with_it() -> None:
    batches = Batches(wants=frozenset({"MESSAGE_CREATE"}))
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with resumed_rig(batches) as rig:
        await rig.become_resumed(42)
        assert rig.sessions.seq == 42
        batches.answers = [done]
        await gets(rig, 43, 44, 45, 46, unwanted=(43, 45, 46))
        assert batches.batches == [[44]]
        assert rig.sessions.seq == 42, "nothing passes what is not taken"
        done.set_result(None)
        await settle()
        assert rig.sessions.seq == 46
        await gets(rig, 47, 48, unwanted=(47, 48))
        assert batches.batches == [[44]], "never an empty one"
        assert rig.sessions.seq == 48


async def test_batch_that_is_acknowledged_later_may_be_so_in_parts() -> None:
    batches = Batches(wants=frozenset({"MESSAGE_CREATE"}))
    async with resumed_rig(batches, unacknowledged=4) as rig:
        await rig.become_resumed(42)
        batches.answers = [LATER, LATER]
        await gets(rig, 43, 44, 45, unwanted=(45,))
        assert rig.sessions.seq == 42
        rig.shard.taken(batches.events[0])
        assert rig.sessions.seq == 43
        await gets(rig, 46, 47, 48)
        assert "acknowledged" in str(rig.shard.view().problem)
        await gets(rig, 49)
        assert batches.batches == [[43, 44], [46, 47, 48]], "it has enough"
        rig.shard.taken(batches.events[-1])
        await settle()
        assert batches.batches[-1] == [49]
        assert rig.sessions.seq == 49


async def test_batch_may_be_acknowledged_in_part_before_it_is_handed_over() -> None:
    batches = Batches()

    async def acknowledges_in_part() -> Later:
        rig.shard.taken(batches.events[2])
        return LATER

    async with resumed_rig(batches) as rig:
        await rig.become_resumed(42)
        batches.answers = [acknowledges_in_part()]
        await gets(rig, 43, 44, 44, 45, 46)
        assert batches.events[2].seq == 44
        assert rig.sessions.seq == 44
        assert rig.sessions.advances == [42, 44], "once for all that was acknowledged"
        rig.shard.taken(batches.events[-2])
        assert rig.sessions.seq == 45
        rig.shard.taken(batches.events[-1])
        assert rig.sessions.seq == 46


@pytest.mark.parametrize("soon", [False, True])
async def test_batch_that_fails_is_skipped_whole(
    soon: bool, caplog: pytest.LogCaptureFixture
) -> None:
    batches = Batches()
    async with resumed_rig(batches) as rig:
        await rig.become_resumed(42)
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        failed.set_exception(ValueError("no database"))
        batches.answers = [failed if soon else ValueError("no database")]
        if not soon:
            failed.exception()
        await gets(rig, 43, 44)
        assert rig.sessions.seq == 44
    [record] = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "a batch of 2 events, MESSAGE_CREATE (sequences 43 to 44)" in record.getMessage()
    assert record.__dict__["SEQ"] == "43 to 44"
    assert batches.failures.counts == {"MESSAGE_CREATE": 2}
    assert batches.failures.skipped == 2


async def test_batch_that_is_tried_again_is_the_same_one() -> None:
    batches = Batches(reaction="retry")
    async with resumed_rig(batches) as rig:
        await rig.become_resumed(42)
        batches.answers = [ValueError("no database")]
        await gets(rig, 43, 44)
        await gets(rig, 45)
        assert rig.sessions.seq == 42
        await batches.clock.advance(0.5)
        await settle()
        assert batches.batches == [[42], [43, 44], [43, 44], [45]]
        assert rig.sessions.seq == 45


async def test_new_session_within_a_batch_counts_its_own_sequences() -> None:
    batches = Batches()
    async with resumed_rig(batches) as rig:
        await rig.become_resumed(500)
        rig.socket.payload(9, False)
        await rig.next_socket()
        await rig.become_ready("session-2")
        await gets(rig, 2, 3)
        assert (rig.sessions.seq, batches.batches[-2:]) == (3, [[1], [2, 3]])
        assert batches.events[-1].session_id == "session-2"
