# SPDX-License-Identifier: Apache-2.0
"""What a client says, and what is done about it."""

import json
from typing import Any

import pytest

from discluster.cluster.local.dialogue import (
    Acknowledge,
    Begin,
    Close,
    Continue,
    Dialogue,
    Say,
    Send,
)
from discluster.cluster.local.judging import Facts
from discluster.cluster.local.requests import Identify, Resume
from discluster.gateway.commands import UpdatePresence
from discluster.secret import Secret

INTERVAL = 10.0
FACTS = Facts(shard_count=16, shards=(2, 3), intents=1 | 512)
PRESENCE: dict[str, Any] = {"status": "idle", "activities": [], "since": None, "afk": False}


def dialogue(facts: Facts = FACTS) -> Dialogue:
    tokens = (Secret("local"), Secret("bot"))
    return Dialogue(tokens=tokens, facts=lambda: facts, interval=INTERVAL, now=100.0)


def identify(**more: Any) -> dict[str, Any]:
    body = {"token": "bot", "intents": 513, "shard": [3, 16], "properties": {}}
    return {"op": 2, "d": {**body, **more}}


def said(talk: Dialogue, payload: object, now: float = 100.0) -> Any:
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return talk.hear(text, now)


def authenticated() -> Dialogue:
    talk = dialogue()
    [act] = said(talk, identify())
    assert isinstance(act, Begin)
    return talk


def test_greeting_is_hello_with_our_own_interval() -> None:
    assert json.loads(dialogue().greeting().payload) == {
        "op": 10,
        "d": {"heartbeat_interval": 10_000},
    }


@pytest.mark.parametrize("token", ["bot", "local", "Bot bot"])
def test_identify_with_a_right_token_is_to_be_answered(token: str) -> None:
    talk = dialogue()
    assert said(talk, identify(token=token, compress=True)) == [
        Begin(Identify(token.removeprefix("Bot "), 513, (3, 16)))
    ]
    assert talk.authenticated


def test_presence_of_an_identify_is_a_command() -> None:
    [act] = said(dialogue(), identify(presence=PRESENCE))
    assert act.identify.presence == UpdatePresence(status="idle")


def test_resume_with_a_right_token_is_to_be_answered() -> None:
    body = {"token": "bot", "session_id": "abc", "seq": 7}
    assert said(dialogue(), {"op": 6, "d": body}) == [Continue(Resume("bot", "abc", 7))]


@pytest.mark.parametrize(
    ("payload", "code", "words"),
    [
        (b"{", 4002, "decoding"),
        (b"\xff", 4002, "decoding"),
        (b"[" * 5000, 4002, "decoding"),
        ({"d": 1}, 4002, "decoding"),
        ({"op": 99}, 4001, "opcode 99"),
        ({"op": 0, "d": {}}, 4001, "opcode 0"),
        ({"op": 3, "d": PRESENCE}, 4003, "Not authenticated"),
        (identify(token="x"), 4004, "Authentication failed"),
        (identify(token="ü"), 4004, "Authentication failed"),
        ({"op": 6, "d": {"token": "x", "session_id": "a", "seq": 1}}, 4004, "Authentication"),
        ({"op": 6, "d": {"token": "bot", "session_id": "a", "seq": -1}}, 4002, "op 6"),
        (identify(shard=[3, 8]), 4010, "the shard count is 16, not 8"),
        (identify(shard=[16, 16]), 4010, "16 is not below 16"),
        (identify(shard=[-1, 16]), 4010, "-1 is not below 16"),
        (identify(intents=513 | 2 | 1 << 15), 4014, "GUILD_MEMBERS, MESSAGE_CONTENT"),
        (identify(intents=513 | 1 << 60), 4014, "0x1000"),
        (identify(intents=-1), 4002, "op 2"),
        (identify(presence={"status": "gone"}), 4002, "op 3"),
    ],
)
def test_what_cannot_be_closes_the_connection_with_discords_code_and_words(
    payload: object, code: int, words: str
) -> None:
    talk = dialogue()
    [act] = said(talk, payload)
    assert isinstance(act, Close)
    assert act.code == code
    assert words in act.reason
    assert not talk.authenticated


def test_cluster_without_an_assignment_asks_the_bot_to_come_again() -> None:
    talk = dialogue(Facts(shard_count=None, shards=(), intents=513))
    [act] = said(talk, identify())
    assert (act.code, act.reason) == (4000, "The cluster has no assignment yet; try again")


def test_shard_that_is_not_here_yet_is_no_reason_to_refuse() -> None:
    [act] = said(dialogue(), identify(shard=[9, 16]))
    assert isinstance(act, Begin)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (identify(), 4005),
        ({"op": 6, "d": {"token": "bot", "session_id": "a", "seq": 1}}, 4005),
        ({"op": 4, "d": {"guild_id": []}}, 4002),
    ],
)
def test_once_authenticated_other_things_are_wrong(payload: object, code: int) -> None:
    [act] = said(authenticated(), payload)
    assert act.code == code


def test_command_of_an_authenticated_client_is_for_discord() -> None:
    [act] = said(authenticated(), {"op": 3, "d": PRESENCE})
    assert act == Send(UpdatePresence(status="idle"))


def test_heartbeat_is_answered_and_acknowledges_once_authenticated() -> None:
    assert said(dialogue(), {"op": 1, "d": 5}) == [Say(b'{"op":11}')]
    assert said(authenticated(), {"op": 1, "d": None}) == [Say(b'{"op":11}')]
    assert said(authenticated(), {"op": 1, "d": 5}) == [Say(b'{"op":11}'), Acknowledge(5)]


def test_client_whose_session_is_over_may_identify_again() -> None:
    talk = authenticated()
    assert json.loads(talk.invalid().payload) == {"op": 9, "d": False}
    [act] = said(talk, identify())
    assert isinstance(act, Begin)


def test_client_that_misses_three_heartbeats_is_gone() -> None:
    talk = authenticated()
    said(talk, {"op": 1, "d": 5}, now=105.0)
    assert talk.tick(134.9, owed=0, since=0) is None
    act = talk.tick(135.1, owed=0, since=0)
    assert isinstance(act, Close)
    assert act.code == 4000


@pytest.mark.parametrize(
    ("owed", "waited", "asks"),
    [(0, 60.0, False), (1, 1.9, False), (1, 2.0, True), (500, 0.9, False), (500, 1.0, True)],
)
def test_heartbeat_is_asked_for_when_much_is_to_be_acknowledged_or_for_long(
    owed: int, waited: float, asks: bool
) -> None:
    talk = authenticated()
    now = 100.0 + waited if waited < 10 else 110.0
    act = talk.tick(now, owed=owed, since=now - waited)
    assert (act == Say(b'{"op":1,"d":null}')) is asks


def test_heartbeat_is_not_asked_for_again_before_it_came_or_an_interval_passed() -> None:
    talk = authenticated()
    assert talk.tick(103.0, owed=9, since=100.0) is not None
    assert talk.tick(104.0, owed=9, since=100.0) is None
    said(talk, {"op": 1, "d": 5}, now=104.5)
    assert talk.tick(105.0, owed=4, since=104.5) is None
    assert talk.tick(106.5, owed=4, since=104.5) is not None
    assert talk.tick(116.6, owed=4, since=104.5) is not None


def test_heartbeats_are_asked_for_once_a_second_at_most_unless_it_is_urgent() -> None:
    talk = authenticated()
    assert talk.ask(100.0) is not None
    said(talk, {"op": 1, "d": 5}, now=100.1)
    assert talk.ask(100.9) is None
    assert talk.ask(100.9, urgent=True) is not None
    assert talk.ask(101.9) is not None


def test_client_that_sends_twice_what_discord_takes_in_a_minute_is_sent_away() -> None:
    talk = authenticated()
    for _ in range(239):
        assert said(talk, {"op": 1, "d": 5}, now=159.0)[0] == Say(b'{"op":11}')
    [act] = said(talk, {"op": 1, "d": 5}, now=159.0)
    assert act.code == 4008
    assert said(talk, {"op": 1, "d": 5}, now=160.0)[0] == Say(b'{"op":11}')
