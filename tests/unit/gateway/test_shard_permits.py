# SPDX-License-Identifier: Apache-2.0
"""A permit is used once or returned once, whatever happens in between."""

import asyncio

import pytest

from tests.clock import settle
from tests.unit.gateway.fakes import Rig, stored_session


async def test_permit_is_asked_for_after_hello_and_used_with_the_frame() -> None:
    rig = Rig()
    rig.permits.held = True
    async with rig:
        assert rig.permits.log == []
        rig.socket.hello()
        await settle()
        assert rig.permits.log == ["asked"]
        assert rig.shard.view().problem == "it waits for its turn to identify"
        rig.permits.grant()
        await settle()
        assert rig.permits.log == ["asked", "granted", "used"]
        assert rig.socket.ops() == [2]


@pytest.mark.covers("T-38")
async def test_t38_socket_that_dies_while_waiting_withdraws_the_request() -> None:
    rig = Rig()
    rig.permits.held = True
    async with rig:
        rig.socket.hello()
        await settle()
        rig.socket.end()
        await settle()
        assert rig.permits.log == ["asked", "cancelled"]


@pytest.mark.covers("T-38")
async def test_t38_socket_that_dies_between_grant_and_send_returns_the_permit() -> None:
    rig = Rig()
    rig.permits.held = True
    async with rig:
        rig.socket.hello()
        await settle()
        rig.socket.broken = True
        rig.permits.grant()
        await settle()
        assert rig.permits.log == ["asked", "granted", "returned"]
        assert rig.shard.view().identifies == 0
        rig.socket.end()
        await rig.next_socket()


@pytest.mark.covers("T-38")
async def test_t38_zombie_at_the_moment_of_the_grant_returns_the_permit() -> None:
    rig = Rig()
    rig.permits.held = True
    async with rig:
        rig.socket.hello()
        await settle()
        rig.socket.abort()
        rig.permits.grant()
        await settle()
        assert rig.permits.log[-1] in ("returned", "cancelled")
        assert rig.socket.ops() == []


@pytest.mark.covers("T-38")
async def test_stop_while_waiting_withdraws_the_request() -> None:
    rig = Rig()
    rig.permits.held = True
    async with rig:
        rig.socket.hello()
        await settle()
        await rig.shard.stop()
        assert rig.permits.log == ["asked", "cancelled"]


@pytest.mark.covers("T-38")
async def test_stop_at_the_moment_of_the_grant_returns_the_permit() -> None:
    rig = Rig()
    rig.permits.held = True
    async with rig:
        rig.socket.hello()
        await settle()
        stopping = asyncio.create_task(rig.shard.stop())
        rig.permits.grant()
        await stopping
        assert rig.permits.log == ["asked", "granted", "returned"]
        assert rig.socket.ops() == []


@pytest.mark.covers("T-37")
async def test_permit_whose_time_is_over_is_returned_and_another_one_is_asked_for() -> None:
    """The process stood still between the grant and the write."""
    rig = Rig()
    rig.permits.held = True
    rig.permits.expired = True
    async with rig:
        rig.socket.hello()
        await settle()
        rig.permits.grant()
        await settle()
        assert rig.permits.log == ["asked", "granted", "returned", "asked"]
        assert rig.socket.ops() == []
        rig.permits.expired = False
        rig.permits.grant()
        await settle()
        assert rig.permits.log[4:] == ["granted", "used"]
        assert rig.socket.ops() == [2]


@pytest.mark.covers("T-40")
async def test_t40_resume_takes_no_permit() -> None:
    async with Rig(session=stored_session()) as rig:
        await rig.become_resumed(42)
        assert rig.permits.log == []


async def test_permits_that_fail_end_the_shard_with_their_error() -> None:
    rig = Rig()

    async def broken(shard: int) -> None:
        raise LookupError("no permits today")

    rig.permits.acquire = broken  # type: ignore[method-assign]
    async with rig:
        rig.socket.hello()
        assert rig.task is not None
        with pytest.raises(LookupError, match="no permits today"):
            await rig.task
        rig.assert_nothing_left()
        assert rig.state == "idle"
