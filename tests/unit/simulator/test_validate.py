# SPDX-License-Identifier: Apache-2.0
"""What clients may send, and with which code the rest is refused."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.simulator.intents import DEFINED_INTENTS, PRIVILEGED_INTENTS
from discluster.simulator.validate import (
    CommandFrame,
    Frame,
    HeartbeatFrame,
    IdentifyFrame,
    Refusal,
    ResumeFrame,
    judge_intents,
    judge_resume_seq,
    judge_shard,
    read_frame,
)

IDENTIFY = {"token": "t", "properties": {}, "intents": 513, "shard": [0, 1]}
RESUME = {"token": "t", "session_id": "s", "seq": 5}
PRESENCE: dict[str, Any] = {"since": None, "activities": [], "status": "online", "afk": False}
VOICE = {"guild_id": "1", "channel_id": None, "self_mute": False, "self_deaf": False}


def read(op: Any, data: Any, *, authenticated: bool = False) -> Frame:
    payload = json.dumps({"op": op, "d": data}).encode()
    return read_frame(payload, authenticated=authenticated)


def without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != key}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"x" * 4097, 4002),
        (b"{", 4002),
        (b"\xff", 4002),
        (b"[]", 4002),
        (b"7", 4002),
        (zlib.compress(b'{"op":1,"d":7}'), 4002),
        (b"{}", 4002),
        (b'{"op":"1"}', 4002),
        (b'{"op":true}', 4002),
        (b'{"op":1.5}', 4002),
        *((b'{"op":%d,"d":null}' % op, 4001) for op in (0, 5, 7, 9, 10, 11, 12, 30, 44, -1)),
    ],
)
@pytest.mark.parametrize("authenticated", [False, True])
def test_nonsense_is_refused_in_every_state(payload: bytes, code: int, authenticated: bool) -> None:
    refusal = read_frame(payload, authenticated=authenticated)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code


def test_payload_of_exactly_4096_bytes_is_read() -> None:
    payload = b'{"op":1,"d":7}'
    payload += b" " * (4096 - len(payload))
    assert read_frame(payload, authenticated=True) == HeartbeatFrame(7)


@pytest.mark.parametrize(
    ("op", "data", "authenticated", "code"),
    [
        (2, IDENTIFY, True, 4005),
        (6, RESUME, True, 4005),
        (3, PRESENCE, False, 4003),
        (4, VOICE, False, 4003),
        (8, {"guild_id": "1"}, False, 4003),
        (31, {"guild_ids": []}, False, 4003),
        (43, {"guild_id": "1", "fields": []}, False, 4003),
        (1, "7", False, 4002),
        (1, 7.5, True, 4002),
        (1, True, True, 4002),
        (2, None, False, 4002),
        (2, without(IDENTIFY, "token"), False, 4002),
        (2, without(IDENTIFY, "properties"), False, 4002),
        (2, without(IDENTIFY, "intents"), False, 4002),
        (2, {**IDENTIFY, "intents": "513"}, False, 4002),
        (2, {**IDENTIFY, "presence": 5}, False, 4002),
        (6, without(RESUME, "token"), False, 4002),
        (6, without(RESUME, "session_id"), False, 4002),
        (6, without(RESUME, "seq"), False, 4002),
        (3, without(PRESENCE, "status"), True, 4002),
        (4, without(VOICE, "guild_id"), True, 4002),
        (8, {}, True, 4002),
    ],
)
def test_frames_out_of_place_or_shape_are_refused(
    op: int, data: Any, authenticated: bool, code: int
) -> None:
    refusal = read(op, data, authenticated=authenticated)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code


def test_good_frames_are_read() -> None:
    assert read(1, None) == HeartbeatFrame(None)
    assert read(2, IDENTIFY) == IdentifyFrame("t", [0, 1], 513, ())
    assert read(2, {**IDENTIFY, "compress": True}) == IdentifyFrame("t", [0, 1], 513, (), True)
    assert read(6, RESUME) == ResumeFrame("t", "s", 5)
    assert read(3, PRESENCE, authenticated=True) == CommandFrame(3, PRESENCE)
    assert read(4, VOICE, authenticated=True) == CommandFrame(4, VOICE)


def test_oddities_are_noted_but_accepted() -> None:
    odd = read(2, {**IDENTIFY, "token": "Bot t", "large_threshold": 251})
    assert isinstance(odd, IdentifyFrame)
    rules = [rule for rule, _ in odd.oddities]
    assert rules == ["bot-prefix", "large-threshold"]
    bare = read_frame(b'{"op":1}', authenticated=False)
    assert bare == HeartbeatFrame(None, "heartbeat without d")


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode), st.booleans())
def test_no_input_makes_the_judge_fall_over(payload: bytes, authenticated: bool) -> None:
    read_frame(payload, authenticated=authenticated)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.sampled_from([1, 2, 3, 4, 6, 8, 31, 43]), json_values, st.booleans())
def test_no_json_makes_the_judge_fall_over(op: int, data: Any, authenticated: bool) -> None:
    read(op, data, authenticated=authenticated)


@pytest.mark.parametrize(
    ("shard", "guilds", "multiple", "expected"),
    [
        ([3, 16], 1000, 0, (3, 16)),
        (None, 2500, 0, (0, 1)),
        (None, 2501, 0, 4011),
        (None, 10, 16, 4011),
        ([0, 2], 5001, 0, 4011),
        ([1, 2], 5001, 0, (1, 2)),
        ([16, 16], 10, 0, 4010),
        ([-1, 16], 10, 0, 4010),
        ([0, 0], 10, 0, 4010),
        ([0], 10, 0, 4010),
        ([0, 1, 2], 10, 0, 4010),
        (["0", 1], 10, 0, 4010),
        ([False, 1], 10, 0, 4010),
        ("0/1", 10, 0, 4010),
        ([0, 24], 10, 16, 4010),
        ([0, 32], 10, 16, (0, 32)),
    ],
)
def test_shards_are_judged(
    shard: object, guilds: int, multiple: int, expected: tuple[int, int] | int
) -> None:
    verdict = judge_shard(shard, guilds=guilds, max_guilds=2500, assigned_multiple=multiple)
    assert (verdict.code if isinstance(verdict, Refusal) else verdict) == expected


@pytest.mark.parametrize(
    ("intents", "granted", "code"),
    [
        (DEFINED_INTENTS, PRIVILEGED_INTENTS, None),
        (0, 0, None),
        (DEFINED_INTENTS & ~PRIVILEGED_INTENTS, 0, None),
        (1 << 17, 0, 4013),
        (1 << 22, 0, 4013),
        (1 << 26, 0, 4013),
        (-1, 0, 4013),
        (1 << 15, 0, 4014),
        (1 << 1 | 1 << 8, 1 << 1, 4014),
    ],
)
def test_intents_are_judged(intents: int, granted: int, code: int | None) -> None:
    verdict = judge_intents(intents, granted=granted)
    assert (verdict and verdict.code) == code


@pytest.mark.parametrize("seq", [0, -1, 11, "5", None, 5.0, True])
def test_sequences_that_were_never_sent_are_refused(seq: object) -> None:
    assert isinstance(judge_resume_seq(seq, last_seq=10), Refusal)


@pytest.mark.parametrize("seq", [1, 10])
def test_sequences_that_were_sent_are_taken(seq: int) -> None:
    assert judge_resume_seq(seq, last_seq=10) == seq
