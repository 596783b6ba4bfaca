# SPDX-License-Identifier: Apache-2.0
"""Ids of events: the same for a replay, different for anything else; no session in the clear."""

import random

import pytest

from discluster.cluster.handlers.publishing.naming import Naming, plain_type, published
from tests.unit.cluster.publishing.events import event


def naming() -> Naming:
    return Naming(random.Random(1))


def test_replayed_event_has_the_same_id_in_another_process() -> None:
    first, again = (Naming(random.Random(n)).prefix(event(5, session="abc")) for n in range(2))
    assert first == again
    assert first.startswith(b"1-")
    assert len(first) == len(b"1-0123456789abcdef-")


def test_other_sessions_and_shards_have_other_ids() -> None:
    one = naming()
    events = [event(5, shard=shard, session=session) for shard in (1, 2) for session in ("a", "b")]
    assert len({one.prefix(each) for each in events}) == 4


def test_id_does_not_tell_the_session() -> None:
    assert b"secret" not in naming().prefix(event(5, session="secret"))


def test_sessions_without_an_id_are_not_taken_for_one() -> None:
    one = naming()
    first = one.prefix(event(2, session=""))
    assert one.prefix(event(3, session="")) == first
    published([event(1, type="READY", session="")], one)
    assert one.prefix(event(2, session="")) != first


def test_what_is_about_the_session_is_not_published() -> None:
    kinds = ["READY", "GUILD_CREATE", "RESUMED", "MESSAGE_CREATE"]
    events = [event(seq, type=kind) for seq, kind in enumerate(kinds)]
    assert [one.type for one in published(events, naming())] == ["GUILD_CREATE", "MESSAGE_CREATE"]
    assert published(events[1:2], naming()) == events[1:2]


@pytest.mark.parametrize(
    ("told", "plain"),
    [
        ("MESSAGE_CREATE", b"MESSAGE_CREATE"),
        ("A.B *>", b"A_B___"),
        ("X\r\nPUB a 0", b"X__PUB___0"),
        ("", b"_"),
        ("É" * 100, b"_" * 64),
    ],
)
def test_type_cannot_break_out_of_a_subject(told: str, plain: bytes) -> None:
    assert plain_type(told) == plain


def test_types_that_are_remembered_have_a_bound() -> None:
    one = naming()
    for number in range(5_000):
        one.type_of(event(1, type=f"TYPE_{number}"))
    assert len(one._types) <= 1_000
