# SPDX-License-Identifier: Apache-2.0
"""The simulated HTTP API that bots answer by."""

from __future__ import annotations

import json
from typing import Any

import pytest

from discluster.simulator.bodies import APPLICATION_ID, BOT_USER_ID
from discluster.simulator.guilds import guild_id
from discluster.simulator.settings import DEFAULT_TOKEN
from tests.unit.simulator.conftest import Rig, StartRig

CHANNEL = guild_id(0)
MESSAGES = f"/channels/{CHANNEL}/messages"
COMMANDS = f"/applications/{APPLICATION_ID}/commands"
PING = {"name": "ping", "description": "Answers."}
ALL_MESSAGES = 1 << 0 | 1 << 9 | 1 << 15


async def call(
    rig: Rig,
    method: str,
    path: str,
    body: object = None,
    *,
    token: str = f"Bot {DEFAULT_TOKEN}",
    kind: str = "application/json",
) -> tuple[int, Any]:
    """Status and body of the answer."""
    headers = {
        "Authorization": token,
        "User-Agent": "DiscordBot (https://example.org, 1)",
        **({} if body is None else {"Content-Type": kind}),
    }
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    url = rig.simulator.api + path
    async with rig.dialer.http.request(method, url, headers=headers, data=data) as response:
        text = await response.text()
        return response.status, json.loads(text) if text else None


async def violations(rig: Rig) -> list[str]:
    records: list[Any] = list(await rig.control.ledger(kinds=["violation"]))
    return [record.rule for record in records]


async def done(rig: Rig) -> list[Any]:
    """Records of what was asked for and done."""
    return list(await rig.control.ledger(kinds=["rest"]))


async def test_message_of_a_bot_is_recorded_answered_and_heard(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready((0, 4), intents=ALL_MESSAGES)
    status, said = await call(rig, "POST", MESSAGES, {"content": "pong", "tts": False})
    assert status == 200
    assert (said["content"], said["channel_id"]) == ("pong", str(CHANNEL))
    assert said["author"]["id"] == BOT_USER_ID
    [record] = await done(rig)
    assert (record.method, record.path) == ("POST", MESSAGES)
    assert record.body == {"content": "pong", "tts": False}
    heard = (await client.event("MESSAGE_CREATE"))["d"]
    assert (heard["id"], heard["content"]) == (said["id"], "pong")
    assert heard["guild_id"] == str(CHANNEL)
    assert await violations(rig) == []


async def test_two_messages_are_two(start: StartRig) -> None:
    rig = await start()
    made = [await call(rig, "POST", MESSAGES, {"content": "pong"}) for _ in range(2)]
    assert len({said["id"] for _, said in made}) == 2


async def test_commands_of_an_application_are_taken_as_a_whole(start: StartRig) -> None:
    rig = await start()
    status, made = await call(rig, "PUT", COMMANDS, [PING])
    assert status == 200
    assert [(one["name"], one["type"], one["application_id"]) for one in made] == [
        ("ping", 1, APPLICATION_ID)
    ]
    [record] = await done(rig)
    assert (record.method, record.path, record.body) == ("PUT", COMMANDS, [PING])


async def test_typing_is_recorded(start: StartRig) -> None:
    rig = await start()
    assert await call(rig, "POST", f"/channels/{CHANNEL}/typing") == (204, None)
    [record] = await done(rig)
    assert record.path == f"/channels/{CHANNEL}/typing"
    status, _ = await call(rig, "POST", f"/channels/{CHANNEL}/typing", {"for": 10})
    assert status == 400
    assert await violations(rig) == ["rest-typing"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", MESSAGES, {"content": "pong"}),
        ("POST", f"/channels/{CHANNEL}/typing", None),
        ("PUT", COMMANDS, [PING]),
    ],
)
@pytest.mark.parametrize("token", ["", DEFAULT_TOKEN, "Bot wrong"])
async def test_nothing_is_done_without_authentication(
    start: StartRig, method: str, path: str, body: object, token: str
) -> None:
    rig = await start()
    status, answer = await call(rig, method, path, body, token=token)
    assert (status, answer["code"]) == (401, 0)
    assert await done(rig) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "empty message"),
        ({"content": ""}, "empty message"),
        ({"content": "x" * 2001}, "2001 characters"),
        ({"content": 7}, "content is int"),
        ({"content": "pong", "tts": 1}, "tts is int"),
        ({"content": "pong", "flags": True}, "flags is bool"),
        ({"content": "pong", "colour": "red"}, "unknown fields: colour"),
        ({"embeds": [{}] * 11}, "more than 10 embeds"),
        (["pong"], "list, not an object"),
        (b"{", "no JSON"),
    ],
)
async def test_message_of_another_shape_is_refused_and_judged(
    start: StartRig, body: object, told: str
) -> None:
    rig = await start()
    status, answer = await call(rig, "POST", MESSAGES, body)
    assert (status, answer["code"]) == (400, 50_035)
    assert told in answer["message"]
    assert await rig.oracles() == {"STRICT"}
    assert await done(rig) == []


async def test_another_content_type_is_refused_and_judged(start: StartRig) -> None:
    rig = await start()
    status, _ = await call(rig, "POST", MESSAGES, b"content=pong", kind="text/plain")
    assert status == 400
    assert await violations(rig) == ["rest-content-type"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "no list"),
        ([{"name": "ping"}], "no description of 1 to 100"),
        ([{**PING, "name": "Ping"}], "'Ping' cannot be the name"),
        ([{**PING, "name": "two words"}], "cannot be the name"),
        ([{**PING, "type": 9}], "no type 9"),
        ([PING, PING], "must be unique"),
        ([{**PING, "colour": "red"}], "unknown fields: colour"),
    ],
)
async def test_commands_of_another_shape_are_refused_and_judged(
    start: StartRig, body: object, told: str
) -> None:
    rig = await start()
    status, answer = await call(rig, "PUT", COMMANDS, body)
    assert (status, answer["code"]) == (400, 50_035)
    assert told in answer["message"]
    assert await violations(rig) == ["rest-commands"]


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/channels/7/messages", {"content": "pong"}, 10_003),
        ("POST", "/channels/7/typing", None, 10_003),
        ("PUT", "/applications/7/commands", [PING], 10_002),
    ],
)
async def test_what_is_not_there_is_404(
    start: StartRig, method: str, path: str, body: object, code: int
) -> None:
    rig = await start()
    status, answer = await call(rig, method, path, body)
    assert (status, answer["code"]) == (404, code)
    assert await done(rig) == []


async def test_what_somebody_says_reaches_the_guilds_shard(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready((0, 4), intents=ALL_MESSAGES)
    await rig.control.say(CHANNEL, "!ping")
    heard = (await client.event("MESSAGE_CREATE"))["d"]
    assert (heard["content"], heard["channel_id"]) == ("!ping", str(CHANNEL))
    assert not heard["author"].get("bot")
