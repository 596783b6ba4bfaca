# SPDX-License-Identifier: Apache-2.0
"""Scripted faults over real sockets, at every point in the life of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp
import pytest

from discluster.simulator import ledger
from discluster.simulator.deeds import (
    Acknowledge,
    AnyDeed,
    Big,
    Close,
    Delay,
    Dispatch,
    Fields,
    Fin,
    Gap,
    Hang,
    HeartbeatRequest,
    Hello,
    IgnoreClose,
    Invalidate,
    Mute,
    Raw,
    Reconnect,
    Replay,
    Reset,
    Status,
    StopReading,
)
from discluster.simulator.script import At, Point
from tests.unit.simulator.client import TIMEOUT, Client, ClosedError
from tests.unit.simulator.conftest import Rig, StartRig

FAST = 0.01  # real seconds per simulated second


async def nothing_comes(client: Client, seconds: float = 0.1) -> bool:
    try:
        await asyncio.wait_for(client.receive(), seconds)
    except TimeoutError:
        return True
    return False


async def events(rig: Rig, count: int, shard: int = 0) -> None:
    for number in range(count):
        await rig.control.event(shard, "TEST", {"number": number})


async def dropped_with(rig: Rig, count: int, **settings: Any) -> Client:
    """A client that lost its connection, and has missed so many events."""
    client = await rig.ready(**settings)
    await client.reach((await rig.control.shards())[0].seq)
    await rig.control.drop(0)
    await rig.control.wait_for_shards(lambda views: views[0].state == "detached", TIMEOUT)
    await events(rig, count)
    return client


# Before HELLO


@pytest.mark.parametrize("code", [401, 403, 429, 502])
async def test_upgrade_is_refused_with_a_page(start: StartRig, code: int) -> None:
    rig = await start()
    await rig.control.script("upgrade", Status(code=code, html=True, retry_after="1.5"))
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await rig.dial()
    assert error.value.status == code
    assert error.value.headers is not None
    assert error.value.headers["Retry-After"] == "1.5"
    assert error.value.headers["Content-Type"] == "text/html"
    await rig.dial()  # once only


async def test_upgrade_never_answered(start: StartRig) -> None:
    rig = await start()
    await rig.control.script("upgrade", Hang())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.dial(), 0.1)


@pytest.mark.parametrize("deed", [Reset(), Fin()])
async def test_upgrade_cut_off(start: StartRig, deed: AnyDeed) -> None:
    rig = await start()
    await rig.control.script(At(point="upgrade", times=None), deed)
    with pytest.raises(aiohttp.ClientError):
        await rig.dial()


async def test_late_upgrade_keeps_what_came_early(start: StartRig) -> None:
    rig = await start(time_factor=FAST)
    await rig.control.script("upgrade", Delay(seconds=5))
    client = await rig.ready()
    assert client.session_id


@pytest.mark.parametrize("point", ["accepted", "hello"])
async def test_silence_instead_of_hello(start: StartRig, point: Point) -> None:
    rig = await start()
    await rig.control.script(point, instead=True)
    client = await rig.dial(hello=False)
    assert await nothing_comes(client)


@pytest.mark.parametrize(
    ("deed", "op"), [(Reconnect(), 7), (Invalidate(d="false"), 9), (HeartbeatRequest(), 1)]
)
async def test_another_payload_instead_of_hello(start: StartRig, deed: AnyDeed, op: int) -> None:
    rig = await start()
    await rig.control.script("hello", deed, instead=True)
    client = await rig.dial(hello=False)
    assert (await client.receive())["op"] == op
    assert await nothing_comes(client)


@pytest.mark.parametrize("interval", [0, 1, -1, "soon", 2**40, None, 41.5])
async def test_hello_with_any_interval(start: StartRig, interval: object) -> None:
    rig = await start()
    await rig.control.script("hello", Hello(interval=interval))
    client = await rig.dial(hello=False)
    assert (await client.receive())["d"]["heartbeat_interval"] == interval


async def test_hello_without_interval(start: StartRig) -> None:
    rig = await start()
    await rig.control.script("hello", Hello(missing=True))
    client = await rig.dial(hello=False)
    assert "heartbeat_interval" not in (await client.receive())["d"]


async def test_an_edge_selects_before_there_is_a_shard(start: StartRig) -> None:
    rig = await start()
    first = await rig.ready()
    await rig.control.script(At(point="hello", edge="edge-a"), Close(code=4000))
    await rig.dial()
    away = await rig.dial(first.resume_url, hello=False)
    assert await away.closed() == 4000


# How connections end


@pytest.mark.parametrize(
    "point", ["accepted", "hello", "identify", "ready", "dispatch", "heartbeat", "now"]
)
@pytest.mark.parametrize(
    ("deed", "code"),
    [
        (Close(code=4000), 4000),
        (Close(code=None), None),
        (Close(code=1011), 1011),
        (Reset(), None),
        (Fin(), None),
    ],
)
async def test_ends_at_every_point(
    start: StartRig, point: Point, deed: AnyDeed, code: int | None
) -> None:
    rig = await start()
    if point != "now":
        await rig.control.script(point, deed)
    # A reset may be quicker than what was sent before it.
    with contextlib.suppress(aiohttp.ClientError):
        client = await rig.dial(hello=False)
        if point == "now":
            await client.receive()
            await rig.control.script(point, deed)
        else:
            await client.identify()
            await client.send(1, None)
        assert await client.closed() == code
    record = await rig.control.wait_for_record(lambda r: isinstance(r, ledger.Close), TIMEOUT)
    assert isinstance(record, ledger.Close)
    assert (record.by, record.code) == ("server" if isinstance(deed, Close) else "tcp", code)
    (scripted,) = await rig.control.ledger(kinds=["scripted"])
    assert isinstance(scripted, ledger.Scripted)
    assert scripted.point == point


@pytest.mark.parametrize("point", ["resume", "replay", "resumed", "dispatch"])
@pytest.mark.parametrize(("deed", "code"), [(Close(code=4009), 4009), (Reset(), None)])
async def test_ends_during_resume(
    start: StartRig, point: Point, deed: AnyDeed, code: int | None
) -> None:
    rig = await start()
    client = await dropped_with(rig, 10)
    await rig.control.script(At(point=point, count=0 if point == "dispatch" else 4), deed)
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    assert await again.closed() == code
    seen = [event["t"] for event in again.dispatches]
    expected = {"resume": 0, "replay": 4, "resumed": 10, "dispatch": 11}[point]
    # A reset throws away what the client has not read yet.
    assert len(seen) == expected or (isinstance(deed, Reset) and len(seen) <= expected)
    assert len(await rig.control.shards()) == (0 if code == 4009 else 1)
    if code is None:
        assert (await rig.resumed(client)).dispatches[-1]["t"] == "RESUMED"


async def test_several_deeds_in_the_same_instant(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.script("now", Reconnect(), Close(code=4000))
    assert (await client.op(7))["d"] is None
    assert await client.closed() == 4000


async def test_all_matching_connections_are_touched_at_once(start: StartRig) -> None:
    rig = await start()
    clients = [await rig.ready((shard, 4)) for shard in range(3)]
    await rig.control.script(At(point="now", shard="all"), Reconnect())
    for client in clients:
        await client.op(7)
    (view,) = await rig.control.scripts()
    assert view.hits == 3


async def test_time_selects(start: StartRig) -> None:
    rig = await start(time_factor=FAST)
    client = await rig.ready()
    before = (await rig.control.ledger())[-1].time
    await rig.control.script(At(point="now", after=20), Close(code=4000))
    assert await client.closed() == 4000
    assert (await rig.control.ledger(kinds=["close"]))[-1].time - before >= 20


async def test_close_handshake_is_never_answered(start: StartRig) -> None:
    rig = await start()
    await rig.control.script("accepted", IgnoreClose())
    client = await rig.ready()
    closing = asyncio.create_task(client.close(4000))
    record = await rig.control.wait_for_record(lambda r: isinstance(r, ledger.Close), TIMEOUT)
    assert isinstance(record, ledger.Close)
    assert (record.by, record.code) == ("client", 4000)
    done, _ = await asyncio.wait({closing}, timeout=0.2)
    assert not done
    closing.cancel()


# IDENTIFY and READY


@pytest.mark.parametrize(("d", "expected"), [("true", True), ("false", False), ("null", None)])
async def test_invalid_session_after_identify(start: StartRig, d: Any, expected: object) -> None:
    rig = await start()
    await rig.control.script("identify", Invalidate(d=d), instead=True)
    client = await rig.dial()
    await client.identify()
    assert (await client.op(9))["d"] is expected
    assert await rig.control.shards() == []
    identify, invalid = await rig.control.ledger(kinds=["identify", "invalid_session"])
    assert isinstance(identify, ledger.Identify)
    assert (identify.accepted, identify.reason) == (False, "scripted")
    assert (invalid.shard, invalid.session) == ((0, 4), None)


async def test_invalid_session_without_d(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.script("now", Invalidate(d="missing"))
    assert await client.op(9) == {"t": None, "s": None, "op": 9}
    assert await rig.control.shards() == []


async def test_identify_is_passed_over_in_silence(start: StartRig) -> None:
    rig = await start()
    await rig.control.script("identify", instead=True)
    client = await rig.dial()
    await client.identify()
    await client.heartbeat()
    assert client.dispatches == []


async def test_ready_late_while_heartbeats_are_acknowledged(start: StartRig) -> None:
    rig = await start(time_factor=FAST)
    await rig.control.script("ready", Delay(seconds=30))
    client = await rig.dial()
    await client.identify()
    await client.heartbeat()
    assert client.dispatches == []
    await client.event("READY")
    identify, ready = await rig.control.ledger(kinds=["identify", "ready"])
    assert ready.time - identify.time >= 30


async def test_ready_never(start: StartRig) -> None:
    rig = await start()
    await rig.control.script("ready", instead=True)
    client = await rig.dial()
    await client.identify()
    await client.heartbeat()
    await client.heartbeat()
    assert client.dispatches == []
    client.kill()
    end = await rig.control.wait_for_record(lambda r: r.kind == "session_end", TIMEOUT)
    assert isinstance(end, ledger.SessionEnd)
    assert end.reason == "no-ready"


@pytest.mark.parametrize("url", [None, "", 7, "not a url", "ws://127.0.0.1:1"])
async def test_ready_with_an_odd_resume_url(start: StartRig, url: object) -> None:
    rig = await start()
    await rig.control.script("ready", Fields(set={"resume_gateway_url": url}))
    client = await rig.ready()
    assert client.dispatches[0]["d"]["resume_gateway_url"] == url


async def test_session_that_its_client_cannot_know_ends_with_its_connection(
    start: StartRig,
) -> None:
    rig = await start()
    await rig.control.script("ready", Fields(remove=("session_id",)))
    client = await rig.dial()
    await client.identify()
    ready = await client.event("READY")
    assert "session_id" not in ready["d"]
    client.kill()
    await rig.control.wait_for_shards(lambda views: not views, TIMEOUT)


# RESUME


async def test_resume_is_answered_with_invalid_session(start: StartRig) -> None:
    rig = await start()
    client = await dropped_with(rig, 3)
    await rig.control.script("resume", Invalidate(), instead=True)
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    assert (await again.op(9))["d"] is False
    assert await rig.control.shards() == []


async def test_resume_is_cut_off_for_a_while(start: StartRig) -> None:
    rig = await start(time_factor=FAST)
    client = await dropped_with(rig, 3)
    await rig.control.script(At(point="resume", times=None, lasts=50), Reset())
    refused = 0
    async with asyncio.timeout(TIMEOUT):
        while True:
            again = await rig.dial(client.resume_url)
            await again.resume(client)
            try:
                await again.event("RESUMED")
                break
            except ClosedError:
                refused += 1
    assert refused > 1
    assert [event["t"] for event in again.dispatches] == ["TEST"] * 3 + ["RESUMED"]


async def test_replay_flows_but_resumed_never_comes(start: StartRig) -> None:
    rig = await start()
    client = await dropped_with(rig, 3)
    await rig.control.script("resumed", instead=True)
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    await rig.control.wait_for_connected(1, TIMEOUT)
    await rig.control.event(0, "LIVE", {})
    await again.event("LIVE")
    assert [event["t"] for event in again.dispatches] == ["TEST"] * 3 + ["LIVE"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("resumed-only", ["RESUMED"]),
        ("resumed-first", ["RESUMED", 0, 1, 2, 3, 4]),
        ("interleaved", [0, 3, 1, 4, 2, "RESUMED"]),
        ("doubled", [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, "RESUMED"]),
        ("reversed", [4, 3, 2, 1, 0, "RESUMED"]),
        ("nothing", []),
    ],
)
async def test_replay_in_another_order(start: StartRig, order: Any, expected: list[Any]) -> None:
    rig = await start()
    client = await dropped_with(rig, 5)
    await rig.control.script("resume", Replay(order=order))
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    await rig.control.wait_for_connected(1, TIMEOUT)
    await rig.control.event(0, "LIVE", {})
    await again.event("LIVE")
    seen = [event["d"].get("number", event["t"]) for event in again.dispatches]
    assert seen == [*expected, "LIVE"]
    assert client.seq is not None
    # Every payload keeps the sequence that it was given.
    own = {event["d"]["number"]: event["s"] for event in again.dispatches if event["t"] == "TEST"}
    assert own == {number: client.seq + 1 + number for number in own}


async def test_stall_in_the_middle_of_a_replay(start: StartRig) -> None:
    rig = await start(time_factor=FAST)
    client = await dropped_with(rig, 10)
    await rig.control.script(At(point="replay", count=5), Delay(seconds=20))
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    await again.heartbeat()
    assert len(again.dispatches) == 5
    await again.event("RESUMED")
    assert [event["d"].get("number") for event in again.dispatches[:-1]] == list(range(10))


# Live


async def test_after_each_nth_dispatch(start: StartRig) -> None:
    rig = await start(guilds=0)
    await rig.control.script(At(point="dispatch", count=3, times=2), Reconnect())
    client = await rig.ready()
    await events(rig, 12)
    seen: list[Any] = []
    while len(seen) < 14:
        payload = await client.receive()
        seen.append("op7" if payload["op"] == 7 else payload["d"]["number"])
    assert seen == [0, 1, 2, "op7", 3, 4, 5, "op7", 6, 7, 8, 9, 10, 11]


async def test_a_spent_rule_leaves_the_stream_alone(start: StartRig) -> None:
    rig = await start(guilds=0)
    await rig.control.script(At(point="dispatch", count=0), Reconnect())
    client = await rig.ready()
    await client.op(7)
    await rig.control.script(At(point="dispatch", count=2), Delay(seconds=0.01), Reconnect())
    await events(rig, 300)
    await client.op(7)
    assert len(client.dispatches) == 3
    await client.reach(301)
    assert [view.hits for view in await rig.control.scripts()] == [1, 1]


async def test_acknowledgement_late_twice_never_and_unasked(start: StartRig) -> None:
    rig = await start(time_factor=FAST)
    client = await rig.ready()
    await rig.control.script("heartbeat", Delay(seconds=30))
    begin = asyncio.get_running_loop().time()
    await client.heartbeat()
    assert asyncio.get_running_loop().time() - begin >= 0.3
    await rig.control.script("heartbeat", Acknowledge())
    await client.heartbeat()
    await client.op(11)
    await rig.control.script("heartbeat", instead=True)
    await client.send(1, client.seq)
    await rig.control.script("now", Raw(text='{"op":12}'))
    assert (await client.receive())["op"] == 12
    await rig.control.script("now", Acknowledge(times=2))
    await client.op(11)
    await client.op(11)


async def test_burst_of_heartbeat_requests(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.script("now", HeartbeatRequest(times=20))
    for _ in range(20):
        assert (await client.op(1))["d"] is None


@pytest.mark.parametrize("query", ["", "&compress=zlib-stream", "&compress=zstd-stream"])
async def test_raw_payload_is_compressed_like_any_other(start: StartRig, query: str) -> None:
    rig = await start()
    client = await rig.ready(query="v=10&encoding=json" + query)
    await rig.control.script("now", Raw(text='{"op":99,"d":[1],"s":$S,"x":{}}'))
    seq = (await rig.control.shards())[0].seq
    assert await client.op(99) == {"op": 99, "d": [1], "s": seq, "x": {}}
    await client.heartbeat()


async def test_raw_bytes_reach_the_client_as_they_are(start: StartRig) -> None:
    rig = await start(guilds=0)
    client = await rig.ready(query="v=10&encoding=json&compress=zlib-stream")
    await rig.control.script("now", Raw(data=b'{"op":0,"t":"\xff"'))
    message = await client.ws.receive(TIMEOUT)
    assert client.decode(message.data) == b'{"op":0,"t":"\xff"'


async def test_raw_payload_that_consumes_a_sequence_is_replayed(start: StartRig) -> None:
    rig = await start(guilds=0)
    client = await rig.ready()
    text = '{"t":"ODD","s":$S,"op":0,"d":{"s":"$S"}}'
    await rig.control.script("now", Raw(text=text, consume=True, times=2))
    assert (await client.event("ODD"))["s"] == 2
    assert (await client.event("ODD"))["d"] == {"s": "3"}
    client.seq = 1
    client.kill()
    again = await rig.resumed(client)
    assert [(event["t"], event["s"]) for event in again.dispatches] == [
        ("ODD", 2),
        ("ODD", 3),
        ("RESUMED", 4),
    ]


@pytest.mark.parametrize(
    ("deed", "expected"),
    [
        (Dispatch(t="X"), 3),
        (Dispatch(t="X", shift=-2), 1),
        (Dispatch(t="X", shift=1000), 1003),
        (Dispatch(t="X", s=2**53 + 2), 2**53 + 2),
        (Dispatch(t="X", s=1.5), 1.5),
        (Dispatch(t="X", s="7"), "7"),
    ],
)
async def test_wrong_sequence(start: StartRig, deed: Dispatch, expected: object) -> None:
    rig = await start(guilds=0)
    client = await rig.ready()
    await events(rig, 2)
    await client.reach(3)
    await rig.control.script("now", deed)
    assert (await client.event("X"))["s"] == expected
    await rig.control.event(0, "NEXT", {})
    assert (await client.event("NEXT"))["s"] == 4


async def test_whoever_believed_a_made_up_sequence_can_still_resume(start: StartRig) -> None:
    rig = await start(guilds=0)
    client = await rig.ready()
    await rig.control.script("now", Dispatch(t="X", shift=1000))
    await client.event("X")
    await client.heartbeat()
    client.kill()
    await rig.resumed(client)
    assert "STRICT" not in await rig.oracles()


async def test_gap_in_the_sequences_survives_a_resume(start: StartRig) -> None:
    rig = await start(guilds=0)
    client = await rig.ready()
    await rig.control.script("now", Gap(sequences=1000))
    await rig.control.event(0, "NEXT", {})
    assert (await client.event("NEXT"))["s"] == 1002
    client.seq = 1
    client.kill()
    again = await rig.resumed(client)
    assert [event["s"] for event in again.dispatches] == [1002, 1003]


@pytest.mark.parametrize(
    ("query", "ratio", "least"),
    [
        ("&compress=zlib-stream", 4, 3),
        ("&compress=zlib-stream", 100, 70),
        ("&compress=zlib-stream", 1000, 900),
        ("&compress=zstd-stream", 10_000, 5_000),
        ("&compress=zstd-stream", 100, 70),
    ],
)
async def test_big_payload_compresses_as_asked(
    start: StartRig, query: str, ratio: float, least: float
) -> None:
    rig = await start(guilds=0)
    client = await rig.ready(query="v=10&encoding=json" + query)
    await rig.control.script("now", Big(bytes=3_000_000, ratio=ratio))
    message = await client.ws.receive(TIMEOUT)
    payload = client.decode(message.data)
    assert 3_000_000 <= len(payload) < 3_000_200
    assert json.loads(payload)["s"] == 2
    assert least <= len(payload) / len(message.data)


async def test_server_stops_reading_but_writes_on(start: StartRig) -> None:
    rig = await start(time_factor=FAST)
    client = await rig.ready()
    await rig.control.script("now", StopReading(seconds=20))
    await client.send(1, client.seq)
    await rig.control.event(0, "LIVE", {})
    while (payload := await client.receive())["t"] != "LIVE":
        assert payload["op"] == 0
    await client.op(11)
    heartbeat = (await rig.control.ledger(kinds=["heartbeat"]))[-1]
    scripted = (await rig.control.ledger(kinds=["scripted"]))[-1]
    assert heartbeat.time - scripted.time >= 20


async def test_half_open_for_a_while(start: StartRig) -> None:
    rig = await start(time_factor=FAST)
    client = await rig.ready()
    await client.reach((await rig.control.shards())[0].seq)
    await rig.control.script("now", Mute(seconds=20))
    await rig.control.event(0, "LIVE", {})
    assert await nothing_comes(client, 0.1)
    await client.event("LIVE")
