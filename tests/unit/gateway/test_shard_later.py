# SPDX-License-Identifier: Apache-2.0
"""A handler that acknowledges later, on a shard whose connection comes and goes."""

import logging

import pytest

from discluster.gateway import LATER, Event, Later
from tests.clock import settle
from tests.unit.gateway.fakes import INTERVAL, Rig


class Batch:
    """Keeps what it is handed until the test acknowledges it."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def handle(self, event: Event) -> Later | None:
        if event.type != "MESSAGE_CREATE":
            return None
        self.events.append(event)
        return LATER

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.events]


@pytest.mark.covers("T-21", "O-05")
async def test_stored_sequence_waits_for_the_acknowledgement() -> None:
    batch = Batch()
    async with Rig(handler=batch.handle) as rig:
        socket = await rig.become_ready()
        for s in (2, 3, 4):
            socket.event(s)
        socket.event(5, "TYPING_START")
        await settle()
        assert batch.seqs == [2, 3, 4], "the next event does not wait"
        assert rig.sessions.seq == 1
        rig.shard.taken(batch.events[1])
        assert rig.sessions.seq == 3
        rig.shard.taken(batch.events[0])
        assert rig.sessions.seq == 3
        rig.shard.taken(batch.events[2])
        assert rig.sessions.seq == 5, "what was taken at once after it counts, too"


async def test_lost_connection_resumes_after_what_the_handler_has_not_after_what_is_stored() -> (
    None
):
    batch = Batch()
    async with Rig(handler=batch.handle) as rig:
        socket = await rig.become_ready()
        for s in (2, 3, 4):
            socket.event(s)
        await settle()
        rig.shard.taken(batch.events[0])
        socket.end()
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert again.authentications()[0]["d"]["seq"] == 4
        assert rig.sessions.seq == 2, "after a crash it would be asked for from here"
        again.event(5)
        again.event(6, "RESUMED", {})
        await settle()
        rig.shard.taken(batch.events[-1])
        assert batch.seqs == [2, 3, 4, 5]
        assert rig.sessions.seq == 6


async def test_acknowledgement_of_a_session_that_is_over_tells_nothing_of_the_next() -> None:
    batch = Batch()
    async with Rig(handler=batch.handle) as rig:
        socket = await rig.become_ready()
        socket.event(500)
        await settle()
        socket.payload(9, False)
        await rig.next_socket()
        await rig.become_ready("session-2")
        rig.socket.event(2)
        await settle()
        rig.shard.taken(batch.events[0])
        assert rig.sessions.seq == 1
        rig.shard.taken(batch.events[1])
        assert rig.sessions.seq == 2


async def test_shard_is_read_no_more_while_too_much_is_unacknowledged_and_stays_alive(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = Batch()
    async with Rig(handler=batch.handle, unacknowledged=3) as rig:
        socket = await rig.become_ready()
        with socket.together():
            for s in (2, 3, 4, 5, 6):
                socket.event(s)
        socket.event(7)
        await settle()
        assert batch.seqs == [2, 3, 4]
        reads, beats = socket.received, len(socket.beats())
        await rig.clock.advance(3 * INTERVAL)
        assert batch.seqs == [2, 3, 4]
        assert socket.received == reads
        assert len(socket.beats()) - beats >= 2, "an ACK that cannot be read is no reason to end"
        assert rig.state == "ready"
        assert "acknowledge" in str(rig.shard.view().problem)
        [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "Shard 3: the handler has 3 events to acknowledge" in warning.getMessage()
        rig.shard.taken(batch.events[0])
        await settle()
        assert batch.seqs == [2, 3, 4, 5]
        rig.shard.taken(batch.events[-1])
        await settle()
        assert batch.seqs == [2, 3, 4, 5, 6, 7]
        assert rig.shard.view().problem is None
        assert len(rig.transport.dials) == 1


async def test_late_answer_of_an_awaitable_counts_as_later() -> None:
    kept: list[Event] = []

    async def handle(event: Event) -> Later | None:
        kept.append(event)
        await settle(1)
        return LATER

    async with Rig(handler=handle, unacknowledged=2) as rig:
        socket = await rig.become_ready()
        for s in (2, 3, 4):
            socket.event(s)
        await settle()
        assert [event.seq for event in kept] == [1, 2, 3]
        assert rig.sessions.seq == 1
        rig.shard.taken(kept[1])
        await settle()
        assert rig.sessions.seq == 2
        assert [event.seq for event in kept] == [1, 2, 3, 4]


async def test_what_is_acknowledged_after_the_stop_is_still_stored() -> None:
    batch = Batch()
    async with Rig(handler=batch.handle, unacknowledged=2) as rig:
        socket = await rig.become_ready()
        for s in (2, 3, 4):
            socket.event(s)
        await settle()
        before = rig.clock.monotonic()
        await rig.shard.stop()
        assert rig.clock.monotonic() == before, "a shard that waits for its handler ends at once"
        assert batch.seqs == [2, 3]
        assert rig.sessions.seq == 1
        rig.shard.taken(batch.events[-1])
        assert rig.sessions.seq == 3
        assert socket.close_codes == [4000]


async def test_session_without_an_id_is_bounded_and_stored_nowhere() -> None:
    batch = Batch()
    async with Rig(handler=batch.handle, unacknowledged=2) as rig:
        socket = await rig.become_ready(session_id="")
        for s in (2, 3, 4):
            socket.event(s)
        await settle()
        rig.shard.taken(batch.events[-1])
        await settle()
        assert batch.seqs == [2, 3, 4]
        assert rig.sessions.advances == []
