# SPDX-License-Identifier: Apache-2.0
"""Commands of clients, and where events go, over real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from discluster.simulator import ledger
from discluster.simulator.deeds import Raw
from discluster.simulator.guilds import guild_id
from discluster.simulator.intents import Intent
from discluster.simulator.members import chunks, members
from tests.unit.simulator.client import ALL_INTENTS, Client
from tests.unit.simulator.conftest import Rig, StartRig

GUILD = str(guild_id(0))
ELSEWHERE = str(guild_id(1))


async def violations(rig: Rig) -> list[str]:
    records = await rig.control.ledger(kinds=["violation"])
    return [record.rule for record in records if isinstance(record, ledger.Violation)]


async def names(client: Client) -> list[str]:
    """Dispatches up to now."""
    await client.heartbeat()
    return [event["t"] for event in client.dispatches]


# Members


def test_members_come_in_chunks_of_a_thousand() -> None:
    parts = chunks({"query": "", "limit": 0, "nonce": "n"}, GUILD, members(2500))
    assert [len(part["members"]) for part in parts] == [1000, 1000, 500]
    assert [(part["chunk_index"], part["chunk_count"]) for part in parts] == [
        (0, 3),
        (1, 3),
        (2, 3),
    ]
    assert {(part["nonce"], part["guild_id"]) for part in parts} == {("n", GUILD)}
    ids = [member["user"]["id"] for part in parts for member in part["members"]]
    assert len(set(ids)) == 2500


def test_unknown_ids_are_not_found() -> None:
    everybody = members(10)
    known = everybody[3]["user"]["id"]
    (part,) = chunks({"user_ids": [known, "17", "18"]}, GUILD, everybody)
    assert [member["user"]["id"] for member in part["members"]] == [known]
    assert part["not_found"] == ["17", "18"]
    (part,) = chunks({"user_ids": "17"}, GUILD, everybody)
    assert (part["members"], part["not_found"]) == ([], ["17"])
    (part,) = chunks({"user_ids": [known] * 101}, GUILD, everybody)
    assert len(part["members"]) == 100


@pytest.mark.parametrize(
    ("query", "limit", "found"),
    [("member-000", 5, 5), ("member-0000", 0, 9), ("member", 1000, 100), ("nobody", 9, 0)],
)
def test_a_query_finds_by_prefix_and_at_most_a_hundred(query: str, limit: int, found: int) -> None:
    (part,) = chunks({"query": query, "limit": limit}, GUILD, members(500))
    assert len(part["members"]) == found
    assert "not_found" not in part


async def test_all_members_of_a_guild(start: StartRig) -> None:
    rig = await start(members=1500)
    client = await rig.ready()
    asked = {"guild_id": GUILD, "query": "", "limit": 0, "presences": True, "nonce": "n"}
    await client.send(8, asked)
    first = (await client.event("GUILD_MEMBERS_CHUNK"))["d"]
    second = (await client.event("GUILD_MEMBERS_CHUNK"))["d"]
    assert (len(first["members"]), len(second["members"])) == (1000, 500)
    assert first["presences"] == []
    assert await violations(rig) == []


async def test_rate_limit_of_members_is_told_in_real_seconds(start: StartRig) -> None:
    rig = await start(time_factor=0.1)
    client = await rig.ready()
    for _ in range(2):
        await client.send(8, {"guild_id": GUILD, "query": "", "limit": 0})
    limited = await client.event("RATE_LIMITED")
    assert 2 < limited["d"]["retry_after"] <= 3


async def test_a_script_answers_in_its_own_way(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    text = '{"t":"GUILD_MEMBERS_CHUNK","s":$S,"op":0,"d":{"not_found":[17]}}'
    await rig.control.script("command", Raw(text=text, consume=True), instead=True)
    await client.send(8, {"guild_id": GUILD, "user_ids": ["17"]})
    assert (await client.event("GUILD_MEMBERS_CHUNK"))["d"] == {"not_found": [17]}


@pytest.mark.parametrize(
    ("intents", "data", "rule"),
    [
        (ALL_INTENTS, {}, "members-query"),
        (ALL_INTENTS, {"guild_id": [GUILD, GUILD], "query": "a", "limit": 1}, "wrong-shard"),
        (1, {"query": "a", "limit": 1, "presences": True}, "presences-intent"),
    ],
)
async def test_odd_requests_for_members(
    start: StartRig, intents: int, data: dict[str, Any], rule: str
) -> None:
    rig = await start()
    client = await rig.ready(intents=intents)
    await client.send(8, {"guild_id": GUILD, **data})
    await client.heartbeat()
    assert await violations(rig) == [rule]


# Voice, and what is only recorded


async def test_joining_a_voice_channel_is_answered(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    state = {"guild_id": GUILD, "channel_id": "42", "self_mute": True, "self_deaf": False}
    await client.send(4, state)
    told = (await client.event("VOICE_STATE_UPDATE"))["d"]
    assert {key: told[key] for key in state} == state
    assert (await client.event("VOICE_SERVER_UPDATE"))["d"]["guild_id"] == GUILD
    await client.send(4, {**state, "channel_id": None})
    assert (await client.event("VOICE_STATE_UPDATE"))["d"]["channel_id"] is None
    assert (await names(client)).count("VOICE_SERVER_UPDATE") == 1


async def test_voice_states_need_their_intent(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready(intents=int(Intent.GUILDS))
    state = {"guild_id": GUILD, "channel_id": "42", "self_mute": True, "self_deaf": False}
    await client.send(4, state)
    await client.event("VOICE_SERVER_UPDATE")
    assert "VOICE_STATE_UPDATE" not in await names(client)


@pytest.mark.parametrize(
    ("op", "data"),
    [
        (4, {"guild_id": ELSEWHERE, "channel_id": "1", "self_mute": True, "self_deaf": True}),
        (8, {"guild_id": ELSEWHERE, "query": "", "limit": 0}),
        (31, {"guild_ids": [GUILD, ELSEWHERE]}),
        (43, {"guild_id": ELSEWHERE, "fields": ["status"]}),
    ],
)
async def test_commands_for_guilds_of_another_shard_are_recorded_and_ignored(
    start: StartRig, op: int, data: dict[str, Any]
) -> None:
    rig = await start()
    client = await rig.ready()
    await client.send(op, data)
    assert set(await names(client)) <= {"READY", "GUILD_CREATE"}
    assert await violations(rig) == ["wrong-shard"]


@pytest.mark.parametrize(
    ("op", "data"), [(31, {"guild_ids": [GUILD]}), (43, {"guild_id": GUILD, "fields": ["status"]})]
)
async def test_other_commands_are_recorded(start: StartRig, op: int, data: dict[str, Any]) -> None:
    rig = await start()
    client = await rig.ready()
    await client.send(op, data)
    await client.heartbeat()
    (record,) = await rig.control.ledger(kinds=["command"])
    assert isinstance(record, ledger.Command)
    assert (record.op, record.bot, record.shard) == (op, 0, (0, 4))
    assert await violations(rig) == []


async def test_members_of_one_guild_are_limited_for_each_bot(start: StartRig) -> None:
    rig = await start(tokens=("one", "two"))
    for token in ("one", "two"):
        client = await rig.ready(token=token)
        await client.send(8, {"guild_id": GUILD, "query": "", "limit": 0})
        await client.event("GUILD_MEMBERS_CHUNK")


# Routing


async def test_direct_messages_go_to_shard_0_of_each_count(start: StartRig) -> None:
    rig = await start()
    clients = [await rig.ready(shard) for shard in ((0, 2), (1, 2), (0, 4), (1, 4))]
    await rig.control.event("routed", "MESSAGE_CREATE", {"channel_id": "1"})
    got = [("MESSAGE_CREATE" in await names(client)) for client in clients]
    assert got == [True, False, True, False]


async def test_direct_messages_need_their_intent(start: StartRig) -> None:
    rig = await start(tokens=("one", "two"))
    with_it = await rig.ready(token="one", intents=int(Intent.GUILDS | Intent.DIRECT_MESSAGES))
    without = await rig.ready(token="two", intents=int(Intent.GUILDS | Intent.GUILD_MESSAGES))
    await rig.control.event("routed", "MESSAGE_CREATE", {"channel_id": "1"})
    await rig.control.event("routed", "ENTITLEMENT_CREATE", {"id": "1"})
    assert (await names(with_it))[-2:] == ["MESSAGE_CREATE", "ENTITLEMENT_CREATE"]
    assert (await names(without))[-1] == "ENTITLEMENT_CREATE"
    assert "MESSAGE_CREATE" not in await names(without)


async def test_guild_events_go_to_the_shard_of_the_guild(start: StartRig) -> None:
    rig = await start()
    clients = [await rig.ready(shard) for shard in ((1, 2), (0, 2), (1, 4), (3, 4))]
    await rig.control.event("routed", "MESSAGE_CREATE", {"guild_id": ELSEWHERE})
    got = [("MESSAGE_CREATE" in await names(client)) for client in clients]
    assert got == [True, False, True, False]
