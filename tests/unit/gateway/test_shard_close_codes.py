# SPDX-License-Identifier: Apache-2.0
"""Every close code in every state."""

import asyncio
from typing import Literal

import pytest

from discluster.gateway.closecodes import RULES, Action, rule_for
from discluster.messages import ShardState
from tests.clock import settle
from tests.unit.gateway.fakes import GATEWAY, QUERY, Rig, stored_session

State = ShardState | Literal["replaying"]
STATES: tuple[State, ...] = (
    *("hello", "waiting", "identifying", "resuming", "replaying", "ready"),
)
# None: a frame without a code, an RST or a FIN; 1005 and 1006 are what a library may make of it.
UNLISTED = (None, 1002, 1005, 1006, 1007, 1009, 1011, 1012, 3000, 4015, 4016, 4900, 4999)
CODES = (*RULES, *UNLISTED)
FATAL = (4004, 4010, 4011, 4012, 4013, 4014)
GONE = (4006, 4007, 4009)


async def bring_into(rig: Rig, state: State) -> None:
    if state == "replaying":
        rig.socket.hello()
        await settle()
        rig.socket.event(42)
        await settle()
        assert rig.state == "resuming"
        return
    if state in ("waiting", "identifying", "resuming"):
        rig.socket.hello()
        await settle()
    elif state == "ready":
        await rig.become_ready()
    assert rig.state == state


def rig_for(state: State) -> Rig:
    stored = state in ("hello", "resuming", "replaying")
    rig = Rig(session=stored_session() if stored else None)
    rig.permits.held = state == "waiting"
    return rig


def test_table_is_the_one_that_discord_documents() -> None:
    """Discord: Opcodes and Status Codes, Gateway Close Event Codes."""
    by_action = {action: [c for c in CODES if rule_for(c).action is action] for action in Action}
    assert tuple(by_action[Action.FATAL]) == FATAL
    assert tuple(by_action[Action.IDENTIFY]) == GONE


@pytest.mark.covers("F11", "F12", "T-08", "T-24", "T-46", "T-47", "T-48", "T-81")
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("code", CODES)
async def test_f11_f12_close_code_in_state(code: int | None, state: State) -> None:
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
        if state == "replaying" and resumes:
            assert again.authentications()[0]["d"]["seq"] == 42
        assert all(s.close_codes in ([], [4000]) for s in rig.transport.sockets)


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


@pytest.mark.covers("F11", "F12")
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("code", [None, 1000, 4000, 4003, 4004, 4007, 4009])
async def test_close_of_discord_while_we_stop_changes_nothing(code: int | None, keep: bool) -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        stopping = asyncio.create_task(rig.shard.stop(keep_session=keep))
        socket.end(code)
        await stopping
        dials = len(rig.transport.dials)
        await rig.clock.advance(600.0)
        assert len(rig.transport.dials) == dials
        assert rig.state == "idle"
        assert (rig.sessions.session is not None) is keep
        assert set(socket.close_codes) <= {4000 if keep else 1000}


@pytest.mark.covers("T-22", "T-59", "O-12")
@pytest.mark.parametrize("ours", [4000, 1000])
async def test_echo_of_our_own_close_is_no_close_code_of_discords(ours: int) -> None:
    """A peer answers a close frame with its code: 4000 and 1000 come back and mean nothing."""
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.payload(7)
        socket.end(ours)
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("T-07", "T-08")
@pytest.mark.parametrize("code", FATAL)
async def test_t07_t08_fatal_code_while_replaying_stops_for_good(code: int) -> None:
    async with Rig(session=stored_session()) as rig:
        rig.socket.hello()
        await settle()
        rig.socket.event(42)
        rig.socket.end(code)
        await settle()
        await assert_fatal(rig, code)
        assert rig.sessions.seq == 42


@pytest.mark.covers("T-04")
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


@pytest.mark.covers("T-24")
async def test_t24_close_1000_by_the_server_is_resumed() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.end(1000)
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("T-22")
async def test_t22_every_recovery_closes_with_a_resumable_code() -> None:
    async with Rig() as rig:
        await rig.become_ready()
        for n, op in enumerate((7, 9, 7)):
            socket = rig.socket
            socket.payload(op, True)
            await rig.next_socket()
            assert socket.close_codes == [4000]
            await rig.become_resumed(2 + n)
