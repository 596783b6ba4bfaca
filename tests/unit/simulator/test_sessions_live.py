# SPDX-License-Identifier: Apache-2.0
"""Sessions over real sockets: start, stream, resume, end."""

from __future__ import annotations

import json
import socket
from collections import defaultdict

import pytest

from discluster.simulator import ledger
from discluster.simulator.frames import Opcode
from discluster.simulator.settings import DEFAULT_TOKEN
from tests.unit.simulator.client import IDENTIFY, UPGRADE, Client, client_frame
from tests.unit.simulator.conftest import StartRig

COMPRESSIONS = ["", "&compress=zlib-stream", "&compress=zstd-stream"]


def counts(*clients: Client) -> dict[str, list[int]]:
    """Counts of the streamed events by guild, in the order of arrival."""
    seen: dict[str, list[int]] = defaultdict(list)
    for client in clients:
        for event in client.dispatches:
            if "_count" in event["d"]:
                seen[event["d"]["guild_id"]].append(event["d"]["_count"])
    return seen


async def test_identify_gives_ready_then_all_guilds_of_the_shard(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready((1, 4))
    ready = client.dispatches[0]
    assert list(ready) == ["t", "s", "op", "d"]
    assert ready["s"] == 1
    assert ready["d"]["shard"] == [1, 4]
    announced = [guild["id"] for guild in ready["d"]["guilds"]]
    for _ in announced:
        await client.event("GUILD_CREATE")
    created = [event["d"]["id"] for event in client.dispatches[1:]]
    assert created == announced
    assert len(announced) == 4
    assert all((int(guild) >> 22) % 4 == 1 for guild in announced)


async def test_identify_without_shard_gets_all_guilds_and_no_echo(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready(None)
    assert "shard" not in client.dispatches[0]["d"]
    assert len(client.dispatches[0]["d"]["guilds"]) == 16


async def test_ready_can_be_late_while_heartbeats_are_acknowledged(start: StartRig) -> None:
    rig = await start(ready_delay=0.2)
    client = await rig.dial()
    await client.identify()
    await client.heartbeat()
    assert client.dispatches == []
    await client.event("READY")


@pytest.mark.parametrize("compress", COMPRESSIONS)
async def test_resume_replays_what_was_missed_and_then_says_resumed(
    start: StartRig, compress: str
) -> None:
    rig = await start()
    query = "v=10&encoding=json" + compress
    first = await rig.ready(query=query)
    while len(first.dispatches) < 5:
        await first.event("GUILD_CREATE")
    await rig.control.drop(0)
    assert await first.closed() is None
    guild = first.dispatches[1]["d"]["id"]
    for number in range(3):
        count = await rig.control.event(0, "TEST", {"guild_id": guild, "number": number})
        assert count == number + 1
    second = await rig.resumed(first, query=query)
    assert [event["s"] for event in second.dispatches] == [6, 7, 8, 9]
    assert [event["d"].get("number") for event in second.dispatches] == [0, 1, 2, None]
    assert [event["d"].get("_count") for event in second.dispatches] == [1, 2, 3, None]
    assert await rig.oracles() == set()


@pytest.mark.parametrize("compress", COMPRESSIONS)
async def test_no_event_is_lost_or_repeated_over_drops(start: StartRig, compress: str) -> None:
    rig = await start(events_per_second=400.0)
    query = "v=10&encoding=json" + compress
    clients = [await rig.ready(query=query)]
    for _ in range(4):
        enough = len(clients[-1].dispatches) + 60
        while len(clients[-1].dispatches) < enough:
            await clients[-1].receive()
        clients[-1].kill()
        clients.append(await rig.resumed(clients[-1], query=query))
    await rig.control.stream(0)
    (view,) = await rig.control.shards()
    await clients[-1].reach(view.seq)
    sequences = [event["s"] for client in clients for event in client.dispatches]
    assert sequences == list(range(1, view.seq + 1))
    for guild, numbers in counts(*clients).items():
        assert numbers == list(range(1, len(numbers) + 1)), guild
    got = sum(map(len, counts(*clients).values()))
    assert len(await rig.control.sent(0)) == got > 100


async def test_each_session_has_its_own_resume_host(start: StartRig) -> None:
    rig = await start(edges=3)
    urls = [(await rig.ready((shard, 4))).resume_url for shard in range(4)]
    assert [url.rpartition("/")[2] for url in urls] == ["edge-a", "edge-b", "edge-c", "edge-a"]


async def test_resume_hosts_can_be_listeners_of_their_own(start: StartRig) -> None:
    rig = await start(gateway_ports=(0, 0, 0))
    first, second = await rig.ready((0, 4)), await rig.ready((1, 4))
    bases = {url.rpartition("/")[0] for url in (first.resume_url, second.resume_url)}
    assert len({*bases, rig.simulator.gateway_url}) == 3
    await rig.control.drop(0)
    await rig.resumed(first)


@pytest.mark.parametrize("code", [1000, 1001])
async def test_closing_with_1000_or_1001_destroys_the_session(start: StartRig, code: int) -> None:
    rig = await start()
    client = await rig.ready()
    await client.close(code)
    assert await rig.control.wait_for_shards(lambda shards: not shards, 5) == []
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    assert (await again.op(9))["d"] is False
    assert "O-12" in await rig.oracles()


@pytest.mark.parametrize("code", [4000, 4200, 3000, None])
async def test_any_other_end_keeps_the_session(start: StartRig, code: int | None) -> None:
    rig = await start()
    client = await rig.ready()
    if code is None:
        client.kill()
    else:
        await client.close(code)
    await rig.control.wait_for_shards(lambda shards: shards[0].state == "detached", 5)
    await rig.resumed(client)
    (view,) = await rig.control.shards()
    assert (view.state, view.session) == ("connected", client.session_id)


async def test_a_detached_session_expires(start: StartRig) -> None:
    rig = await start(session_ttl_minimum=9.0, session_ttl_maximum=10.0, time_factor=0.01)
    client = await rig.ready()
    client.kill()
    end = await rig.control.wait_for_record(lambda r: isinstance(r, ledger.SessionEnd), 5)
    assert isinstance(end, ledger.SessionEnd)
    assert end.reason == "expired"
    (close,) = await rig.control.ledger(kinds=["close"])
    assert end.time - close.time >= 9.0
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    assert (await again.op(9))["d"] is False


async def test_a_session_that_never_got_ready_is_forgotten(start: StartRig) -> None:
    rig = await start(ready_delay=60.0)
    client = await rig.dial()
    await client.identify()
    await client.heartbeat()
    client.kill()
    end = await rig.control.wait_for_record(lambda r: isinstance(r, ledger.SessionEnd), 5)
    assert isinstance(end, ledger.SessionEnd)
    assert end.reason == "no-ready"


async def test_events_go_on_while_nobody_is_connected(start: StartRig) -> None:
    rig = await start(events_per_second=200.0)
    client = await rig.ready()
    client.kill()
    (view,) = await rig.control.wait_for_shards(lambda shards: shards[0].state == "detached", 5)
    await rig.control.wait_for_shards(lambda shards: shards[0].seq > view.seq + 40, 5)
    again = await rig.resumed(client)
    (record,) = await rig.control.ledger(kinds=["resumed"])
    assert isinstance(record, ledger.Resumed)
    assert record.replayed >= 40
    assert client.seq is not None
    assert again.dispatches[0]["s"] == client.seq + 1


@pytest.mark.parametrize(("answer", "expected"), [("op9", None), ("4007", 4007)])
async def test_a_resume_older_than_the_buffer_is_refused(
    start: StartRig, answer: str, expected: int | None
) -> None:
    rig = await start(replay_events=10, stale_resume=answer)
    client = await rig.ready()
    await rig.control.drop(0)
    for _ in range(20):
        await rig.control.event(0, "TEST", {})
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    if expected is None:
        assert (await again.op(9))["d"] is False
    assert expected is None or await again.closed() == expected
    assert await rig.control.shards() == []


async def test_resuming_elsewhere_closes_the_older_connection(start: StartRig) -> None:
    rig = await start()
    first = await rig.ready()
    second = await rig.resumed(first)
    assert await first.closed() == 4000
    (view,) = await rig.control.shards()
    assert view.connection == 2
    await rig.control.event(0, "AFTER", {})
    await second.event("AFTER")
    assert await rig.oracles() == set()


async def test_two_sessions_of_one_shard_get_the_same_events(start: StartRig) -> None:
    rig = await start(events_per_second=100.0)
    old, new = await rig.ready((0, 2)), await rig.ready((0, 4))
    while len(new.dispatches) < 40:
        await new.receive()
    await rig.control.stream(0)
    views = {view.shard: view for view in await rig.control.shards()}
    await new.reach(views[0, 4].seq)
    await old.reach(views[0, 2].seq)
    mine, theirs = counts(new), counts(old)
    assert mine
    for guild, numbers in mine.items():
        assert theirs[guild][-len(numbers) :] == numbers


async def test_a_session_of_another_bot_cannot_be_resumed(start: StartRig) -> None:
    rig = await start(tokens=("one", "two"))
    client = await rig.ready(token="one")
    again = await rig.dial(client.resume_url)
    await again.resume(client, token="two")
    assert (await again.op(9))["d"] is False
    assert (await rig.control.shards())[0].state == "connected"


async def test_a_bot_prefix_makes_resume_fail(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready(token="Bot " + DEFAULT_TOKEN)
    again = await rig.dial(client.resume_url)
    await again.resume(client, token="Bot " + DEFAULT_TOKEN)
    assert (await again.op(9))["d"] is False
    assert "STRICT" in await rig.oracles()


async def test_a_connection_may_identify_after_invalid_session(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.invalidate(0)
    assert (await client.op(9))["d"] is False
    await client.identify()
    assert (await client.event("READY"))["s"] == 1
    assert await rig.oracles() == {"O-06"}  # it did not wait


async def test_a_resumable_invalid_session_can_be_resumed_on_the_same_socket(
    start: StartRig,
) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.invalidate(0, resumable=True)
    assert (await client.op(9))["d"] is True
    await client.resume(client)
    await client.event("RESUMED")
    assert (await rig.control.shards())[0].state == "connected"


async def test_a_silently_invalidated_session_is_noticed_at_resume(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.invalidate(0, silent=True)
    await client.heartbeat()
    client.kill()
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    assert (await again.op(9))["d"] is False


async def test_more_guilds_than_the_replay_buffer_holds_all_arrive(start: StartRig) -> None:
    rig = await start(guilds=2500, replay_events=100)
    client = await rig.ready((0, 1))
    await client.reach(2501)
    assert [event["s"] for event in client.dispatches] == list(range(1, 2502))
    assert await rig.oracles() == set()


async def test_a_reader_that_falls_behind_the_buffer_is_cut_off(start: StartRig) -> None:
    rig = await start(replay_events=50, guilds=0)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = rig.simulator.gateway_url.removeprefix("ws://").split(":")
        sock.connect((host, int(port)))
        identify = json.dumps({"op": 2, "d": {**IDENTIFY, "shard": [0, 1]}}).encode()
        sock.sendall(UPGRADE + client_frame(Opcode.TEXT, identify))
        await rig.control.wait_for_connected(1, 5)
        body = {"text": "x" * 100_000}
        for _ in range(300):  # more than any socket buffer holds
            await rig.control.event(0, "BULK", body)
            if (await rig.control.summary()).closes:
                break
    records = await rig.control.ledger(kinds=["close", "violation"])
    assert [record.kind for record in records] == ["violation", "close"]
    assert isinstance(records[0], ledger.Violation)
    assert records[0].rule == "slow-reader"


async def test_a_muted_reader_is_not_blamed_for_falling_behind(start: StartRig) -> None:
    rig = await start(replay_events=10, guilds=0)
    client = await rig.ready((0, 1))
    await rig.control.mute(0, 0.2)
    for _ in range(40):
        await rig.control.event(0, "BULK", {})
    assert (await rig.control.summary()).closes == {}
    await rig.control.event(0, "BULK", {})
    assert await client.closed() == 4000
    assert await rig.oracles() == set()
