# SPDX-License-Identifier: Apache-2.0
"""Commands on their way through a shard: in order, within Discord's limits, never too early."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from discluster.errors import CommandError, NotSentError
from discluster.gateway import Event
from discluster.gateway.commands import (
    Command,
    RequestGuildMembers,
    UpdatePresence,
    UpdateVoiceState,
)
from discluster.gateway.outbox import CAPACITY
from tests.clock import settle
from tests.unit.gateway.fakes import FakeSocket, Rig, plain_identity, stored_session

GUILD = 3 << 22  # of shard 3 of 16, as the rig's


def voice(channel: int = 1) -> UpdateVoiceState:
    return UpdateVoiceState(guild_id=GUILD, channel_id=channel)


def everybody(guild: int = GUILD) -> RequestGuildMembers:
    return RequestGuildMembers(guild_id=guild, query="")


def channels(socket: FakeSocket) -> list[int]:
    """Of the voice states, in the order of their arrival."""
    return [int(frame["d"]["channel_id"]) for frame in socket.sent if frame["op"] == 4]


class Senders:
    """Tasks that each send one command."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.tasks: list[asyncio.Task[None]] = []

    def send(self, command: Command, timeout: float = 1000.0) -> asyncio.Task[None]:
        task = asyncio.create_task(self.rig.shard.send(command, timeout=timeout))
        self.tasks.append(task)
        return task

    def sent(self) -> int:
        return sum(task.done() and task.exception() is None for task in self.tasks)

    def failures(self) -> list[str]:
        errors = [task.exception() for task in self.tasks if task.done()]
        assert all(isinstance(error, NotSentError) for error in errors if error is not None)
        return [str(error) for error in errors if error is not None]


@asynccontextmanager
async def senders(rig: Rig) -> AsyncIterator[Senders]:
    async with rig:
        made = Senders(rig)
        yield made
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_send_returns_once_it_was_written() -> None:
    async with senders(Rig()) as out:
        socket = await out.rig.become_ready()
        await out.rig.shard.send(voice(9))
        assert channels(socket) == [9]


async def test_refused_command_is_not_queued() -> None:
    async with senders(Rig()) as out:
        socket = await out.rig.become_ready()
        with pytest.raises(CommandError, match="belongs to shard 4"):
            await out.rig.shard.send(UpdateVoiceState(guild_id=4 << 22))
        assert socket.ops() == [2]


@pytest.mark.covers("T-49")
async def test_nothing_is_sent_before_ready() -> None:
    rig = Rig()
    rig.permits.held = True
    async with senders(rig) as out:
        for channel in range(3):
            out.send(voice(channel))
        rig.socket.hello()
        await settle()
        assert rig.socket.ops() == []
        rig.permits.grant()
        await rig.clock.advance(1.0)
        assert [op for op in rig.socket.ops() if op != 1] == [2]
        rig.socket.ready()
        await settle()
        assert channels(rig.socket) == [0, 1, 2]
        assert out.sent() == 3


@pytest.mark.covers("T-49", "T-50", "T-80")
async def test_what_is_queued_while_resuming_goes_out_after_resumed() -> None:
    async with senders(Rig(session=stored_session())) as out:
        socket = out.rig.socket
        socket.hello()
        await settle()
        out.send(voice(5))
        await settle()
        assert socket.ops() == [6]
        socket.event(42, "RESUMED", {})
        await settle()
        assert socket.ops() == [6, 4]
        assert out.sent() == 1


@pytest.mark.covers("T-50")
async def test_handler_of_a_replayed_event_may_wait_for_its_command() -> None:
    """RESUMED comes after the replayed events, so it cannot be what the command waits for."""
    rig: Rig

    async def answering(event: Event) -> None:
        if event.type == "MESSAGE_CREATE":
            await rig.shard.send(voice(event.seq))

    rig = Rig(session=stored_session(), handler=answering)
    async with senders(rig):
        rig.socket.hello()
        rig.socket.event(42)
        rig.socket.event(43, "RESUMED", {})
        await settle()
        assert channels(rig.socket) == [42]
        assert rig.socket.ops() == [6, 4]
        assert rig.state == "ready"


@pytest.mark.covers("T-80", "O-10")
async def test_bulk_keeps_the_limit_of_a_connection_and_survives_a_resume_in_order() -> None:
    async with senders(Rig()) as out:
        socket = await out.rig.become_ready()
        for channel in range(200):
            out.send(voice(channel))
        await settle(800)
        first = channels(socket)
        assert 100 <= len(first) <= 116
        assert len(socket.sent) < 120, "room is left for heartbeats"
        socket.payload(7)
        again = await out.rig.next_socket()
        assert out.failures() == []
        await out.rig.become_resumed()
        await settle(800)
        assert [*first, *channels(again)] == list(range(200))
        assert out.sent() == 200


@pytest.mark.covers("T-69", "O-10")
async def test_heartbeats_never_wait_behind_commands_and_no_minute_holds_too_much() -> None:
    async with senders(Rig()) as out:
        socket = await out.rig.become_ready()
        for channel in range(400):
            out.send(voice(channel))
        for _ in range(250):
            beats = len(socket.beats())
            await out.rig.clock.advance(1.0)
            socket.payload(1)
            for _ in range(len(socket.beats()) - beats):
                socket.ack()
        assert out.sent() == 400
        for start in socket.times:
            assert sum(start <= time < start + 60.0 for time in socket.times) <= 120
        assert not socket.aborted


async def test_new_connection_starts_with_the_whole_allowance() -> None:
    async with senders(Rig()) as out:
        await out.rig.become_ready()
        for channel in range(100):
            out.send(voice(channel))
        await settle(400)
        out.rig.socket.payload(7)
        again = await out.rig.next_socket()
        await out.rig.become_resumed()
        for channel in range(100):
            out.send(voice(channel))
        await settle(400)
        assert len(channels(again)) == 100


async def test_presence_is_updated_at_most_five_times_in_twenty_seconds() -> None:
    async with senders(Rig()) as out:
        socket = await out.rig.become_ready()
        for _ in range(12):
            out.send(UpdatePresence(status="dnd"))
        out.send(voice(1))
        await settle()
        assert socket.ops().count(3) == 5
        assert channels(socket) == [1], "what has no such limit passes by"
        await out.rig.stay_healthy(45)
        times = [t for frame, t in zip(socket.sent, socket.times, strict=True) if frame["op"] == 3]
        assert len(times) == 12
        # Discord counts them as they arrive: the first may have been longer on its way.
        assert all(late - early >= 20.5 for early, late in zip(times, times[5:], strict=False))


async def test_all_members_of_a_guild_are_asked_for_once_in_thirty_seconds() -> None:
    async with senders(Rig()) as out:
        socket = await out.rig.become_ready()
        other = GUILD + (16 << 22)
        for guild in (GUILD, GUILD, other):
            out.send(everybody(guild))
        out.send(RequestGuildMembers(guild_id=GUILD, query="a", limit=1))
        await settle()
        asked = [int(frame["d"]["guild_id"]) for frame in socket.sent if frame["op"] == 8]
        assert asked == [GUILD, other, GUILD]
        socket.payload(7)
        again = await out.rig.next_socket()
        await out.rig.become_resumed()
        assert again.ops() == [6], "the limit is the bot's, not the connection's"
        await out.rig.stay_healthy(31)
        assert 8 in again.ops()


async def test_command_has_a_deadline_of_its_own() -> None:
    async with senders(Rig()) as out:
        late = out.send(voice(1), timeout=30.0)
        out.send(voice(2), timeout=90.0)
        await out.rig.clock.advance(31.0)
        with pytest.raises(NotSentError, match="could not send UpdateVoiceState within 30 seconds"):
            await late
        socket = await out.rig.next_socket()
        await out.rig.become_ready()
        await settle()
        assert channels(socket) == [2]


async def test_sender_that_gives_up_takes_its_command_along() -> None:
    async with senders(Rig()) as out:
        task = out.send(voice(1))
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        socket = await out.rig.become_ready()
        assert channels(socket) == []


async def test_command_that_a_dying_socket_did_not_take_goes_out_on_the_next() -> None:
    async with senders(Rig()) as out:
        socket = await out.rig.become_ready()
        socket.broken = True
        out.send(voice(1))
        await settle()
        assert out.sent() == 0
        socket.end()
        again = await out.rig.next_socket()
        await out.rig.become_resumed()
        assert channels(again) == [1]
        assert out.sent() == 1


@pytest.mark.covers("T-80")
async def test_stop_fails_what_is_queued_in_words() -> None:
    async with senders(Rig()) as out:
        out.send(voice(1))
        await settle()
        await out.rig.shard.stop()
        await settle()
        assert out.failures() == ["shard 3 is being stopped"]
        with pytest.raises(NotSentError, match="shard 3"):
            await out.rig.shard.send(voice(2))


async def test_rejection_fails_what_is_queued_with_its_reason() -> None:
    async with senders(Rig()) as out:
        out.send(voice(1))
        out.rig.socket.hello()
        await settle()
        out.rig.socket.end(4004)
        await settle()
        (told,) = out.failures()
        assert told.startswith("shard 3 stopped for good: Discord rejected the bot token (4004")


async def test_cancelled_shard_fails_what_is_queued() -> None:
    async with senders(Rig()) as out:
        out.send(voice(1))
        await settle()
        assert out.rig.task is not None
        out.rig.task.cancel()
        await asyncio.gather(out.rig.task, return_exceptions=True)
        await settle()
        assert out.failures() == ["shard 3 stopped"]


async def test_queue_is_bounded() -> None:
    async with senders(Rig()) as out:
        for channel in range(CAPACITY + 1):
            out.send(voice(channel))
        await settle()
        (told,) = out.failures()
        assert told == f"{CAPACITY} commands wait for shard 3 already"
        assert out.tasks[-1].done()
        assert out.sent() == 0


@pytest.mark.covers("T-76")
async def test_presence_goes_with_identify_and_never_by_itself() -> None:
    """Staff advise it for large bots: an update of the presence can stall a session's events."""
    shown = msgspec.Raw(b'{"status":"idle","activities":[],"since":null,"afk":false}')
    async with Rig(identity=plain_identity(presence=shown)) as rig:
        socket = await rig.become_ready()
        assert socket.sent[0]["d"]["presence"]["status"] == "idle"
        await rig.stay_healthy(120)
        socket.payload(7)
        await rig.next_socket()
        await rig.become_resumed()
        await rig.stay_healthy(120)
        assert {op for one in rig.transport.sockets for op in one.ops()} == {1, 2, 6}
