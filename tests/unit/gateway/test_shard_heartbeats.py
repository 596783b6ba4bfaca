# SPDX-License-Identifier: Apache-2.0
"""Heartbeats of a whole shard (traps T-25 to T-35)."""

import asyncio
import itertools

import pytest

from discluster.gateway import Event
from discluster.gateway.heartbeat import Verdict
from tests.clock import settle
from tests.unit.gateway.fakes import INTERVAL, FakeSocket, Rig, stored_session


@pytest.mark.covers("T-31", "O-11")
async def test_t31_first_beats_are_spread_over_the_interval() -> None:
    offsets = []
    for seed in range(40):
        async with Rig(seed=seed) as rig:
            socket = await rig.become_ready()
            began = rig.clock.monotonic()
            await rig.clock.advance(INTERVAL)
            offsets.append((socket.beats()[0] - began) / INTERVAL)
    assert all(0 <= offset <= 1 for offset in offsets)
    for quarter in range(4):
        inside = [o for o in offsets if quarter / 4 <= o < (quarter + 1) / 4]
        assert 3 <= len(inside) <= 20


@pytest.mark.covers("O-11")
async def test_o11_beats_follow_each_other_by_the_interval_with_the_last_sequence() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        await rig.stay_healthy(INTERVAL * 2)
        socket.event(17)
        await rig.stay_healthy(INTERVAL * 2)
        beats = socket.beats()
        assert [b - a for a, b in itertools.pairwise(beats)] == pytest.approx(
            [INTERVAL] * (len(beats) - 1)
        )
        ds = [payload["d"] for payload in socket.sent if payload["op"] == 1]
        assert ds == [1] * 2 + [17] * (len(ds) - 2)


@pytest.mark.covers("F08", "T-25")
async def test_t25_half_open_socket_is_aborted_without_a_polite_wait() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        began = rig.clock.monotonic()
        again = await rig.next_socket(within=2 * INTERVAL + 2)
        assert socket.aborted
        assert socket.close_codes == []
        assert rig.clock.monotonic() - began <= 2 * INTERVAL + 1
        assert rig.shard.view().problem == Verdict.SILENT.value
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("F09")
async def test_f09_events_without_acknowledgements_are_life_for_three_intervals() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        first = await first_beat(rig, socket)
        s = 2
        while not socket.aborted and rig.clock.monotonic() - first < 10 * INTERVAL:
            socket.event(s)
            s += 1
            await rig.clock.advance(1.0)
        assert 3 * INTERVAL <= rig.clock.monotonic() - first <= 3 * INTERVAL + 2
        assert rig.shard.view().problem == Verdict.UNACKNOWLEDGED.value


@pytest.mark.covers("F09", "T-33")
async def test_t33_acknowledgement_behind_a_flood_of_guilds_is_no_zombie() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        await first_beat(rig, socket)
        for s in range(2, 102):
            for n in range(25):
                socket.event(s * 25 + n, "GUILD_CREATE", {"id": str(s * 25 + n)})
            await rig.clock.advance(1.0)
        socket.ack()
        await rig.stay_healthy(INTERVAL * 2)
        assert not socket.aborted


@pytest.mark.covers("T-26", "T-27")
@pytest.mark.parametrize("resumed", [False, True])
async def test_t26_t27_pending_acknowledgement_does_not_follow_to_the_next_socket(
    resumed: bool,
) -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        await first_beat(rig, socket)
        if resumed:
            socket.payload(7)
        else:
            socket.payload(9, False)
        again = await rig.next_socket()
        await (rig.become_resumed() if resumed else rig.become_ready("session-2"))
        await rig.stay_healthy(INTERVAL * 3)
        assert not again.aborted
        assert len(rig.transport.sockets) == 2


@pytest.mark.covers("F09", "T-28")
async def test_t28_acknowledgement_late_by_nine_tenths_of_an_interval_is_no_zombie() -> None:
    async with Rig(seed=4) as rig:
        socket = await rig.become_ready()
        for _ in range(6):
            before = len(socket.beats())
            while len(socket.beats()) == before:
                await rig.clock.advance(0.25)
            await rig.clock.advance(INTERVAL * 0.9)
            socket.ack()
        assert not socket.aborted


@pytest.mark.covers("F10", "T-29")
async def test_t29_requested_beats_never_make_a_zombie() -> None:
    async with Rig(seed=9) as rig:
        socket = await rig.become_ready()
        for n in range(400):
            beats = len(socket.beats())
            await rig.clock.advance(0.37 + (n % 7))
            socket.payload(1)
            await settle()
            for _ in range(len(socket.beats()) - beats):
                socket.ack()
        assert not socket.aborted


@pytest.mark.covers("F10", "T-30")
async def test_t30_requested_beat_is_answered_at_once_and_keeps_the_normal_timer() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        first = await first_beat(rig, socket)
        socket.ack()
        await rig.clock.advance(10.0)
        socket.payload(1)
        await settle()
        assert socket.beats() == [first, rig.clock.monotonic()]
        socket.ack()
        await rig.clock.advance(INTERVAL)
        assert socket.beats()[2] == pytest.approx(first + INTERVAL)


@pytest.mark.covers("F10", "T-69", "O-10")
async def test_t69_burst_of_requests_stays_within_the_send_limit() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        for _ in range(300):
            socket.payload(1)
        await settle(800)
        assert 100 <= len(socket.sent) < 120
        await rig.stay_healthy(61)
        socket.payload(1)
        await settle()
        window = [t for t in socket.times if t > rig.clock.monotonic() - 60]
        assert len(window) < 10
        assert socket.beats()[-1] == rig.clock.monotonic()


@pytest.mark.covers("T-32")
async def test_t32_first_beat_dies_with_its_socket() -> None:
    async with Rig() as rig:
        socket = rig.socket
        socket.hello()
        await settle()
        socket.end()
        await rig.clock.advance(INTERVAL)
        assert socket.beats() == []


@pytest.mark.covers("F25", "T-34")
async def test_t34_heartbeats_go_on_while_the_handler_stalls_and_nothing_is_read() -> None:
    release = asyncio.Event()

    async def stall(event: Event) -> None:
        if event.type == "MESSAGE_CREATE":
            await release.wait()

    async with Rig(handler=stall) as rig:
        socket = await rig.become_ready()
        for s in range(2, 12):
            socket.event(s)
        await settle()
        received = socket.received
        await rig.clock.advance(600.0)
        assert len(socket.beats()) >= 14
        assert socket.received == received
        assert not socket.aborted
        release.set()
        await settle()
        assert rig.sessions.seq == 11
        for _ in range(14):
            socket.ack()
        await rig.stay_healthy(INTERVAL * 2)
        assert not socket.aborted


@pytest.mark.covers("F25", "T-21", "T-34")
async def test_discord_that_gives_up_during_a_stall_is_resumed_after_the_last_event_taken() -> None:
    """Its buffers for us run over some time; what it still sent lies unread before the close."""
    release = asyncio.Event()
    taken: list[int] = []

    async def stall(event: Event) -> None:
        if event.seq == 3:
            await release.wait()
        taken.append(event.seq)

    async with Rig(handler=stall) as rig:
        socket = await rig.become_ready()
        with socket.together():
            for s in (2, 3, 4, 5):
                socket.event(s)
        await settle()
        socket.event(6)
        socket.end()
        await rig.clock.advance(600.0)
        assert len(rig.transport.dials) == 1, "nothing is done behind the handler's back"
        release.set()
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert taken[-1] == again.authentications()[0]["d"]["seq"]
        assert taken == list(range(1, taken[-1] + 1))
        assert rig.shard.view().identifies == 1


@pytest.mark.covers("F25", "T-34")
async def test_acknowledgements_of_ten_minutes_read_at_once_do_no_harm() -> None:
    release = asyncio.Event()

    async def stall(event: Event) -> None:
        if event.seq == 2:
            await release.wait()

    async with Rig(handler=stall) as rig:
        socket = await rig.become_ready()
        socket.event(2)
        for _ in range(600):
            beats = len(socket.beats())
            await rig.clock.advance(1.0)
            for _ in range(len(socket.beats()) - beats):
                socket.ack()
        assert socket.received == 3, "HELLO, READY and the event"
        release.set()
        await settle()
        latency = rig.shard.view().latency
        assert latency is not None
        assert latency < 1.0, "the stall is not Discord's"
        await rig.stay_healthy(INTERVAL * 4)
        assert not socket.aborted
        assert len(rig.transport.dials) == 1


@pytest.mark.covers("F08")
async def test_half_open_socket_is_found_after_the_handler_is_free_again() -> None:
    release = asyncio.Event()

    async def stall(event: Event) -> None:
        if event.type == "MESSAGE_CREATE":
            await release.wait()

    async with Rig(handler=stall) as rig:
        socket = await rig.become_ready()
        socket.event(2)
        await rig.clock.advance(200.0)
        release.set()
        await rig.clock.advance(INTERVAL * 3)
        assert socket.aborted


@pytest.mark.covers("T-34")
async def test_handler_busy_over_a_beat_is_not_taken_for_silence() -> None:
    release = asyncio.Event()

    async def busy(event: Event) -> None:
        if event.type == "MESSAGE_CREATE":
            await release.wait()

    async with Rig(handler=busy) as rig:
        socket = await rig.become_ready()
        first = await first_beat(rig, socket)
        socket.ack()
        await rig.clock.advance(first + INTERVAL - 1 - rig.clock.monotonic())
        socket.event(2)  # read before the second beat, handled until shortly before the third
        await rig.clock.advance(INTERVAL + 0.9)
        assert len(socket.beats()) == 2
        release.set()
        await rig.clock.advance(1.0)
        assert len(socket.beats()) == 3
        assert not socket.aborted


@pytest.mark.covers("F31", "T-35")
async def test_t35_process_that_was_stopped_for_minutes_resumes_within_seconds() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        await rig.stay_healthy(60)
        rig.clock.jump(180.0)
        again = await rig.next_socket(within=5)
        assert socket.aborted
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("T-35", "T-36")
async def test_short_hold_up_is_no_zombie() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        await rig.stay_healthy(60)
        for _ in range(10):
            rig.clock.jump(30.0)
            await rig.stay_healthy(20)
        assert not socket.aborted


async def test_latency_is_the_time_to_the_acknowledgement() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        assert rig.shard.view().latency is None
        beat = await first_beat(rig, socket)
        await rig.clock.advance(0.125)
        socket.ack()
        await settle()
        assert rig.shard.view().latency == pytest.approx(rig.clock.monotonic() - beat)


async def first_beat(rig: Rig, socket: FakeSocket) -> float:
    while not socket.beats():
        await rig.clock.advance(0.25)
    return socket.beats()[0]


@pytest.mark.covers("F25")
async def test_replay_that_the_handler_takes_long_for_does_not_end_the_resume() -> None:
    release = asyncio.Event()

    async def slow(event: Event) -> None:
        await release.wait()

    async with Rig(session=stored_session(), handler=slow) as rig:
        socket = rig.socket
        socket.hello()
        socket.event(42)
        await rig.clock.advance(300.0)
        assert rig.state == "resuming"
        release.set()
        socket.event(43, "RESUMED", {})
        await settle()
        assert rig.states[-1:] == ["ready"]
        assert len(rig.transport.sockets) == 1


@pytest.mark.covers("F33", "T-53")
async def test_nothing_is_handed_over_from_a_connection_that_was_given_up() -> None:
    release = asyncio.Event()
    taken: list[int] = []

    async def slow(event: Event) -> None:
        taken.append(event.seq)
        if event.seq == 2:
            await release.wait()

    async with Rig(handler=slow) as rig:
        socket = await rig.become_ready()
        await rig.stay_healthy(60)
        socket.event(2)
        socket.event(3)
        await settle()
        rig.clock.jump(180.0)
        await rig.clock.advance(0.1)
        assert socket.aborted
        release.set()
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert taken == [1, 2]
        assert again.authentications()[0]["d"]["seq"] == 2
