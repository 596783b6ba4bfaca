# SPDX-License-Identifier: Apache-2.0
"""The script: which rule applies where, and which rules make no sense."""

from __future__ import annotations

import msgspec
import pytest

from discluster.simulator.deeds import (
    AnyDeed,
    Big,
    Body,
    Close,
    Delay,
    Fields,
    Hang,
    Hello,
    Raw,
    Reconnect,
    Replay,
    Reset,
    Status,
)
from discluster.simulator.fields import changed
from discluster.simulator.replaying import replay_order
from discluster.simulator.script import At, Rule, Scene, Script, ScriptError, check, stops

SCENE = Scene(edge="main", shard=(3, 16), bot=0)


def hits(at: At, *scenes: Scene, now: float = 0.0) -> list[bool]:
    """Whether a rule made at 0 is carried out at each of these scenes."""
    script = Script()
    script.add(Rule(at=at), 0.0)
    return [bool(script.take(at.point, scene, now)) for scene in scenes]


@pytest.mark.parametrize(
    ("at", "applies"),
    [
        (At(point="ready"), True),
        (At(point="ready", shard="all"), True),
        (At(point="ready", shard=3), True),
        (At(point="ready", shard=(3, 16)), True),
        (At(point="ready", shard=(3, 8)), False),
        (At(point="ready", shard=4), False),
        (At(point="ready", edge="main"), True),
        (At(point="ready", edge="edge-a"), False),
        (At(point="ready", bot=0), True),
        (At(point="ready", bot=1), False),
    ],
)
def test_shard_edge_and_bot_select(at: At, applies: bool) -> None:
    assert hits(at, SCENE) == [applies]


def test_another_point_does_not_match() -> None:
    script = Script()
    script.add(Rule(at=At(point="ready")), 0.0)
    assert script.take("resumed", SCENE, 0.0) == []


def test_a_connection_without_a_shard_is_not_one_of_all_shards() -> None:
    assert hits(At(point="heartbeat", shard="all"), Scene(edge="main")) == [False]
    assert hits(At(point="heartbeat"), Scene(edge="main")) == [True]


def test_skip_and_times_count_matches() -> None:
    at = At(point="ready", skip=2, times=2)
    assert hits(at, *[SCENE] * 6) == [False, False, True, True, False, False]
    assert hits(At(point="ready", times=None), *[SCENE] * 3) == [True] * 3


def test_each_shard_counts_for_itself() -> None:
    others = [Scene(shard=(shard, 16)) for shard in (0, 1, 0, 1)]
    assert hits(At(point="ready", shard="all", each_shard=True), *others) == [
        True,
        True,
        False,
        False,
    ]
    assert hits(At(point="ready", shard="all"), *others) == [True, False, False, False]


@pytest.mark.parametrize(
    ("now", "applies"), [(0.0, False), (9.9, False), (10.0, True), (15.0, True), (15.1, False)]
)
def test_a_rule_lasts_for_its_time(now: float, applies: bool) -> None:
    assert hits(At(point="ready", after=10, lasts=5), SCENE, now=now) == [applies]


def test_rules_apply_in_order_and_can_be_taken_back() -> None:
    script = Script()
    at = At(point="ready", times=None)
    first = script.add(Rule(at=at, do=(Reconnect(),)), 0.0)
    second = script.add(Rule(at=at, do=(Close(code=4000),)), 1.0)
    assert [ident for ident, _ in script.take("ready", SCENE, 1.0)] == [first, second]
    assert [(view.id, view.hits, view.since) for view in script.views()] == [
        (first, 1, 0.0),
        (second, 1, 1.0),
    ]
    assert script.remove(first) == 1
    assert script.remove(first) == 0
    assert [ident for ident, _ in script.take("ready", SCENE, 1.0)] == [second]
    assert script.remove() == 1
    assert not script


@pytest.mark.parametrize(
    ("at", "deed"),
    [
        (At(point="hello", shard=3), Close()),
        (At(point="http", edge="main"), Hang()),
        (At(point="http"), Close()),
        (At(point="ready"), Status(code=500)),
        (At(point="ready"), Hello(interval=0)),
        (At(point="resumed"), Replay(order="doubled")),
        (At(point="resume"), Fields()),
        (At(point="hello"), Big(bytes=10)),
        (At(point="upgrade"), Body(text="")),
    ],
)
def test_what_can_never_happen_is_refused(at: At, deed: AnyDeed) -> None:
    with pytest.raises(ScriptError):
        check(Rule(at=at, do=(deed,)))


def test_an_ending_stops_the_usual_course_and_a_payload_does_not() -> None:
    at = At(point="ready")
    assert stops(Rule(at=at, do=(Delay(seconds=1), Reset())))
    assert stops(Rule(at=at, instead=True))
    assert not stops(Rule(at=at, do=(Reconnect(), Delay(seconds=1))))


def test_rules_are_plain_json() -> None:
    text = (
        b'{"at":{"point":"dispatch","shard":[3,16],"count":5},"do":[{"kind":"op7"},'
        b'{"kind":"close","code":null},{"kind":"raw","data":"/w==","consume":true}]}'
    )
    rule = msgspec.json.decode(text, type=Rule)
    assert rule.at == At(point="dispatch", shard=(3, 16), count=5)
    assert rule.do == (Reconnect(), Close(code=None), Raw(data=b"\xff", consume=True))
    assert msgspec.json.decode(msgspec.json.encode(rule), type=Rule) == rule


def test_fields_are_set_and_removed_by_path() -> None:
    body = {"url": "u", "limit": {"total": 1, "remaining": 2}}
    deed = Fields(set={"limit.total": None, "a.b": 3, "url": 0}, remove=("limit.remaining", "x.y"))
    assert changed(body, deed) == {"url": 0, "limit": {"total": None}, "a": {"b": 3}}
    assert body == {"url": "u", "limit": {"total": 1, "remaining": 2}}
    assert changed(body, Fields(remove=("limit",))) == {"url": "u"}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("in-order", None),
        ("nothing", []),
        ("resumed-only", [9]),
        ("resumed-first", [9, 4, 5, 6, 7, 8]),
        ("doubled", [4, 5, 6, 7, 8, 4, 5, 6, 7, 8, 9]),
        ("reversed", [8, 7, 6, 5, 4, 9]),
        ("interleaved", [4, 7, 5, 8, 6, 9]),
    ],
)
def test_replay_orders(order: str, expected: list[int] | None) -> None:
    resumed = None if order == "nothing" else 9
    deed = msgspec.convert({"kind": "replay", "order": order}, Replay)
    assert replay_order(deed.order, range(4, 9), resumed) == expected
