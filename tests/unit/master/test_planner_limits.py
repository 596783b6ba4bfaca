# SPDX-License-Identifier: Apache-2.0
"""The planner where hosts have limits, stand by, are drained, or are lost."""

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.errors import ConfigurationError
from discluster.master.planner import HostNeed, Target, plan_fleet
from discluster.plan import HostEntry
from tests.unit.master.targets import (
    by_brute_force,
    entry,
    homes,
    laid_out,
    moved,
    numbers,
    shards_of,
)

LIMITS = st.one_of(st.none(), st.none(), st.integers(min_value=0, max_value=40))
NEEDS = st.builds(
    HostNeed,
    weight=st.sampled_from([0.0, 1.0, 1.0, 2.0, 0.3]),
    shards_per_cluster=st.sampled_from([1, 4, 16]),
    in_touch=st.sampled_from([True, True, True, False]),
    max_shards=LIMITS,
    standby=st.sampled_from([False, False, True]),
    state=st.sampled_from(["eligible", "eligible", "eligible", "draining", "lost"]),
)
FLEETS = st.dictionaries(st.sampled_from("abcdefgh"), NEEDS, min_size=1)
COUNTS = st.integers(min_value=1, max_value=90)


def need(
    weight: float = 1,
    *,
    lost: bool = False,
    drained: bool = False,
    standby: bool = False,
    silent: bool = False,
    limit: int | None = None,
) -> HostNeed:
    return HostNeed(
        weight=weight,
        shards_per_cluster=4,
        in_touch=not (silent or lost),
        max_shards=limit,
        standby=standby,
        state="lost" if lost else "draining" if drained else "eligible",
    )


def room(host: str, needs: Mapping[str, HostNeed], before: Mapping[str, int]) -> int:
    own, have = needs[host], before.get(host, 0)
    if own.state == "lost":
        return 0
    limit = 1000 if own.max_shards is None else own.max_shards
    takes = own.in_touch and own.state == "eligible" and own.weight > 0
    return limit if takes else min(limit, have)


@st.composite
def changing(draw: st.DrawFn) -> tuple[int, dict[str, HostEntry], dict[str, HostNeed], Target]:
    """A plan in force, the hosts as they are now, and the target for them."""
    count = draw(COUNTS)
    old = plan_fleet(count, draw(FLEETS.filter(_somebody_takes)), {}).hosts
    needs = draw(FLEETS)
    try:
        return count, old, needs, plan_fleet(count, needs, old)
    except ConfigurationError:
        have = numbers(old)
        assert not any(room(host, needs, have) for host in needs)
        return count, {}, {}, Target(hosts={})


def _somebody_takes(needs: Mapping[str, HostNeed]) -> bool:
    return any(room(host, needs, {}) for host in needs)


@given(changing())
def test_no_limit_is_broken_no_shard_is_twice_and_none_is_left_out_without_need(
    case: tuple[int, dict[str, HostEntry], dict[str, HostNeed], Target],
) -> None:
    count, old, needs, target = case
    if not needs:
        return
    have, now = numbers(old), numbers(target.hosts)
    everywhere = [shard for each in target.hosts.values() for shard in shards_of(each)]
    assert len(everywhere) == len(set(everywhere))
    rooms = {host: room(host, needs, have) for host in needs}
    assert all(now[host] <= rooms[host] for host in needs)
    assert len(everywhere) == min(count, sum(rooms.values()))
    assert (len(everywhere) < count) == any("on no host" in note for note in target.notes)


@given(changing())
def test_planning_again_changes_nothing_where_hosts_have_limits(
    case: tuple[int, dict[str, HostEntry], dict[str, HostNeed], Target],
) -> None:
    count, _, needs, target = case
    if needs:
        assert plan_fleet(count, needs, target.hosts) == target


@given(changing())
def test_a_standby_host_is_idle_and_a_drained_one_empty_unless_somebody_is_lost_or_full(
    case: tuple[int, dict[str, HostEntry], dict[str, HostNeed], Target],
) -> None:
    count, old, needs, target = case
    have, now = numbers(old), numbers(target.hosts)
    rooms = {host: room(host, needs, have) for host in needs}
    regular = sum(rooms[h] for h in needs if needs[h].takes and not needs[h].standby)
    standby = sum(rooms[h] for h in needs if needs[h].takes and needs[h].standby)
    lost = any(n.state == "lost" and not n.standby and n.weight for n in needs.values())
    for host, own in needs.items():
        if own.empties and regular + standby >= count:
            assert now[host] == 0
        if own.takes and own.standby and not lost and regular >= count:
            assert now[host] == 0


@given(COUNTS, FLEETS, st.sets(st.sampled_from("abcdefgh")))
def test_falling_silent_moves_nothing_where_hosts_have_limits(
    count: int, needs: dict[str, HostNeed], silent: set[str]
) -> None:
    present = {h: msgspec.structs.replace(own, in_touch=True) for h, own in needs.items()}
    if not _somebody_takes(present):
        return
    before = plan_fleet(count, present, {})
    later = {h: msgspec.structs.replace(n, in_touch=h not in silent) for h, n in present.items()}
    assert plan_fleet(count, later, before.hosts).hosts == before.hosts


@given(changing())
def test_what_a_host_has_no_room_for_is_shared_by_weight(
    case: tuple[int, dict[str, HostEntry], dict[str, HostNeed], Target],
) -> None:
    _, old, needs, target = case
    have, now = numbers(old), numbers(target.hosts)
    takers = {h: n for h, n in needs.items() if n.takes and not n.standby}
    free = [h for h in takers if now[h] < room(h, needs, have)]
    for host in free:
        for other in takers:
            # Both are within one shard of the level that is common to all that are not full.
            level = (now[host] + 1) / takers[host].weight
            assert (now[other] - 1) / takers[other].weight <= level + 1e-9


@settings(max_examples=25)
@given(
    st.integers(min_value=1, max_value=7),
    st.lists(st.sampled_from("abcd"), min_size=7, max_size=7),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 7)), min_size=1, max_size=3),
)
def test_limits_cost_no_more_moves_than_they_must(
    count: int, places: list[str], hosts: list[tuple[int, int]]
) -> None:
    was = dict(enumerate(places[:count]))
    old = {
        host: entry([s for s in was if was[s] == host], first=at, size=8)
        for at, host in enumerate(sorted(set(was.values())))
    }
    needs = {h: need(w, limit=most) for h, (w, most) in zip("abc", hosts, strict=False)}
    if sum(most for _, most in hosts) < count:
        return
    new = plan_fleet(count, needs, old).hosts
    have = numbers(new)
    assert len(moved(old, new)) == by_brute_force(count, list(needs), was, have.__eq__)


CASES: list[tuple[str, dict[str, HostEntry], dict[str, HostNeed], dict[str, int]]] = [
    # words, in force, hosts now, numbers then
    (
        "a lost host's shards go to the others by weight",
        laid_out(12, 6, 6, weights=[2, 1, 1]),
        {"a": need(2, lost=True), "b": need(2), "c": need(1)},
        {"a": 0, "b": 16, "c": 8},
    ),
    (
        "back again, it gets its share",
        laid_out(0, 16, 8),
        {"a": need(2), "b": need(1), "c": need(1)},
        {"a": 12, "b": 6, "c": 6},
    ),
    (
        "standby hosts are idle",
        laid_out(12, 12),
        {"a": need(), "b": need(), "c": need(standby=True)},
        {"a": 12, "b": 12, "c": 0},
    ),
    (
        "a standby host takes over the lost host's share, and the others keep theirs",
        laid_out(8, 8, 8, 0),
        {"a": need(lost=True), "b": need(), "c": need(), "d": need(standby=True)},
        {"a": 0, "b": 8, "c": 8, "d": 8},
    ),
    (
        "a larger standby host takes over no more than that",
        laid_out(8, 8, 8, 0),
        {"a": need(lost=True), "b": need(), "c": need(), "d": need(5, standby=True)},
        {"a": 0, "b": 8, "c": 8, "d": 8},
    ),
    (
        "a smaller one takes as much as its weight allows, the rest is shared",
        laid_out(10, 10, 10, 0),
        {"a": need(2, lost=True), "b": need(2), "c": need(2), "d": need(1, standby=True)},
        {"a": 0, "b": 12, "c": 12, "d": 6},
    ),
    (
        "two standby hosts share it by weight",
        laid_out(9, 9, 9, 0, 0),
        {
            "a": need(lost=True),
            "b": need(),
            "c": need(),
            "d": need(2, standby=True),
            "e": need(1, standby=True),
        },
        {"a": 0, "b": 9, "c": 9, "d": 6, "e": 3},
    ),
    (
        "the standby host gives everything back when the lost one returns",
        laid_out(0, 8, 8, 8),
        {"a": need(), "b": need(), "c": need(), "d": need(standby=True)},
        {"a": 8, "b": 8, "c": 8, "d": 0},
    ),
    (
        "a drained host calls no standby host in",
        laid_out(8, 8, 8, 0),
        {"a": need(drained=True), "b": need(), "c": need(), "d": need(standby=True)},
        {"a": 0, "b": 12, "c": 12, "d": 0},
    ),
    (
        "a lost standby host that had nothing calls nobody",
        laid_out(12, 12, 0, 0),
        {"a": need(), "b": need(), "c": need(standby=True, lost=True), "d": need(standby=True)},
        {"a": 12, "b": 12, "c": 0, "d": 0},
    ),
    (
        "with nobody else left the standby host takes all",
        laid_out(8, 8, 0),
        {"a": need(lost=True), "b": need(lost=True), "c": need(standby=True)},
        {"a": 0, "b": 0, "c": 16},
    ),
    (
        "when the others are full, standby hosts take the rest",
        laid_out(8, 8, 8, 0),
        {
            "a": need(drained=True),
            "b": need(limit=10),
            "c": need(limit=10),
            "d": need(standby=True),
        },
        {"a": 0, "b": 10, "c": 10, "d": 4},
    ),
    (
        "a limit is kept, the others take more",
        laid_out(8, 8, 8),
        {"a": need(limit=5), "b": need(), "c": need(3)},
        {"a": 5, "b": 5, "c": 14},
    ),
    (
        "a drained host keeps what fits nowhere else",
        laid_out(8, 8),
        {"a": need(drained=True), "b": need(limit=12)},
        {"a": 4, "b": 12},
    ),
    (
        "a host whose limit is lowered gives away what is above it, even to nobody",
        laid_out(8, 8),
        {"a": need(limit=6), "b": need(limit=8)},
        {"a": 6, "b": 8},
    ),
    (
        "a lost host's shards that fit nowhere are nowhere",
        laid_out(8, 8),
        {"a": need(lost=True), "b": need(limit=12)},
        {"a": 0, "b": 12},
    ),
    (
        "a silent host keeps what it has and gets nothing of the lost one",
        laid_out(8, 8, 8),
        {"a": need(lost=True), "b": need(silent=True), "c": need()},
        {"a": 0, "b": 8, "c": 16},
    ),
    (
        "with all others silent a lost host's shards wait",
        laid_out(8, 8, 8),
        {"a": need(lost=True), "b": need(silent=True), "c": need(silent=True)},
        {"a": 0, "b": 8, "c": 8},
    ),
    (
        "two hosts drained at once empty both",
        laid_out(8, 8, 8),
        {"a": need(drained=True), "b": need(drained=True), "c": need()},
        {"a": 0, "b": 0, "c": 24},
    ),
    (
        "all hosts drained: everything stays",
        laid_out(8, 8),
        {"a": need(drained=True), "b": need(drained=True)},
        {"a": 8, "b": 8},
    ),
    (
        "drained and silent: planned away, ownership waits for it",
        laid_out(8, 8),
        {"a": need(drained=True, silent=True), "b": need()},
        {"a": 0, "b": 16},
    ),
    (
        "drained and lost counts as lost",
        laid_out(8, 8, 0),
        {"a": need(lost=True), "b": need(), "c": need(standby=True)},
        {"a": 0, "b": 8, "c": 8},
    ),
    (
        "a fleet of standby hosts only runs on them",
        {},
        {"a": need(standby=True), "b": need(standby=True)},
        {"a": 8, "b": 8},
    ),
    (
        "weight 0 on standby is no standby",
        laid_out(8, 8),
        {"a": need(lost=True), "b": need(), "c": need(0, standby=True)},
        {"a": 0, "b": 16, "c": 0},
    ),
]


@pytest.mark.parametrize(("words", "old", "needs", "expected"), CASES, ids=[c[0] for c in CASES])
def test_case(
    words: str,
    old: dict[str, HostEntry],
    needs: dict[str, HostNeed],
    expected: dict[str, int],
) -> None:
    count = sum(numbers(old).values()) or 16
    target = plan_fleet(count, needs, old)
    assert numbers(target.hosts) == expected
    have = numbers(old)
    # What may stay stays: a host gives away no more than it must.
    leaving = sum(max(0, have[host] - expected.get(host, 0)) for host in have)
    stay = {s for s, host in homes(old).items() if homes(target.hosts).get(s) == host}
    assert len(stay) == sum(have.values()) - leaving
    assert plan_fleet(count, needs, target.hosts).hosts == target.hosts


def test_loss_and_return_end_in_the_numbers_before() -> None:
    needs = {"a": need(3), "b": need(), "c": need(), "s": need(standby=True)}
    first = plan_fleet(60, needs, {}).hosts
    lost = plan_fleet(60, needs | {"a": need(3, lost=True)}, first).hosts
    assert numbers(lost) == {"a": 0, "b": 20, "c": 20, "s": 20}
    back = plan_fleet(60, needs, lost).hosts
    assert numbers(back) == numbers(first)
    assert len(moved(first, lost)) == len(moved(lost, back)) == 36


def test_a_shard_that_runs_is_not_made_homeless_for_one_that_does_not() -> None:
    old = {"a": entry([4, 5, 6, 7]), "b": entry([8, 9], first=1)}
    target = plan_fleet(10, {"a": need(limit=5), "b": need(lost=True)}, old)
    assert sorted(shards_of(target.hosts["a"])) == [4, 5, 6, 7, 8]


RAISE = "raise max_shards in master.yaml, or add a host"
KEEPS = "is being drained, but keeps 8 shards that no other host can take"
FEW = "keeps 1 shard that no other host can take"


@pytest.mark.parametrize(
    ("needs", "notes"),
    [
        ({"a": need(), "b": need()}, []),
        (
            {"a": need(limit=6), "b": need(limit=7)},
            [f"3 shards fit on no host and do not run: a, b are at max_shards; {RAISE}"],
        ),
        (
            {"a": need(limit=15), "b": need(lost=True)},
            [f"1 shard fits on no host and does not run: a is at max_shards, b is lost; {RAISE}"],
        ),
        (
            {"a": need(drained=True), "b": need(silent=True)},
            [f"a {KEEPS}: b is out of touch; add a host"],
        ),
        (
            {"a": need(0), "b": need(limit=15)},
            [f"a has weight 0, but {FEW}: b is at max_shards; {RAISE}"],
        ),
        (
            {"a": need(drained=True), "b": need(drained=True)},
            [f"{host} {KEEPS}: there is no other host; add a host" for host in "ab"],
        ),
    ],
)
def test_what_does_not_fit_is_said_with_what_would_help(
    needs: dict[str, HostNeed], notes: list[str]
) -> None:
    assert list(plan_fleet(16, needs, laid_out(8, 8)).notes) == notes


def test_many_hosts_are_not_all_named() -> None:
    needs = {f"h{n}": need(limit=1) for n in range(9)}
    (note,) = plan_fleet(10, needs, {}).notes
    assert "h0, h1, h2, h3, h4 and 4 more are at max_shards" in note


def test_limits_do_not_wear_down_a_cluster_in_use() -> None:
    old = laid_out(16, 16)
    needs = {"a": need(limit=12), "b": need()}
    new = plan_fleet(32, needs, old).hosts
    assert list(new["a"].clusters.items()) == list(old["a"].clusters.items())[:3]
    assert msgspec.structs.asdict(old["b"])["clusters"].items() <= new["b"].clusters.items()
