# SPDX-License-Identifier: Apache-2.0
"""A shard whose session is given up on purpose, for a new one."""

import pytest

from tests.clock import settle
from tests.unit.gateway.fakes import EDGE, GATEWAY, QUERY, Rig, stored_session

WHY = "nobody knows its guilds"


async def test_renewed_shard_ends_its_session_and_identifies_with_a_permit() -> None:
    async with Rig(session=stored_session(seq=41)) as rig:
        before = await rig.become_resumed(seq=42)
        rig.shard.renew(WHY)
        await settle()
        assert before.close_codes == [1000]
        assert rig.permits.log == []
        assert rig.shard.view().problem == f"its session is given up for a new one: {WHY}"
        socket = await rig.next_socket()
        assert socket.url == GATEWAY + QUERY
        socket.hello()
        await settle()
        assert socket.ops() == [2]
        assert rig.permits.log == ["asked", "granted", "used"]
        socket.ready("session-2")
        await settle()
        assert rig.sessions.session is not None
        assert rig.sessions.session.session_id == "session-2"


async def test_session_that_is_given_up_is_forgotten_only_when_its_connection_is_over() -> None:
    async with Rig(session=stored_session()) as rig:
        await rig.become_resumed()
        rig.shard.renew(WHY)
        assert rig.sessions.clears == 0
        await settle()
        assert rig.sessions.clears == 1


async def test_nothing_is_handed_over_of_a_session_that_is_given_up() -> None:
    async with Rig(session=stored_session(seq=41)) as rig:
        socket = await rig.become_resumed(seq=42)
        rig.shard.renew(WHY)
        socket.event(43)
        await settle()
        assert [event.seq for event in rig.events] == [42]


async def test_shard_that_is_away_does_not_resume_what_was_given_up() -> None:
    async with Rig(session=stored_session()) as rig:
        socket = await rig.become_resumed()
        socket.end(4000)
        await settle()
        assert rig.state == "backoff"
        rig.shard.renew(WHY)
        socket = await rig.next_socket()
        assert socket.url == GATEWAY + QUERY
        socket.hello()
        await settle()
        assert socket.ops() == [2]


async def test_shard_that_greets_does_not_resume_what_was_given_up() -> None:
    async with Rig(session=stored_session()) as rig:
        rig.shard.renew(WHY)
        await settle()
        socket = await rig.next_socket()
        socket.hello()
        await settle()
        assert socket.ops() == [2]


class RenewedWhileDialing(Rig):
    """Its session is given up at the first dial, which succeeds all the same."""

    def _changed(self) -> None:
        super()._changed()
        if self.states == ["dialing"]:
            self.shard.renew(WHY)


async def test_shard_that_dials_does_not_identify_where_it_was_to_resume() -> None:
    async with RenewedWhileDialing(session=stored_session()) as rig:
        socket = rig.socket
        assert socket.url == EDGE + QUERY
        socket.hello()
        await settle()
        assert (socket.ops(), socket.close_codes) == ([], [1000])
        socket = await rig.next_socket()
        assert socket.url == GATEWAY + QUERY
        socket.hello()
        await settle()
        assert socket.ops() == [2]


@pytest.mark.parametrize("times", [1, 3])
async def test_renewing_again_while_it_is_renewed_costs_one_identify(times: int) -> None:
    async with Rig(session=stored_session()) as rig:
        await rig.become_resumed()
        for _ in range(times):
            rig.shard.renew(WHY)
        await rig.next_socket()
        for _ in range(times):
            rig.shard.renew(WHY)
        rig.socket.hello()
        await settle()
        for _ in range(times):
            rig.shard.renew(WHY)
        rig.socket.ready("session-2")
        await settle()
        assert rig.state == "ready"
        assert rig.shard.view().identifies == 1


async def test_renewing_a_shard_that_has_no_session_changes_nothing() -> None:
    async with Rig() as rig:
        rig.shard.renew(WHY)
        await rig.become_ready()
        assert rig.shard.view().identifies == 1
        assert len(rig.transport.sockets) == 1
