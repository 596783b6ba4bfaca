# SPDX-License-Identifier: Apache-2.0
"""Every close code in every state (trap T-46 to T-48, fault F11 and F12)."""

import pytest

from discluster.gateway.closecodes import RULES, Action, rule_for
from discluster.messages import ShardState
from tests.clock import settle
from tests.unit.gateway.fakes import GATEWAY, QUERY, Rig, stored_session

STATES: tuple[ShardState, ...] = ("hello", "waiting", "identifying", "resuming", "ready")
UNLISTED = (None, 1006, 1011, 3000, 4015, 4016, 4999)
CODES = (*RULES, *UNLISTED)


async def bring_into(rig: Rig, state: ShardState) -> None:
    if state in ("waiting", "identifying", "resuming"):
        rig.socket.hello()
        await settle()
    elif state == "ready":
        await rig.become_ready()
    assert rig.state == state


def rig_for(state: ShardState) -> Rig:
    rig = Rig(session=stored_session() if state in ("hello", "resuming") else None)
    rig.permits.held = state == "waiting"
    return rig


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("code", CODES)
async def test_f11_f12_close_code_in_state(code: int | None, state: ShardState) -> None:
    rig = rig_for(state)
    async with rig:
        await bring_into(rig, state)
        had_session = rig.sessions.session is not None
        rig.socket.end(code, "why")
        await settle()
        if rule_for(code).action is Action.FATAL:
            await assert_fatal(rig, code)
            return
        rig.permits.held = False
        again = await rig.next_socket()
        again.hello()
        await settle()
        resumes = had_session and rule_for(code).action is Action.RESUME
        assert [a["op"] for a in again.authentications()] == [6 if resumes else 2]
        if not resumes:
            assert again.url == GATEWAY + QUERY
            assert rig.sessions.session is None


async def assert_fatal(rig: Rig, code: int | None) -> None:
    """O-07: no dial after a terminal code, for ten minutes and more."""
    dials = len(rig.transport.dials)
    await rig.clock.advance(900.0)
    assert len(rig.transport.dials) == dials
    view = rig.shard.view()
    assert (view.state, view.fatal) == ("fatal", code)
    assert view.problem is not None
    assert str(code) in view.problem
    assert rig.task is not None
    assert rig.task.done()
    rig.assert_nothing_left()


@pytest.mark.parametrize("code", [4004, 4010, 4011, 4012, 4013, 4014])
async def test_t07_t08_fatal_code_while_replaying_stops_for_good(code: int) -> None:
    async with Rig(session=stored_session()) as rig:
        rig.socket.hello()
        await settle()
        rig.socket.event(42)
        rig.socket.end(code)
        await settle()
        await assert_fatal(rig, code)
        assert rig.sessions.seq == 42


async def test_t04_rejected_token_says_what_to_do() -> None:
    async with Rig() as rig:
        rig.socket.hello()
        await settle()
        rig.socket.end(4004, "Authentication failed.")
        await settle()
        assert rig.shard.view().problem == (
            "Discord rejected the bot token (4004 Authentication failed); put a valid token into"
            " the credential discluster.token and restart the clusters"
        )
        await rig.shard.stop()
        assert rig.state == "fatal"


async def test_t24_close_1000_by_the_server_is_resumed() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.end(1000)
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


async def test_t22_every_recovery_closes_with_a_resumable_code() -> None:
    async with Rig() as rig:
        await rig.become_ready()
        for n, op in enumerate((7, 9, 7)):
            socket = rig.socket
            socket.payload(op, True)
            await rig.next_socket()
            assert socket.close_codes == [4000]
            await rig.become_resumed(2 + n)
