# SPDX-License-Identifier: Apache-2.0
"""How the gateway refuses, and its clocks, over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from discluster.simulator import ledger
from discluster.simulator.guilds import guild_id
from discluster.simulator.settings import DEFAULT_TOKEN
from tests.unit.simulator.client import ALL_INTENTS, Client
from tests.unit.simulator.conftest import Rig, StartRig

FAST = 0.01  # a hundred simulated seconds in one real one


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("v=9&encoding=json", 4012),
        ("encoding=json", 4012),
        ("v=10", 4002),
        ("v=10&encoding=etf", 4002),
    ],
)
async def test_wrong_queries_are_closed_before_hello(
    start: StartRig, query: str, code: int
) -> None:
    rig = await start()
    client = await rig.dial(query=query, hello=False)
    assert await client.closed() == code
    assert client.dispatches == []


async def test_unknown_compression_is_ignored_and_noted(start: StartRig) -> None:
    rig = await start()
    await rig.ready(query="v=10&encoding=json&compress=gzip")
    assert await rig.oracles() == {"STRICT"}


async def test_unknown_paths_are_not_upgraded(start: StartRig) -> None:
    rig = await start()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await rig.dial(rig.simulator.gateway_url + "/elsewhere")
    assert refusal.value.status == 404


@pytest.mark.parametrize(
    ("settings", "changes", "code"),
    [
        ({}, {"token": "wrong"}, 4004),
        ({}, {"token": None}, 4002),
        ({}, {"properties": None}, 4002),
        ({}, {"intents": None}, 4002),
        ({}, {"shard": [4, 4]}, 4010),
        ({}, {"shard": "0"}, 4010),
        ({"assigned_multiple": 16, "shards": 16}, {"shard": [0, 4]}, 4010),
        ({"guilds": 2501}, {"shard": None}, 4011),
        ({"guilds": 10_001}, {"shard": [0, 4]}, 4011),
        ({}, {"intents": 1 << 17}, 4013),
        ({"privileged_intents": ()}, {"intents": 1 << 15}, 4014),
    ],
)
async def test_identify_is_refused_with_the_documented_code(
    start: StartRig, settings: dict[str, Any], changes: dict[str, Any], code: int
) -> None:
    rig = await start(**settings)
    client = await rig.dial()
    await client.identify(**{"shard": (0, 4), **changes})
    assert await client.closed() == code
    assert client.dispatches == []


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", 4002),
        ('{"op":1,"d":"x"}', 4002),
        ('{"op":7,"d":null}', 4001),
        ('{"op":2,"d":{"token":"x","properties":{},"intents":0}}', 4005),
        ('{"op":6,"d":{"token":"x","session_id":"x","seq":1}}', 4005),
        (" " * 4097, 4002),
        (" " * 70_000, 4002),
    ],
)
async def test_bad_frames_close_an_authenticated_connection(
    start: StartRig, frame: str, code: int
) -> None:
    rig = await start()
    client = await rig.ready()
    await client.ws.send_str(frame)
    assert await client.closed() == code


async def test_commands_before_authentication_are_refused(start: StartRig) -> None:
    rig = await start()
    client = await rig.dial()
    presence: dict[str, Any] = {"since": None, "activities": [], "status": "online", "afk": False}
    await client.send(3, presence)
    assert await client.closed() == 4003


async def test_json_in_binary_frames_is_read(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await client.ws.send_bytes(b'{"op":1,"d":1}')
    await client.op(11)


@pytest.mark.parametrize("seq", [0, -1, 10_000, "x", 1.5])
async def test_a_sequence_that_was_never_sent_costs_the_session(
    start: StartRig, seq: object
) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.drop(0)
    again = await rig.dial(client.resume_url)
    await again.resume(client, seq=seq)
    assert await again.closed() == 4007
    assert await rig.control.shards() == []


async def test_121_frames_in_a_minute_are_too_many(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    for _ in range(119):
        await client.heartbeat()
    await client.send(1, client.seq)
    assert await client.closed() == 4008
    assert await rig.oracles() == {"O-10", "O-11"}


async def test_the_send_limit_belongs_to_one_connection(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    for _ in range(119):
        await client.heartbeat()
    client.kill()
    again = await rig.resumed(client)
    await again.heartbeat()


async def test_identify_too_soon_is_answered_with_invalid_session(start: StartRig) -> None:
    rig = await start(identify_interval=5.0, max_concurrency=2)
    await rig.ready((0, 4))
    await rig.ready((1, 4))
    hasty = await rig.dial()
    await hasty.identify((2, 4))
    assert (await hasty.op(9))["d"] is False
    summary = await rig.control.summary()
    assert (summary.identifies, summary.identifies_rejected) == (3, 1)
    assert summary.identify_gap_min is not None
    assert summary.identify_gap_min < 5.0
    assert summary.budget.remaining == 997
    assert await rig.oracles() == {"O-01"}
    await hasty.heartbeat()  # the connection stays


async def test_identify_after_the_interval_is_accepted(start: StartRig) -> None:
    rig = await start(identify_interval=5.0, time_factor=FAST)
    first = await rig.ready((0, 4))
    await asyncio.sleep(0.06)
    await rig.ready((1, 4))
    assert first.session_id
    assert await rig.oracles() == set()


async def test_an_exhausted_budget_ends_all_sessions_and_the_token(start: StartRig) -> None:
    rig = await start(session_start_total=2)
    running = [await rig.ready((0, 4)), await rig.ready((1, 4))]
    third = await rig.dial()
    await third.identify((2, 4))
    assert await third.closed() == 4004
    assert [await client.closed() for client in running] == [4003, 4003]
    assert await rig.control.shards() == []
    late = await rig.dial()
    await late.resume(running[0])
    assert await late.closed() == 4004
    assert await _gateway_bot(rig) == 401
    assert "O-03" in await rig.oracles()


async def _gateway_bot(rig: Rig, token: str = DEFAULT_TOKEN) -> int:
    headers = {"Authorization": f"Bot {token}"}
    url = rig.simulator.api + "/gateway/bot"
    async with rig.dialer.http.get(url, headers=headers) as response:
        return response.status


async def test_a_revoked_token_is_refused_until_the_owner_makes_a_new_one(
    start: StartRig,
) -> None:
    rig = await start()
    client = await rig.ready()
    assert await rig.control.revoke_token() == 1
    assert await client.closed() == 4003
    assert await _gateway_bot(rig) == 401
    await rig.control.accept_token("fresh")
    assert await _gateway_bot(rig) == 401
    assert await _gateway_bot(rig, "fresh") == 200
    await rig.ready(token="fresh")


async def test_taking_a_privileged_intent_away_closes_all_sessions(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.set_intents(["GUILD_MEMBERS"])
    assert await client.closed() == 4003
    refused = await rig.dial()
    await refused.identify()
    assert await refused.closed() == 4014
    await rig.ready(intents=1)


@pytest.mark.parametrize(("setting", "code"), [(1000, 1000), (4009, 4009), (0, None)])
async def test_missing_heartbeats_close_the_connection(
    start: StartRig, setting: int, code: int | None
) -> None:
    rig = await start(time_factor=FAST, missed_heartbeat_close=setting, heartbeat_interval=10.0)
    client = await rig.ready()
    assert await client.closed() == code
    (record,) = await rig.control.ledger(kinds=["close"])
    assert record.time >= 20.0
    assert len(await rig.control.shards()) == (0 if setting == 4009 else 1)
    assert await rig.oracles() == {"O-11"}


async def test_heartbeats_keep_a_connection_alive(start: StartRig) -> None:
    rig = await start(time_factor=FAST, heartbeat_interval=10.0, heartbeat_tolerance=30.0)
    client = await rig.ready()
    for _ in range(6):
        await asyncio.sleep(0.1)
        await client.heartbeat()
    assert client.ws.close_code is None
    (view,) = await rig.control.shards()
    assert view.acknowledged == view.seq == client.seq


async def test_hello_scales_with_the_time_factor(start: StartRig) -> None:
    rig = await start(time_factor=0.1)
    client = await rig.dial(hello=False)
    assert (await client.receive())["d"]["heartbeat_interval"] == 4125


async def test_heartbeats_with_unsent_sequences_are_noted(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    client.seq = 10_000
    await client.heartbeat()
    assert await rig.oracles() == {"STRICT"}
    (view,) = await rig.control.shards()
    assert view.acknowledged == view.seq


async def test_short_acks_have_only_an_opcode(start: StartRig) -> None:
    rig = await start(short_acks=True)
    client = await rig.dial()
    await client.send(1, None)
    assert await client.receive() == {"op": 11}


async def test_a_requested_heartbeat_is_timed(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.request_heartbeat(0)
    await client.op(1)
    await client.heartbeat()
    (beat,) = await rig.control.ledger(kinds=["heartbeat"])
    assert isinstance(beat, ledger.Heartbeat)
    assert beat.requested is not None
    assert 0 < beat.requested < 1
    assert await rig.oracles() == set()


async def test_acknowledgements_can_be_withheld(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.withhold_acks(0, 2)
    for _ in range(3):
        await client.send(1, client.seq)
    await client.op(11)
    await rig.control.wait_for_summary(lambda summary: summary.heartbeats == 3, 5)
    await rig.control.event(0, "END", {})
    ops = []
    while (payload := await client.receive())["op"] == 11:
        ops.append(payload)
    assert ops == []


async def test_a_muted_connection_neither_reads_nor_writes(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await client.reach(5)
    await rig.control.mute(0, 0.8)
    await client.send(1, client.seq)
    await rig.control.event(0, "LATE", {})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.receive(), 0.15)
    assert (await rig.control.summary()).heartbeats == 0
    got = await _ops_until_ack_and(client, "LATE")
    assert got == {"LATE"}


async def _ops_until_ack_and(client: Client, name: str) -> set[str]:
    """Read on until both the acknowledgement and the named event have come."""
    names: set[str] = set()
    acknowledged = False
    while not acknowledged or name not in names:
        payload = await client.receive()
        acknowledged |= payload["op"] == 11
        names |= {payload["t"]} if payload.get("t") else set()
    return names


async def test_reconnect_is_sent_and_may_be_followed_by_a_close(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.reconnect(0, close_after=0.05)
    await client.op(7)
    assert await client.closed() == 1001
    await rig.resumed(client)
    assert await rig.oracles() == set()


@pytest.mark.parametrize("code", [4000, 4008, 1011, None])
async def test_a_close_from_the_server_keeps_the_session(start: StartRig, code: int | None) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.close_connection(0, code)
    assert await client.closed() == code
    await rig.resumed(client)


@pytest.mark.parametrize("code", [4004, 4007, 4009, 4014])
async def test_some_closes_end_the_session(start: StartRig, code: int) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.drop(0, code)
    assert await client.closed() == code
    assert await rig.control.shards() == []


async def test_resume_with_another_query_is_noted_or_refused(start: StartRig) -> None:
    lenient = await start()
    client = await lenient.ready()
    await lenient.resumed(client, query="v=10&encoding=json&compress=zlib-stream")
    assert await lenient.oracles() == {"O-04"}
    strict = await start(close_on_other_resume_parameters=True)
    client = await strict.ready()
    again = await strict.dial(client.resume_url, query="v=10&encoding=json&compress=zlib-stream")
    await again.resume(client)
    assert await again.closed() == 4000


async def test_member_requests_are_answered_once_in_thirty_seconds(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    guild = client.dispatches[0]["d"]["guilds"][0]["id"]
    everybody = {"guild_id": guild, "query": "", "limit": 0, "nonce": "n1"}
    await client.send(8, everybody)
    chunk = await client.event("GUILD_MEMBERS_CHUNK")
    assert chunk["d"]["guild_id"] == guild
    assert chunk["d"]["nonce"] == "n1"
    await client.send(8, everybody)
    limited = await client.event("RATE_LIMITED")
    assert limited["d"]["opcode"] == 8
    assert 29 < limited["d"]["retry_after"] <= 30
    assert limited["d"]["meta"] == {"nonce": "n1", "guild_id": guild}


@pytest.mark.parametrize(
    ("intents", "data", "rule"),
    [
        (None, {"guild_id": str(guild_id(1)), "query": "", "limit": 0}, "wrong-shard"),
        (1, {"query": "", "limit": 0}, "members-intent"),
        (None, {"query": "a", "limit": 1, "nonce": "x" * 33}, "nonce-size"),
        (None, {"user_ids": ["1"] * 101}, "user-ids"),
    ],
)
async def test_odd_member_requests_are_noted(
    start: StartRig, intents: int | None, data: dict[str, Any], rule: str
) -> None:
    rig = await start()
    client = await rig.ready(intents=ALL_INTENTS if intents is None else intents)
    guild = client.dispatches[0]["d"]["guilds"][0]["id"]
    await client.send(8, {"guild_id": guild, **data})
    await client.heartbeat()
    (record,) = await rig.control.ledger(kinds=["violation"])
    assert isinstance(record, ledger.Violation)
    assert record.rule == rule


@pytest.mark.parametrize("closes", [False, True])
async def test_too_many_presence_updates_are_noted_or_refused(
    start: StartRig, closes: bool
) -> None:
    rig = await start(presence_limit_closes=closes)
    client = await rig.ready()
    presence: dict[str, Any] = {"since": None, "activities": [], "status": "online", "afk": False}
    for _ in range(6):
        await client.send(3, presence)
    if closes:
        assert await client.closed() == 4008
    else:
        await client.heartbeat()
    assert (await rig.control.ledger(kinds=["violation"]))[0].kind == "violation"


async def test_the_token_is_nowhere_in_what_the_simulator_tells(start: StartRig) -> None:
    rig = await start(tokens=("s3cr3t-token",))
    client = await rig.ready(token="s3cr3t-token")
    client.kill()
    again = await rig.dial(client.resume_url)
    await again.resume(client, token="s3cr3t-token")
    await again.event("RESUMED")
    assert await _gateway_bot(rig, "s3cr3t-token") == 200
    wrong = await rig.dial()
    await wrong.identify(token="s3cr3t-token-wrong")
    await wrong.closed()
    told = json.dumps([str(record) for record in await rig.control.ledger()])
    assert "s3cr3t" not in told
    assert len(told) > 1000


async def test_pings_are_answered(start: StartRig) -> None:
    rig = await start()
    client = await rig.dial()
    await client.ws.ping(b"hello")
    await client.heartbeat()
    assert client.ws.close_code is None
