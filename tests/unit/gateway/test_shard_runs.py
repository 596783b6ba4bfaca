# SPDX-License-Identifier: Apache-2.0
"""Many payloads that one read of the socket brought: the order, and whatever interrupts it."""

import asyncio
from collections.abc import Callable

import pytest

from discluster.gateway import Event
from discluster.gateway.ending import Ending
from tests.clock import settle
from tests.unit.gateway.fakes import FakeSocket, Rig, stored_session


class Gate:
    """A handler that is busy with the events of ``busy`` until they are let through."""

    def __init__(self, *busy: int) -> None:
        self.taken: list[int] = []
        self._busy = busy
        self._open = asyncio.Queue[None]()

    def __call__(self, event: Event) -> "asyncio.Future[None] | None":
        if event.seq in self._busy:
            return asyncio.ensure_future(self._wait(event.seq))
        self.taken.append(event.seq)
        return None

    async def _wait(self, seq: int) -> None:
        await self._open.get()
        self.taken.append(seq)

    def let_through(self) -> None:
        self._open.put_nowait(None)


async def test_events_of_one_read_are_handed_over_in_order_and_each_is_stored() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        with socket.together():
            for s in range(2, 302):
                socket.event(s)
        await settle()
        assert [event.seq for event in rig.events] == list(range(1, 302))
        assert rig.sessions.advances == list(range(2, 302))
        assert rig.shard.view().events == 301


async def test_events_behind_a_busy_one_wait_for_it() -> None:
    gate = Gate(3, 5)
    async with Rig(handler=gate) as rig:
        socket = await rig.become_ready()
        with socket.together():
            for s in range(2, 8):
                socket.event(s)
        await settle()
        assert (gate.taken, rig.sessions.seq) == ([1, 2], 2)
        gate.let_through()
        await settle()
        assert (gate.taken, rig.sessions.seq) == ([1, 2, 3, 4], 4)
        gate.let_through()
        await settle()
        assert (gate.taken, rig.sessions.seq) == ([1, 2, 3, 4, 5, 6, 7], 7)


async def test_stop_while_a_handler_is_busy_hands_over_nothing_more_of_the_read() -> None:
    gate = Gate(3)
    async with Rig(handler=gate) as rig:
        socket = await rig.become_ready()
        with socket.together():
            for s in range(2, 8):
                socket.event(s)
        await settle()
        stopping = asyncio.create_task(rig.shard.stop())
        await settle()
        gate.let_through()
        await rig.clock.advance(1.5)
        await stopping
        assert (gate.taken, rig.sessions.seq) == ([1, 2, 3], 3)


@pytest.mark.covers("T-53", "F33")
async def test_nothing_of_a_dead_connection_is_handed_over_after_its_end() -> None:
    gate = Gate(3)
    async with Rig(handler=gate) as rig:
        socket = await rig.become_ready()
        with socket.together():
            for s in range(2, 8):
                socket.event(s)
            socket.payload(7)
        await settle()
        socket.aborted = True  # as the kernel would tell of a reset while nobody reads
        connection = rig.shard._connection
        assert connection is not None
        connection.end(Ending(cause="zombie", text="no ACK"))
        gate.let_through()
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert (gate.taken, rig.sessions.seq) == ([1, 2, 3], 3)
        assert again.authentications()[0]["d"]["seq"] == 3


async def test_handler_that_raises_amid_a_read_costs_that_event_only() -> None:
    taken: list[int] = []

    def handler(event: Event) -> None:
        if event.seq == 4:
            raise ValueError("bad")
        taken.append(event.seq)

    async with Rig(handler=handler) as rig:
        socket = await rig.become_ready()
        with socket.together():
            for s in range(2, 8):
                socket.event(s)
        await settle()
        assert (taken, rig.sessions.seq, rig.shard.failures) == ([1, 2, 3, 5, 6, 7], 7, 1)


async def test_hello_ready_and_events_may_come_with_one_read() -> None:
    async with Rig() as rig:
        rig.socket.hello()
        await settle()
        with rig.socket.together():
            rig.socket.event(9, "STRAY")
            rig.socket.ready()
            rig.socket.event(2)
            rig.socket.ack()
            rig.socket.event(3)
        await settle()
        assert [event.type for event in rig.events] == ["READY", "MESSAGE_CREATE", "MESSAGE_CREATE"]
        assert (rig.state, rig.sessions.seq) == ("ready", 3)


async def test_replay_and_resumed_with_one_read_are_counted_apart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with Rig(session=stored_session(seq=41)) as rig:
        rig.socket.hello()
        await settle()
        with rig.socket.together():
            for s in (42, 43):
                rig.socket.event(s)
            rig.socket.event(44, "RESUMED", {})
            rig.socket.event(45)
        await settle()
        assert [event.seq for event in rig.events] == [42, 43, 44, 45]
        assert "resumed with 2 events" in caplog.text


@pytest.mark.covers("F36")
@pytest.mark.parametrize("end", [lambda s: s.payload(7), lambda s: s.payload(9, False)])
async def test_what_comes_after_the_end_with_the_same_read_is_not_handed_over(
    end: Callable[[FakeSocket], None],
) -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        with socket.together():
            socket.event(2)
            end(socket)
            socket.event(3)
        await settle()
        assert [event.seq for event in rig.events] == [1, 2]


@pytest.mark.covers("T-34")
async def test_handler_that_computes_for_long_gives_others_their_turn_amid_a_read() -> None:
    """Else heartbeats, and all other shards, would wait until the whole read is worked off."""
    turns_at: list[int] = []

    def compute(event: Event) -> None:
        rig.clock.jump(0.01)
        turns_at.append(turns)

    turns = 0
    async with Rig(handler=compute) as rig:
        socket = await rig.become_ready()
        with socket.together():
            for s in range(2, 302):
                socket.event(s, d={"content": "x" * 2000})
        while len(turns_at) < 301:
            await asyncio.sleep(0)
            turns += 1
    waits = [turns_at.count(turn) for turn in set(turns_at)]
    assert max(waits) < 40
