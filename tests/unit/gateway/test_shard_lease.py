# SPDX-License-Identifier: Apache-2.0
"""A shard whose lease ends: what it read is nobody's, and comes again."""

import asyncio
from collections.abc import Awaitable

import pytest

from discluster.gateway import Event
from discluster.gateway.gate import OpenGate
from tests.clock import settle
from tests.unit.gateway.fakes import Rig, stored_session


class LeasedGate(OpenGate):
    """``left``: for how many more questions the lease holds. ``blinks``: it is over for one."""

    def __init__(self) -> None:
        self.left: float = float("inf")
        self.asked = 0
        self.blinks = False
        self._news = asyncio.Event()

    def may_run(self) -> bool:
        self.asked += 1
        if self.blinks:
            self.blinks = False
            return False
        self.left -= 1
        return self.left >= 0

    def obstacle(self, shard: int) -> str | None:
        return None if self.left > 0 else "the lease ended"

    async def changed(self) -> None:
        await self._news.wait()

    def renew(self) -> None:
        self.left = float("inf")
        self._news.set()


async def test_what_was_read_after_the_end_of_the_lease_is_not_handed_over() -> None:
    gate = LeasedGate()
    async with Rig(session=stored_session(seq=41), gate=gate) as rig:
        socket = await rig.become_resumed(seq=42)
        gate.left = 0
        socket.event(43)
        socket.event(44)
        await settle()
        assert [event.seq for event in rig.events] == [42]
        assert rig.sessions.advances[-1] == 42
        assert socket.close_codes == [4000], "the session is kept"
        await rig.clock.advance(10.0)
        assert rig.state == "held"
        assert rig.shard.view().problem == "the lease ended"
        assert len(rig.transport.sockets) == 1


async def test_events_that_were_left_out_come_again_by_resume() -> None:
    gate = LeasedGate()
    async with Rig(session=stored_session(seq=41), gate=gate) as rig:
        socket = await rig.become_resumed(seq=42)
        gate.left = 0
        socket.event(43)
        await settle()
        gate.renew()
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert again.authentications()[0]["d"]["seq"] == 42
        again.event(43)
        again.event(44, "RESUMED", {})
        await settle()
        assert [event.seq for event in rig.events] == [42, 43, 44]


async def test_nothing_follows_what_was_left_out_though_the_lease_came_again() -> None:
    gate = LeasedGate()
    async with Rig(session=stored_session(seq=41), gate=gate) as rig:
        socket = await rig.become_resumed(seq=42)
        gate.blinks = True
        socket.event(43)
        socket.event(44)
        await settle()
        assert [event.seq for event in rig.events] == [42], "44 without 43 would lose 43"


async def test_lease_is_looked_at_once_for_what_one_read_brought() -> None:
    gate = LeasedGate()
    async with Rig(session=stored_session(seq=41), gate=gate) as rig:
        socket = await rig.become_resumed(seq=42)
        before = gate.asked
        with socket.together():
            for seq in range(43, 63):
                socket.event(seq)
        await settle()
        assert len(rig.events) == 21
        assert gate.asked - before == 1


async def test_lease_that_ends_while_the_handler_is_busy_ends_the_batch_there() -> None:
    gate = LeasedGate()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    taken: list[int] = []

    def handle(event: Event) -> Awaitable[None] | None:
        taken.append(event.seq)
        return done if event.seq == 43 else None

    async with Rig(session=stored_session(seq=41), gate=gate, handler=handle) as rig:
        socket = await rig.become_resumed(seq=42)
        with socket.together():
            for seq in (43, 44, 45):
                socket.event(seq)
        await settle()
        gate.left = 0
        done.set_result(None)
        await settle()
        assert taken == [42, 43]
        assert rig.sessions.advances[-1] == 43, "it was handed over in time, and taken"
        assert socket.close_codes == [4000]


@pytest.mark.parametrize("has_session", [True, False])
async def test_lease_that_ends_before_hello_costs_neither_identify_nor_resume(
    has_session: bool,
) -> None:
    gate = LeasedGate()
    async with Rig(session=stored_session() if has_session else None, gate=gate) as rig:
        gate.left = 0
        rig.socket.hello()
        await settle()
        assert rig.socket.authentications() == []
        gate.renew()
        await settle()
        assert len(rig.socket.authentications()) == 1


async def test_permit_that_arrives_after_the_end_of_the_lease_is_returned() -> None:
    gate = LeasedGate()
    async with Rig(gate=gate) as rig:
        rig.permits.held = True
        rig.socket.hello()
        await settle()
        gate.left = 0
        rig.permits.grant()
        await settle()
        assert rig.socket.authentications() == []
        assert rig.permits.log == ["asked", "granted", "returned"]


async def test_shard_without_a_lease_does_not_dial() -> None:
    gate = LeasedGate()
    gate.left = 0
    async with Rig(session=stored_session(), gate=gate) as rig:
        await rig.clock.advance(30.0)
        assert rig.transport.dials == []
        assert rig.state == "held"
        gate.renew()
        await settle()
        assert len(rig.transport.dials) == 1
