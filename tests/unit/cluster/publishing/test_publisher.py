# SPDX-License-Identifier: Apache-2.0
"""The publisher: nothing is acknowledged that is not stored, and what is not comes again."""

import asyncio
import random

import pytest

from discluster.cluster.handlers.publishing.publisher import before_dial
from tests.clock import settle
from tests.unit.cluster.publishing.fakes import PATIENCE, Publishing

SOON = 1.0  # the first pauses before a dial are shorter


async def test_batch_is_written_at_once_and_acknowledged_when_it_is_stored() -> None:
    async with Publishing() as at:
        at.publish(7, b"a", b"b")
        assert at.broker.newest.written == [(0, b"a"), (1, b"b")]
        await at.broker.newest.store(0)
        assert at.taken == []
        await at.broker.newest.store(1)
        assert at.taken == [(1, 7)]
        assert at.publisher.summary() == "2 events published to Broker"


async def test_more_than_may_be_on_the_way_waits_for_answers() -> None:
    async with Publishing(in_flight=2) as at:
        for seq in range(1, 5):
            at.publish(seq)
        assert at.broker.newest.numbers == [0, 1]
        await at.broker.newest.store(0)
        assert at.broker.newest.numbers == [0, 1, 2]
        await at.broker.newest.store(1, 2)
        assert at.broker.newest.numbers == [0, 1, 2, 3]


async def test_lost_connection_is_followed_by_another_with_all_that_is_not_stored() -> None:
    async with Publishing() as at:
        at.publish(3, b"a", b"b", b"c")
        at.publish(4, b"d")
        await at.broker.newest.store(1)
        await at.broker.newest.lose()
        assert at.broker.connections[0].closed
        at.publish(5, b"e")
        await at.clock.advance(SOON)
        assert len(at.broker.connections) == 2
        assert at.broker.newest.written == [(0, b"a"), (2, b"c"), (3, b"d"), (4, b"e")]
        assert at.taken == []
        await at.broker.newest.store(0, 2, 3, 4)
        assert at.taken[-1] == (1, 5)


async def test_broker_that_is_away_is_dialled_ever_more_slowly_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    at = Publishing()
    at.broker.away = "nobody answers"
    async with at:
        at.publish(1)
        await at.clock.advance(120)
        assert 8 <= at.broker.dials <= 24
        assert caplog.text.count("nobody answers") == 1
        assert at.problem == ("Broker takes no events, so they are held back: nobody answers")
        assert "1 not acknowledged, takes none for 2 min: nobody answers" in at.publisher.summary()
        at.broker.away = None
        while not at.broker.connections:
            await at.clock.advance(1)
        await at.broker.newest.store(0)
        assert at.taken == [(1, 1)]
        assert at.problem == ""
        assert "Broker takes events again, after 2 min" in caplog.text


async def test_refused_message_is_no_acknowledgement_and_is_tried_again_with_what_follows() -> None:
    async with Publishing() as at:
        at.publish(1)
        at.publish(2)
        at.publish(3)
        first = at.broker.newest
        await first.store(0)
        await first.refuse(1)
        at.publish(4)
        assert first.numbers == [0, 1, 2], "before the answers are there nothing more is sent"
        await first.refuse(2)
        assert first.closed
        assert "it is full (make room)" in at.problem
        await at.clock.advance(SOON)
        # One batch tries whether it is better now.
        assert at.broker.newest.numbers == [1]
        assert at.taken == [(1, 1)]
        await at.broker.newest.store(1)
        assert at.broker.newest.numbers == [1, 2, 3]
        await at.broker.newest.store(2, 3)
        assert at.taken == [(1, 1), (1, 2), (1, 3), (1, 4)]
        assert at.problem == ""


async def test_message_that_is_too_large_comes_in_a_smaller_form() -> None:
    async with Publishing() as at:
        at.publish(1, b"huge", b"usual")
        await at.broker.newest.store(1)
        await at.broker.newest.refuse(0, too_large=True)
        await at.clock.advance(SOON)
        assert at.broker.newest.written == [(0, b"small")]


async def test_answer_that_does_not_come_ends_the_connection_though_others_come() -> None:
    async with Publishing() as at:
        at.publish(1)
        first = at.broker.newest
        for seq in range(2, 30):
            await at.clock.advance(PATIENCE / 10)
            if first.closed:
                break
            at.publish(seq)
            await first.store(seq - 1)
        assert at.broker.connections[0].closed
        assert at.taken == []
        await at.clock.advance(SOON)
        assert at.broker.newest.numbers[0] == 0
        assert "not acknowledged within 8 seconds" in at.problem


async def test_silent_connection_is_pinged_and_then_given_up() -> None:
    async with Publishing() as at:
        first = at.broker.newest
        await at.clock.advance(PATIENCE * 1.5)
        assert (first.pings > 0, first.closed) == (True, False)
        await at.clock.advance(PATIENCE)
        assert at.broker.connections[0].closed
        await at.clock.advance(SOON)
        assert len(at.broker.connections) == 2


async def test_fault_of_ours_is_told_and_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    async with Publishing() as at:
        at.publish(1)
        at.broker.newest._answers.put_nowait(3)  # type: ignore[arg-type]
        await settle()
        assert "the connection failed" in caplog.text
        await at.clock.advance(SOON)
        await at.broker.newest.store(0)
        assert at.taken == [(1, 1)]


async def test_full_buffer_waits_until_there_is_room() -> None:
    async with Publishing(buffer=10) as at:
        at.publish(1, b"x" * 6)
        full = [at.publisher.full]
        at.publish(2, b"x" * 6)
        assert [*full, at.publisher.full] == [False, True]
        room = asyncio.create_task(at.publisher.room())
        await settle()
        assert room in asyncio.all_tasks()
        await at.broker.newest.store(0)
        await room


async def test_shard_is_drained_when_all_of_it_is_stored() -> None:
    async with Publishing() as at:
        at.publish(1)
        at.publish(2)
        at.publish(3, shard=2)
        await at.publisher.drained(5)  # has nothing
        drained = asyncio.create_task(at.publisher.drained(1))
        await at.broker.newest.store(0)
        assert drained in asyncio.all_tasks()
        await at.broker.newest.store(1)
        await drained


async def test_who_gives_up_waiting_does_not_disturb_others() -> None:
    async with Publishing() as at:
        at.publish(1)
        waiting = [asyncio.create_task(at.publisher.drained(1)) for _ in range(2)]
        await settle()
        waiting[0].cancel()
        await at.broker.newest.store(0)
        await waiting[1]


def test_pauses_grow_to_a_bound_and_are_spread() -> None:
    rng = random.Random(1)
    assert before_dial(0).high <= 0.25
    drawn = {before_dial(50).draw(rng) for _ in range(50)}
    assert len(drawn) == 50
    assert all(7.5 <= pause <= 15 for pause in drawn)
