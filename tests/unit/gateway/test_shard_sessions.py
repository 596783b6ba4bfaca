# SPDX-License-Identifier: Apache-2.0
"""How a shard gets a session, keeps it and gets it back."""

from typing import Any

import pytest

from discluster.gateway.shard import READY_LIMIT, RESUMED_LIMIT
from tests.clock import settle
from tests.unit.gateway.fakes import EDGE, GATEWAY, INTERVAL, QUERY, TOKEN, Rig, stored_session


@pytest.mark.covers("T-73")
async def test_first_start_identifies_and_becomes_ready() -> None:
    async with Rig() as rig:
        assert rig.socket.url == GATEWAY + QUERY
        rig.socket.hello()
        await settle()
        [identify] = rig.socket.sent
        assert identify["op"] == 2
        assert identify["d"]["token"] == TOKEN
        assert identify["d"]["shard"] == [3, 16]
        rig.socket.ready(guilds=5)
        await settle()
        view = rig.shard.view()
        assert (view.state, view.guilds, view.seq, view.identifies) == ("ready", 5, 1, 1)
        assert view.problem is None
        [saved] = rig.sessions.saved
        assert (saved.session_id, saved.resume_url, saved.seq) == ("session-1", EDGE, 1)
        assert [event.type for event in rig.events] == ["READY"]
        assert rig.states == ["dialing", "hello", "waiting", "identifying", "ready"]


@pytest.mark.covers("O-05")
async def test_stored_session_is_resumed_on_its_own_address_after_a_restart() -> None:
    async with Rig(session=stored_session(seq=41)) as rig:
        assert rig.socket.url == EDGE + QUERY
        rig.socket.hello()
        await settle()
        [resume] = rig.socket.sent
        assert resume == {
            "op": 6,
            "d": {"token": TOKEN, "session_id": "stored-session", "seq": 41},
        }
        rig.socket.event(42)
        rig.socket.event(43, "RESUMED", {})
        await settle()
        assert rig.state == "ready"
        assert rig.shard.view().guilds == 7
        assert [(e.type, e.seq, e.session_id) for e in rig.events] == [
            ("MESSAGE_CREATE", 42, "stored-session"),
            ("RESUMED", 43, "stored-session"),
        ]
        assert rig.permits.log == []


@pytest.mark.covers("T-19")
async def test_t19_resume_carries_the_same_query_as_identify() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.end()
        again = await rig.next_socket()
        assert again.url.removeprefix(EDGE) == socket.url.removeprefix(GATEWAY)


async def test_problem_is_told_until_the_shard_is_ready_again() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.end(4008)
        await settle()
        told = "Discord closed the connection (4008 Rate limited)"
        assert rig.shard.view().problem == told
        await rig.next_socket()
        assert rig.shard.view().problem == told
        await rig.become_resumed()
        assert rig.shard.view().problem is None


@pytest.mark.covers("T-10", "O-05")
async def test_t10_connections_cut_for_thirty_seconds_cost_no_identify() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        rig.transport.refuse = lambda url: True
        socket.end()
        await rig.clock.advance(30.0)
        rig.transport.refuse = lambda url: False
        again = await rig.next_socket(within=120)
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]
        assert rig.shard.view().identifies == 1
        assert rig.sessions.clears == 0


@pytest.mark.covers("F27", "T-10", "O-08")
async def test_outage_of_an_hour_keeps_the_session_and_bounds_the_dials() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        rig.transport.refuse = lambda url: True
        socket.end()
        before = len(rig.transport.dials)
        await rig.clock.advance(3600.0)
        assert len(rig.transport.dials) - before < 120
        assert rig.sessions.clears == 0
        rig.transport.refuse = lambda url: False
        again = await rig.next_socket(within=120)
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("F16", "T-13", "T-15")
async def test_t13_t15_dead_resume_host_is_left_after_one_failed_dial() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        rig.transport.refuse = lambda url: url.startswith(EDGE)
        socket.end()
        again = await rig.next_socket()
        urls = [url for _, url in rig.transport.dials]
        assert urls == [GATEWAY + QUERY, EDGE + QUERY, GATEWAY + QUERY]
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("F07", "T-14")
async def test_t14_upgrade_without_hello_is_given_up_after_twenty_seconds() -> None:
    async with Rig(session=stored_session()) as rig:
        silent = rig.socket
        await rig.clock.advance(19.0)
        assert rig.state == "hello"
        again = await rig.next_socket(within=5)
        assert silent.aborted
        assert silent.close_codes == []
        assert again.url == GATEWAY + QUERY
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("F16", "T-14")
async def test_t14_resume_without_an_answer_is_given_up_after_a_minute() -> None:
    async with Rig(session=stored_session()) as rig:
        silent = rig.socket
        silent.hello()
        await rig.stay_healthy(RESUMED_LIMIT - 2)
        assert rig.state == "resuming"
        await rig.stay_healthy(3)
        assert silent.aborted
        assert "RESUMED" in (rig.shard.view().problem or "")


@pytest.mark.covers("T-16")
async def test_replay_counts_as_progress_of_a_resume() -> None:
    async with Rig(session=stored_session(seq=1)) as rig:
        rig.socket.hello()
        for s in range(2, 6):
            await rig.stay_healthy(RESUMED_LIMIT * 0.8)
            rig.socket.event(s)
        await settle()
        assert rig.states[-1:] == ["resuming"]
        rig.socket.event(6, "RESUMED", {})
        await settle()
        assert rig.states[-1:] == ["ready"]


@pytest.mark.covers("F16", "T-12", "T-17")
async def test_t12_t17_resume_that_always_breaks_ends_in_exactly_one_identify() -> None:
    async with Rig(session=stored_session()) as rig:
        resumes = 0
        for _ in range(20):
            rig.socket.hello()
            await settle()
            op = rig.socket.authentications()[0]["op"]
            if op == 2:
                break
            resumes += 1
            rig.socket.end()
            await rig.next_socket(within=120)
        assert resumes == 5
        assert rig.socket.url == GATEWAY + QUERY
        assert rig.sessions.clears == 1


@pytest.mark.covers("F16", "T-12")
async def test_resume_that_fails_for_five_minutes_ends_in_an_identify() -> None:
    async with Rig(session=stored_session()) as rig:
        started = rig.clock.monotonic()
        for s in range(42, 80):
            rig.socket.hello()
            await settle()
            if rig.socket.authentications()[0]["op"] == 2:
                break
            rig.socket.event(s)  # a replay that goes on, but never to its end
            await rig.clock.advance(20.0)
            rig.socket.end()
            await rig.next_socket(within=120)
        assert rig.socket.authentications()[0]["op"] == 2
        assert 300 <= rig.clock.monotonic() - started <= 400


@pytest.mark.covers("F14", "T-16")
async def test_t16_reconnects_that_all_resume_never_drop_the_session() -> None:
    async with Rig() as rig:
        await rig.become_ready()
        for n in range(12):
            rig.socket.payload(7)
            await rig.next_socket()
            await rig.become_resumed(2 + n)
            await rig.clock.advance(10.0)
        assert rig.shard.view().identifies == 1
        assert rig.sessions.clears == 0


@pytest.mark.covers("F13", "T-11", "O-06")
async def test_t11_op9_on_an_active_session_costs_exactly_one_identify() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready("old-session")
        ended = rig.clock.monotonic()
        socket.payload(9, False)
        await settle()
        assert rig.sessions.session is None
        again = await rig.next_socket()
        assert 1.0 <= rig.clock.monotonic() - ended <= 5.5
        assert again.url == GATEWAY + QUERY
        await rig.become_ready("new-session")
        assert [a["op"] for a in again.authentications()] == [2]
        again.end()
        third = await rig.next_socket()
        third.hello()
        await settle()
        [resume] = third.authentications()
        assert resume["d"]["session_id"] == "new-session"


@pytest.mark.covers("F13", "T-20", "O-04")
async def test_t20_identify_after_op9_never_goes_to_the_resume_host() -> None:
    async with Rig(session=stored_session()) as rig:
        rig.socket.hello()
        await settle()
        rig.socket.payload(9, False)
        again = await rig.next_socket()
        assert again.url == GATEWAY + QUERY
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [2]


@pytest.mark.covers("F13")
async def test_op9_true_resumes_after_a_pause() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        ended = rig.clock.monotonic()
        socket.payload(9, True)
        again = await rig.next_socket()
        assert rig.clock.monotonic() - ended >= 1.0
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]
        assert socket.close_codes == [4000]


@pytest.mark.covers("F13")
@pytest.mark.parametrize("d", [None, "true", 1, {}, []])
async def test_op9_that_is_not_exactly_true_counts_as_false(d: Any) -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.payload(9, d)
        await settle()
        assert rig.sessions.session is None


@pytest.mark.covers("F13")
async def test_op9_before_resume_was_sent_says_nothing_about_the_session() -> None:
    async with Rig(session=stored_session()) as rig:
        rig.socket.payload(9, False)
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]
        assert rig.sessions.clears == 0


@pytest.mark.covers("F13", "O-06")
async def test_op9_after_identify_waits_one_to_five_seconds_and_asks_for_a_new_permit() -> None:
    async with Rig() as rig:
        rig.socket.hello()
        await settle()
        ended = rig.clock.monotonic()
        rig.socket.payload(9, False)
        again = await rig.next_socket()
        assert 1.0 <= rig.clock.monotonic() - ended <= 5.5
        again.hello()
        await settle()
        assert rig.permits.log == ["asked", "granted", "used"] * 2


@pytest.mark.covers("F14")
async def test_op7_resumes_within_a_second() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        ended = rig.clock.monotonic()
        socket.payload(7)
        again = await rig.next_socket()
        assert rig.clock.monotonic() - ended <= 1.25
        assert socket.close_codes == [4000]
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("F07", "T-54")
@pytest.mark.parametrize("session", [None, stored_session()])
async def test_t54_op7_instead_of_hello_dials_again_at_once(session: Any) -> None:
    async with Rig(session=session) as rig:
        ended = rig.clock.monotonic()
        rig.socket.payload(7)
        again = await rig.next_socket()
        assert rig.clock.monotonic() - ended <= 1.25
        assert again.url == GATEWAY + QUERY
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [2 if session is None else 6]


@pytest.mark.covers("F36")
async def test_f36_op7_close_and_zombie_together_make_one_reconnect() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        socket.payload(7)
        socket.end(4000)
        rig.clock.jump(INTERVAL * 3)
        await rig.next_socket()
        await rig.clock.advance(15.0)
        assert len(rig.transport.sockets) == 2


@pytest.mark.covers("F15", "T-18")
@pytest.mark.parametrize("url", ["", None, 7, "::::", "http://x", "wss://", "ws://p", "wss://h:x"])
async def test_t18_malformed_resume_url_falls_back_to_the_gateway(url: Any) -> None:
    async with Rig() as rig:
        rig.socket.hello()
        await settle()
        rig.socket.ready(url=url)
        await settle()
        assert rig.state == "ready"
        rig.socket.end()
        again = await rig.next_socket()
        assert again.url == GATEWAY + QUERY
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("F15")
@pytest.mark.parametrize("session_id", ["", None, 7, "x" * 65, "with blank", "ünïcode", [], {}])
async def test_f15_ready_without_usable_session_id_serves_but_cannot_be_resumed(
    session_id: Any,
) -> None:
    async with Rig() as rig:
        rig.socket.hello()
        await settle()
        rig.socket.ready(session_id)
        rig.socket.event(2)
        await settle()
        assert rig.state == "ready"
        assert [event.seq for event in rig.events] == [1, 2]
        assert rig.sessions.session is None
        rig.socket.end()
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [2]


@pytest.mark.covers("F15", "T-51")
async def test_t51_late_ready_is_waited_for_while_heartbeats_are_acknowledged() -> None:
    async with Rig() as rig:
        rig.socket.hello()
        await rig.stay_healthy(READY_LIMIT - 5)
        assert rig.states[-1:] == ["identifying"]
        rig.socket.ready()
        await settle()
        assert rig.states[-1:] == ["ready"]
        assert len(rig.transport.sockets) == 1


@pytest.mark.covers("F15")
async def test_ready_that_never_comes_is_given_up_after_five_minutes() -> None:
    async with Rig() as rig:
        rig.socket.hello()
        await rig.stay_healthy(READY_LIMIT + 1)
        assert rig.transport.sockets[0].aborted
        assert "READY" in (rig.shard.view().problem or "")


@pytest.mark.covers("T-02")
async def test_t02_server_that_closes_after_every_ready_is_asked_less_and_less() -> None:
    async with Rig() as rig:
        identified: list[float] = []
        while rig.clock.monotonic() < 1000 + 3600:
            rig.socket.hello()
            await settle()
            if rig.socket.authentications()[0]["op"] == 2:
                identified.append(rig.clock.monotonic())
                rig.socket.ready(f"session-{len(identified)}")
                await rig.clock.advance(2.0)
                rig.socket.end(4002, "Error while decoding payload.")
            else:
                rig.socket.payload(9, False)
            await settle()
            await rig.next_socket(within=700)
        assert 5 <= len(identified) <= 16
        assert identified[-1] - identified[-2] >= 300


@pytest.mark.covers("T-79")
async def test_t79_backoff_is_forgotten_only_after_a_minute_of_health() -> None:
    async with Rig() as rig:
        await rig.become_ready()
        waits = []
        for n in range(8):
            rig.socket.end()
            ended = rig.clock.monotonic()
            await rig.next_socket()
            waits.append(rig.clock.monotonic() - ended)
            await rig.become_resumed(2 + n)
        assert waits[-1] >= 15
        await rig.stay_healthy(61)
        rig.socket.end()
        ended = rig.clock.monotonic()
        await rig.next_socket()
        assert rig.clock.monotonic() - ended <= 1.25


@pytest.mark.covers("F16", "T-52", "O-08")
async def test_t52_accept_and_close_is_not_a_tight_loop() -> None:
    async with Rig() as rig:
        started = len(rig.transport.dials)
        for _ in range(240):
            if not rig.socket.aborted:
                rig.socket.end()
            await rig.clock.advance(0.25)
        assert 3 <= len(rig.transport.dials) - started <= 10


@pytest.mark.covers("T-55")
async def test_t55_dial_that_hangs_is_given_up_after_ten_seconds() -> None:
    rig = Rig()
    rig.transport.script.append("hang")
    async with rig:
        await rig.clock.advance(9.0)
        assert rig.state == "dialing"
        assert not rig.transport.sockets
        await rig.next_socket(within=5)


@pytest.mark.covers("F07", "T-77")
@pytest.mark.parametrize("interval", [0, 1, -1, "41250", None, 2**40, True, [], {}])
async def test_t77_hello_without_a_usable_interval_is_not_answered(interval: Any) -> None:
    async with Rig(session=stored_session()) as rig:
        socket = rig.socket
        socket.hello(interval)
        await settle()
        assert socket.sent == []
        assert socket.close_codes == [4000]
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert [a["op"] for a in again.authentications()] == [6]


@pytest.mark.covers("F19", "T-77")
async def test_t77_bad_payloads_are_skipped_up_to_four_in_a_row() -> None:
    async with Rig() as rig:
        socket = await rig.become_ready()
        for _ in range(4):
            socket.push('{"op":0,"s":')
        socket.event(2)
        for _ in range(4):
            socket.push("[]")
        socket.event(3)
        await settle()
        assert [event.seq for event in rig.events] == [1, 2, 3]
        for _ in range(5):
            socket.push('{"s":5}')
        await settle()
        assert socket.close_codes == [4000]
        again = await rig.next_socket()
        again.hello()
        await settle()
        assert again.authentications()[0]["d"]["seq"] == 3


@pytest.mark.covers("T-49")
async def test_t49_nothing_but_heartbeats_is_sent_before_authentication() -> None:
    rig = Rig()
    rig.permits.held = True
    async with rig:
        rig.socket.hello()
        await rig.stay_healthy(200)
        assert rig.state == "waiting"
        assert set(rig.socket.ops()) == {1}
        assert rig.socket.sent[0]["d"] is None


async def test_events_before_authentication_are_nobodys() -> None:
    rig = Rig()
    rig.permits.held = True
    async with rig:
        rig.socket.event(5)
        rig.socket.hello()
        rig.socket.event(6)
        rig.socket.ready()
        await settle()
        assert rig.events == []
        assert rig.state == "waiting"
        assert rig.sessions.saved == []
