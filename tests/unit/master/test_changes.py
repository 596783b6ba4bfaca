# SPDX-License-Identifier: Apache-2.0
"""Why shards move, in words."""

from collections.abc import Iterable, Mapping

import msgspec
import pytest

from discluster.master.orders import orders as ordered
from discluster.master.orders.changes import (
    departures,
    describe_changes,
    describe_reason,
    few,
    moves_in_words,
)
from discluster.master.orders.orders import Orders
from discluster.master.planner import HostNeed
from discluster.plan import Failed, HostEntry
from tests.unit.master.fleets import fleet

PLAN = fleet({"a": {0: [0, 1]}, "b": {1: [2, 3]}})
NEEDS = {"a": HostNeed(), "b": HostNeed()}
DRAINED = ordered.drained(Orders(), "b", now=5.0)


def target(hosts: Mapping[str, Mapping[int, Iterable[int]]]) -> dict[str, HostEntry]:
    return fleet(hosts).hosts


@pytest.mark.parametrize(
    ("needs", "orders", "leaving", "words"),
    [
        (NEEDS, Orders(), (), None),
        (NEEDS | {"b": HostNeed(state="draining")}, DRAINED, (), "b is drained"),
        (NEEDS | {"b": HostNeed(state="draining")}, Orders(), "b", "b goes down"),
        (NEEDS | {"b": HostNeed(state="draining")}, DRAINED, "b", "b goes down"),
        (NEEDS | {"b": HostNeed(state="draining")}, Orders(), (), "b does not reach Discord"),
        (NEEDS | {"b": HostNeed(state="lost")}, DRAINED, (), "b is lost"),
        (NEEDS | {"b": HostNeed(weight=0)}, Orders(), (), "the weight of b is 0"),
        ({"a": HostNeed()}, Orders(), (), "b left"),
        (
            {"a": HostNeed()},
            ordered.removed(Orders(), "b", lost=False, now=5.0),
            (),
            "b was removed",
        ),
        (
            {"a": HostNeed()},
            ordered.removed(Orders(), "b", lost=True, now=5.0),
            (),
            "b is off, as the operator says",
        ),
    ],
)
def test_a_host_that_shall_have_no_shards_is_told_with_the_reason(
    needs: Mapping[str, HostNeed], orders: Orders, leaving: str, words: str | None
) -> None:
    told = departures(needs, PLAN.hosts, orders=orders, leaving=leaving)
    assert told == ({"b": words} if words is not None else {})


def test_a_move_off_a_departed_host_has_that_reason_and_the_planners_notes_are_kept() -> None:
    diff = describe_changes(
        PLAN,
        target({"a": {0: [0, 1, 2]}, "b": {}}),
        departed={"b": "b is drained"},
        notes=["1 shard fits nowhere"],
    )
    reasons = {change.shard: (change.target, change.reason) for change in diff.changes}
    assert reasons == {
        2: (("a", 0), "b is drained"),
        3: (None, "b is drained, and no host can take the shard"),
    }
    assert diff.notes == ("1 shard fits nowhere",)


def test_a_failed_cluster_is_the_reason_of_its_moves_on_whichever_host() -> None:
    failed = msgspec.structs.replace(PLAN, failed={1: Failed(host="b", at=5.0)})
    diff = describe_changes(failed, target({"a": {0: [0, 1], 2: [2]}, "b": {3: [3]}}))
    assert {change.reason for change in diff.changes} == {"cluster 1 on b failed"}


def test_shards_that_change_hosts_for_the_balance_alone_are_told_so() -> None:
    diff = describe_changes(PLAN, target({"a": {0: [0, 1, 2]}, "b": {1: [3]}}))
    assert [change.reason for change in diff.changes] == ["evens out b and a"]
    assert diff.summary == "1 shard would move: 1 from b to a"


def test_only_what_is_new_is_the_reason_of_a_plan() -> None:
    after = fleet({"a": {0: [0, 1, 2, 3]}, "b": {}}, generation=2)
    now = {"b": "b is drained", "c": "c is lost"}
    assert describe_reason(PLAN, after, departed=now) == "b is drained", "c had no shards"
    again = describe_reason(after, PLAN, departed={}, departed_before=now)
    assert again == "b can have shards again"
    same = describe_reason(PLAN, after, departed=now, departed_before=now)
    assert same == "weights, limits or cluster sizes changed"


def test_a_cluster_that_was_given_up_is_the_reason_of_a_plan() -> None:
    after = msgspec.structs.replace(PLAN, failed={1: Failed(host="b", at=5.0)})
    assert describe_reason(PLAN, after) == "cluster 1 failed"


def test_a_sentence_stays_short_however_many_there_are_to_tell_of() -> None:
    assert few(["a", "b"]) == ["a", "b"]
    names = [f"h{n}" for n in range(20)]
    assert few(names) == [*names[:8], "and 12 more"]


def test_what_moved_from_one_plan_to_the_next_is_told() -> None:
    after = fleet({"a": {0: [0], 4: [1]}, "b": {1: [3]}, "c": {2: [2]}}, generation=2)
    assert moves_in_words(PLAN, after) == (
        "moves 1 from b to c, 1 to another cluster of the same host"
    )
    assert moves_in_words(PLAN, PLAN) == ""
    assert moves_in_words(None, PLAN) == "4 shards placed"
