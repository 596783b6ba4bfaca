# SPDX-License-Identifier: Apache-2.0
"""From the socket to the handler, and the stored sequence behind it."""

import asyncio
import logging
from typing import Any

import msgspec
import pytest

from discluster.gateway import Event
from tests.clock import settle
from tests.unit.gateway.fakes import Rig, stored_session


async def test_event_carries_its_raw_body() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.push('{"t":"TYPING_START","s":2,"op":0,"d":{"b": [1, "ü"]},"new":{"x":1}}')
        await settle()
        event = rig.events[-1]
        assert (event.shard, event.seq, event.type) == (3, 2, "TYPING_START")
        assert event.session_id == "session-1"
        assert bytes(event.body) == '{"b": [1, "ü"]}'.encode()
        assert event.parsed() == msgspec.json.decode(event.body) == {"b": [1, "ü"]}
        assert event.parsed(dict[str, list[object]]) == {"b": [1, "ü"]}
        with pytest.raises(msgspec.ValidationError):
            event.parsed(list[int])


@pytest.mark.covers("T-21", "O-05")
async def test_t21_stored_sequence_follows_the_handler_not_the_socket() -> None:
    gate: asyncio.Queue[None] = asyncio.Queue()

    async def slow(event: Event) -> None:
        if event.type == "MESSAGE_CREATE":
            await gate.get()

    async with Rig(handler=slow) as rig:
        socket = await rig.become_ready()
        for s in (2, 3, 4):
            socket.event(s)
        await settle()
        assert rig.sessions.seq == 1
        gate.put_nowait(None)
        await settle()
        assert rig.sessions.seq == 2
        socket.end()
        gate.put_nowait(None)
        gate.put_nowait(None)
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert again.authentications()[0]["d"]["seq"] == 4


@pytest.mark.covers("T-21")
async def test_resume_asks_for_what_was_received_but_not_handled() -> None:
    never = asyncio.Event()
    taken: list[int] = []

    async def stuck(event: Event) -> None:
        if event.seq == 3:
            await never.wait()
        taken.append(event.seq)

    async with Rig(handler=stuck) as rig:
        socket = await rig.become_ready()
        socket.event(2)
        socket.event(3)
        await settle()
        stopping = asyncio.create_task(rig.shard.stop())
        await rig.clock.advance(1.5)
        await stopping
        assert taken == [1, 2]
        assert rig.sessions.seq == 2
        assert socket.close_codes == [4000]


async def test_handler_that_raises_is_counted_and_the_event_is_skipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: Event) -> None:
        if event.type == "MESSAGE_CREATE":
            raise ValueError("bad handler")

    async with Rig(handler=broken) as rig:
        socket = await rig.become_ready()
        socket.event(2, d={"content": "private words"})
        await settle()
        assert rig.sessions.seq == 2
        assert rig.shard.failures == 1
        assert rig.state == "ready"
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "MESSAGE_CREATE" in record.getMessage()
    assert "sequence 2" in record.getMessage()
    assert [record.__dict__[name] for name in ("SHARD", "EVENT", "SEQ")] == [
        *(3, "MESSAGE_CREATE", "2"),
    ]
    assert "in broken" in caplog.text, "the handler's own line"
    assert "_hand_over" not in caplog.text
    assert "private words" not in caplog.text
    assert "secretpart" not in caplog.text


async def test_awaitable_that_raises_or_was_cancelled_inside_is_a_failure_too() -> None:
    async def broken(event: Event) -> None:
        if event.seq == 2:
            raise RuntimeError("bad handler")
        if event.seq == 3:
            raise asyncio.CancelledError

    async with Rig(handler=broken) as rig:
        socket = await rig.become_ready()
        for s in (2, 3, 4):
            socket.event(s)
        await settle()
        assert rig.shard.failures == 2
        assert rig.sessions.seq == 4
        assert rig.state == "ready"


async def test_handler_that_fails_at_every_event_does_not_flood_the_journal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: Event) -> None:
        raise ValueError("bad handler")

    async with Rig(handler=broken) as rig:
        socket = await rig.become_ready()
        for s in range(2, 2001):
            socket.event(s)
        await settle(2200)
        assert rig.shard.failures == 2000
        await rig.clock.advance(1.0)
        socket.event(2001)
        await settle()
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(told) == 3, "the first of each type, and one in a second"
    assert "its failure number 2001 (1998 more were not told)" in told[2]


@pytest.mark.covers("F19")
async def test_f19_unknown_events_and_opcodes_are_nothing_special() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.event(2, "BRAND_NEW_EVENT")
        socket.payload(77, {"x": 1})
        socket.payload(0, {}, s=3)
        socket.payload(11)
        socket.hello()
        socket.event(4)
        await settle()
        assert [event.type for event in rig.events] == [
            "READY",
            "BRAND_NEW_EVENT",
            "MESSAGE_CREATE",
        ]
        assert rig.sessions.advances == [2, 3, 4]
        assert rig.state == "ready"


@pytest.mark.covers("F20")
async def test_f20_repeated_or_falling_sequences_never_lower_the_checkpoint() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        for s in (2, 5, 5, 3, None, 1005, 2**63, -1, 1.5, "7"):
            socket.event(s)
            socket.event(1006)  # so that the malformed ones are never five in a row
        await settle()
        advances = rig.sessions.advances
        assert advances == sorted(set(advances))
        assert rig.sessions.seq == 1006
        assert [event.seq for event in rig.events if event.seq != 1006] == [1, 2, 5, 5, 3, 1005]


@pytest.mark.covers("F33", "T-53")
async def test_f33_late_events_of_the_old_connection_are_not_handed_over() -> None:
    async with Rig() as rig:
        old = await rig.become_ready()
        old.payload(7)
        old.event(2)
        again = await rig.next_socket()
        await rig.become_resumed(3)
        old.event(4)
        old.payload(9, False)
        await settle()
        assert [event.seq for event in rig.events] == [1, 3]
        assert rig.state == "ready"
        assert not again.aborted


@pytest.mark.covers("F33", "T-03", "T-53")
@pytest.mark.parametrize("late", [1000, 4004, 4009, None])
async def test_late_close_of_the_old_connection_starts_and_ends_nothing(late: int | None) -> None:
    async with Rig() as rig:
        old = await rig.become_ready()
        old.payload(7)
        await rig.next_socket()
        await rig.become_resumed(2)
        old.end(late)
        old.end(late)
        await rig.stay_healthy(60)
        assert rig.state == "ready"
        assert len(rig.transport.dials) == 2
        assert rig.sessions.session is not None


@pytest.mark.covers("T-74")
async def test_ready_of_a_new_session_starts_a_new_sequence() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.event(500)
        await settle()
        socket.payload(9, False)
        await rig.next_socket()
        await rig.become_ready("session-2")
        rig.socket.event(2)
        await settle()
        assert rig.sessions.seq == 2
        assert rig.events[-1].session_id == "session-2"


@pytest.mark.covers("F22", "T-72")
async def test_guilds_are_followed_without_confusing_outage_and_removal() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready(guilds=3)
        changes: list[tuple[str, dict[str, Any], int]] = [
            ("GUILD_CREATE", {"id": "1", "name": "x"}, 3),
            ("GUILD_CREATE", {"id": "900"}, 4),
            ("GUILD_DELETE", {"id": "2", "unavailable": True}, 4),
            ("GUILD_DELETE", {"id": "2"}, 3),
            ("GUILD_DELETE", {"id": "900", "unavailable": False}, 2),
        ]
        for s, (name, body, expected) in enumerate(changes, start=2):
            socket.event(s, name, body)
            await settle()
            assert rig.shard.view().guilds == expected


async def test_view_tells_how_old_the_last_event_is() -> None:
    async with Rig(session=stored_session()) as rig:
        assert rig.shard.view().event_age is None
        await rig.become_resumed(42)
        await rig.clock.advance(7.0)
        view = rig.shard.view()
        assert view.event_age == pytest.approx(7.0)
        assert view.since == pytest.approx(7.0)
        assert (view.events, view.resumes) == (1, 1)


@pytest.mark.covers("T-68")
async def test_t68_token_and_session_id_are_in_no_log_and_no_repr(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Rig() as rig:
        await rig.become_ready("very-secret-session")
        rig.socket.push('{"bad')
        rig.socket.end(4000, "reason")
        await rig.next_socket()
        await rig.become_resumed()
        seen = caplog.text + repr(vars(rig.shard)) + str(rig.shard.view())
    assert "Shard 3" in caplog.text
    for part in ("secretpart", "Cl2FMQ", "MTk4NjIyNDgz"):
        assert part not in seen
    assert "very-secret-session" not in caplog.text
