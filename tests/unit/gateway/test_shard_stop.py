# SPDX-License-Identifier: Apache-2.0
"""The end of a shard, in whatever state it is."""

import asyncio

import pytest

from discluster.gateway import Event
from discluster.messages import ShardState
from tests.clock import settle
from tests.unit.gateway.fakes import Rig, stored_session


@pytest.mark.covers("T-22", "O-12")
async def test_stop_closes_with_a_resumable_code_and_keeps_the_session() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        await rig.shard.stop()
        assert socket.close_codes == [4000]
        assert rig.sessions.session is not None
        assert rig.state == "idle"
        assert rig.states[-2:] == ["closing", "idle"]
        assert rig.task is not None
        await rig.task
        rig.assert_nothing_left()


@pytest.mark.covers("O-12")
async def test_stop_for_good_ends_the_session_at_discord_and_here() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        await rig.shard.stop(keep_session=False)
        assert socket.close_codes == [1000]
        assert rig.sessions.session is None


async def test_stop_lets_the_handler_finish_and_hands_nothing_over_after_it() -> None:
    release = asyncio.Event()
    taken: list[int] = []

    async def slow(event: Event) -> None:
        if event.seq == 2:
            await release.wait()
        taken.append(event.seq)

    async with Rig(handler=slow) as rig:
        socket = await rig.become_ready()
        socket.event(2)
        socket.event(3)
        await settle()
        stopping = asyncio.create_task(rig.shard.stop())
        await rig.clock.advance(0.5)
        assert not stopping.done()
        release.set()
        await stopping
        assert taken == [1, 2]
        assert rig.sessions.seq == 2


async def test_stop_does_not_wait_for_a_handler_that_is_stuck() -> None:
    async def stuck(event: Event) -> None:
        if event.seq == 2:
            await asyncio.get_running_loop().create_future()

    async with Rig(handler=stuck) as rig:
        socket = await rig.become_ready()
        socket.event(2)
        await settle()
        stopping = asyncio.create_task(rig.shard.stop())
        await rig.clock.advance(1.1)
        await stopping
        assert rig.sessions.seq == 1
        rig.assert_nothing_left()


@pytest.mark.covers("T-32")
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("state", ["dialing", "hello", "waiting", "identifying", "backoff"])
async def test_stop_in_any_state_leaves_nothing(state: ShardState, keep: bool) -> None:
    rig = Rig()
    rig.permits.held = state == "waiting"
    rig.transport.script.extend({"dialing": ["hang"], "backoff": ["refuse"]}.get(state, []))
    async with rig:
        if state in ("waiting", "identifying"):
            rig.socket.hello()
            await settle()
        assert rig.state == state
        await rig.shard.stop(keep_session=keep)
        assert rig.task is not None
        await rig.task
        dials = len(rig.transport.dials)
        await rig.clock.advance(120.0)
        assert len(rig.transport.dials) == dials
        rig.assert_nothing_left()


@pytest.mark.covers("T-22")
@pytest.mark.parametrize("state", ["dialing", "hello", "resuming", "ready", "backoff"])
async def test_cancelled_run_aborts_the_socket_and_keeps_the_session(state: ShardState) -> None:
    rig = Rig(session=stored_session())
    rig.transport.script.extend({"dialing": ["hang"], "backoff": ["refuse"]}.get(state, []))
    async with rig:
        if state == "resuming":
            rig.socket.hello()
            await settle()
        elif state == "ready":
            await rig.become_resumed(42)
        assert rig.state == state
        assert rig.task is not None
        rig.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rig.task
        rig.assert_nothing_left()
        assert all(socket.close_codes == [] for socket in rig.transport.sockets)
        assert rig.sessions.session is not None


async def test_stop_before_run_means_that_run_returns_at_once() -> None:
    rig = Rig(session=stored_session())
    await rig.shard.stop(keep_session=False)
    assert rig.sessions.session is None
    await rig.shard.run()
    assert rig.transport.dials == []


async def test_stop_called_twice_at_once_is_one_stop() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        await asyncio.gather(rig.shard.stop(), rig.shard.stop(keep_session=False))
        assert socket.close_codes == [4000]
        rig.assert_nothing_left()


async def test_handler_that_stops_its_own_shard_does_not_hang() -> None:
    rig: Rig

    async def stopping(event: Event) -> None:
        if event.seq == 2:
            await rig.shard.stop()

    rig = Rig(handler=stopping)
    async with rig:
        socket = await rig.become_ready()
        socket.event(2)
        await rig.clock.advance(2.0)
        assert rig.task is not None
        assert rig.task.done()
        rig.assert_nothing_left()


async def test_a_shard_is_run_once() -> None:
    async with Rig() as rig:
        with pytest.raises(RuntimeError, match="run before"):
            await rig.shard.run()


@pytest.mark.covers("T-56")
async def test_progress_grows_in_every_heartbeat_interval_even_in_a_long_backoff() -> None:
    async with Rig() as rig:
        rig.transport.refuse = lambda url: True
        rig.socket.end()
        await rig.clock.advance(300.0)
        seen = rig.shard.progress
        for _ in range(30):
            await rig.clock.advance(10.0)
            assert rig.shard.progress > seen
            seen = rig.shard.progress


async def test_storage_that_fails_ends_the_shard_with_its_error() -> None:
    async with Rig() as rig:
        socket = rig.socket
        socket.hello()
        await settle()

        def full(seq: int) -> None:
            raise OSError("disk full")

        rig.sessions.advance = full  # type: ignore[method-assign]
        socket.ready()
        socket.event(2)
        assert rig.task is not None
        with pytest.raises(OSError, match="disk full"):
            await rig.task
        rig.assert_nothing_left()
