# SPDX-License-Identifier: Apache-2.0
"""The planner where shards cost differently: guilds or load are balanced instead of numbers."""

import random
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from discluster.master.placement.balance import excess
from discluster.master.planner import HostNeed, plan_fleet
from discluster.plan import Failed, HostEntry
from tests.unit.master.targets import (
    clusters,
    entry,
    homes,
    laid_out,
    moved,
    numbers,
    shards_of,
)


def need(weight: float = 1, **other: object) -> HostNeed:
    return HostNeed(weight=weight, shards_per_cluster=4, **other)  # type: ignore[arg-type]


def loads(layout: Mapping[str, HostEntry], costs: Mapping[int, float]) -> dict[str, float]:
    return {host: sum(costs[s] for s in shards_of(entry)) for host, entry in layout.items()}


def above(
    layout: Mapping[str, HostEntry], needs: Mapping[str, HostNeed], costs: Mapping[int, float]
) -> float:
    """By what part of its share the most loaded host is above it."""
    takers = {host: own.weight for host, own in needs.items() if own.takes}
    everything = sum(loads(layout, costs).values())
    return max(
        loads(layout, costs)[host] / (everything * weight / sum(takers.values())) - 1
        for host, weight in takers.items()
    )


def noisy(count: int, part: float, seed: int = 1) -> dict[int, float]:
    rng = random.Random(seed)
    return {shard: 1000 * rng.uniform(1 - part, 1 + part) for shard in range(count)}


def test_costs_alone_move_nothing() -> None:
    old = laid_out(16, 16)
    needs = {"a": need(), "b": need()}
    costs = {shard: 9.0 if shard < 16 else 1.0 for shard in range(32)}
    assert plan_fleet(32, needs, old, costs=costs).hosts == old


def test_without_any_place_yet_the_number_counts() -> None:
    needs = {"a": need(), "b": need()}
    costs = noisy(32, 0.9)
    assert plan_fleet(32, needs, {}, costs=costs) == plan_fleet(32, needs, {})


def test_a_lost_hosts_shards_go_to_the_least_loaded_and_nobody_else_moves() -> None:
    old = laid_out(16, 16, 16, 16)
    costs = dict.fromkeys(range(64), 10.0) | dict.fromkeys(range(48, 64), 14.0)
    needs = {h: need() for h in "bcd"} | {"a": need(state="lost")}
    new = plan_fleet(64, needs, old, costs=costs).hosts
    assert moved(old, new) == list(range(16))
    after = [load for host, load in loads(new, costs).items() if host != "a"]
    assert max(after) - min(after) <= 10
    assert numbers(new)["d"] < numbers(new)["b"]


def test_costly_shards_are_placed_first() -> None:
    old = {"a": entry(range(6)), "b": entry([6], first=10), "c": entry([7], first=20)}
    costs = {0: 2.0, 1: 2.0, 2: 5.0, 3: 6.0, 4: 7.0, 5: 8.0, 6: 1.0, 7: 1.0}
    needs = {"a": need(state="draining"), "b": need(), "c": need()}
    new = plan_fleet(8, needs, old, costs=costs).hosts
    assert loads(new, costs) == {"a": 0, "b": 16, "c": 16}


def test_a_newcomer_takes_its_share_from_the_most_loaded() -> None:
    old = laid_out(16, 16)
    costs = {shard: 3.0 if shard < 16 else 1.0 for shard in range(32)}
    needs = {"a": need(), "b": need(), "c": need()}
    new = plan_fleet(32, needs, old, costs=costs).hosts
    assert {homes(old)[shard] for shard in moved(old, new)} == {"a"}
    # Its share is 64 / 3; seven shards of cost 3 make 21.
    assert len(moved(old, new)) == 7
    assert loads(new, costs)["c"] == 21


def test_a_newcomer_among_many_takes_a_little_of_each() -> None:
    old = laid_out(*[8] * 9)
    needs = {h: need() for h in "abcdefghi"} | {"new": need()}
    costs = dict.fromkeys(range(72), 10.0)
    new = plan_fleet(72, needs, old, costs=costs).hosts
    assert numbers(new)["new"] == 7
    assert max(numbers(new).values()) == 8
    assert len(moved(old, new)) == 7


def test_a_host_that_is_back_without_shards_takes_its_share() -> None:
    old = laid_out(0, 12, 12)
    needs = {h: need() for h in "abc"}
    new = plan_fleet(24, needs, old, costs=dict.fromkeys(range(24), 3.0)).hosts
    assert numbers(new) == {"a": 8, "b": 8, "c": 8}
    assert len(moved(old, new)) == 8


def test_a_host_whose_weight_changed_is_brought_to_its_share() -> None:
    old = laid_out(16, 16, 16)
    costs = dict.fromkeys(range(48), 5.0)
    raised = {"a": need(2), "b": need(), "c": need()}
    assert numbers(plan_fleet(48, raised, old, costs=costs).hosts) == {"a": 24, "b": 12, "c": 12}
    lowered = {"a": need(0.25), "b": need(), "c": need()}
    after = numbers(plan_fleet(48, lowered, old, costs=costs).hosts)
    assert after["a"] == 5
    assert sum(after.values()) == 48


def test_evened_out_no_host_is_further_off_than_told_and_few_shards_move() -> None:
    old = laid_out(32, 32, 32)
    # a is 60 % above its share.
    costs = {shard: 20.0 if shard < 32 else 8.75 for shard in range(96)}
    needs = {h: need() for h in "abc"}
    assert above(old, needs, costs) == pytest.approx(0.6)
    new = plan_fleet(96, needs, old, costs=costs, even=0.05).hosts
    assert above(new, needs, costs) == pytest.approx(0.05)
    # 220 of load must leave a host whose shards cost 20 each.
    assert len(moved(old, new)) == 11
    assert {homes(old)[shard] for shard in moved(old, new)} == {"a"}


def test_within_what_is_told_nothing_moves() -> None:
    old = laid_out(32, 32, 32)
    costs = noisy(96, 0.3)
    needs = {h: need() for h in "abc"}
    assert 0.01 < above(old, needs, costs) < 0.1
    assert plan_fleet(96, needs, old, costs=costs, even=0.1).hosts == old


def test_full_hosts_change_a_costly_shard_for_a_cheap_one() -> None:
    old = laid_out(8, 8)
    costs = {shard: 6.0 if shard < 8 else 2.0 for shard in range(16)}
    needs = {"a": need(max_shards=8), "b": need(max_shards=8)}
    new = plan_fleet(16, needs, old, costs=costs, even=0.05).hosts
    assert numbers(new) == {"a": 8, "b": 8}
    assert loads(new, costs) == {"a": 32, "b": 32}
    assert len(moved(old, new)) == 8


def test_where_no_single_shard_fits_two_change_places() -> None:
    old = {"a": entry([0, 1]), "b": entry([2, 3], first=10)}
    costs = {0: 20.0, 1: 20.0, 2: 8.0, 3: 8.0}
    new = plan_fleet(4, {"a": need(), "b": need()}, old, costs=costs, even=0).hosts
    assert loads(new, costs) == {"a": 28, "b": 28}
    assert len(moved(old, new)) == 2


def test_one_giant_shard_is_left_alone() -> None:
    old = {"a": entry([0]), "b": entry([1, 2, 3], first=10)}
    costs = {0: 100.0, 1: 1.0, 2: 1.0, 3: 1.0}
    assert plan_fleet(4, {"a": need(), "b": need()}, old, costs=costs, even=0).hosts == old


def test_a_move_that_only_hands_the_burden_on_is_not_made() -> None:
    old = {"a": entry([0, 1]), "b": entry([2], first=10), "c": entry([3], first=20)}
    costs = dict.fromkeys(range(4), 7.5)
    needs = {"a": need(), "b": need(), "c": need()}
    assert plan_fleet(4, needs, old, costs=costs, even=0).hosts == old


def test_shards_of_a_failed_cluster_are_not_moved_for_balance() -> None:
    old = laid_out(8, 4)
    gone = {77: Failed(host="z", at=0, shards=(0, 1, 2, 3))}
    costs = {shard: 9.0 if shard < 4 else 1.0 for shard in range(12)}
    new = plan_fleet(12, {"a": need(), "b": need()}, old, costs=costs, even=0, failed=gone).hosts
    assert {homes(new)[shard] for shard in range(4)} == {"a"}
    assert {homes(new)[shard] for shard in range(4, 8)} == {"b"}


def test_standby_and_limits_hold_for_costs_too() -> None:
    old = laid_out(8, 8, 0)
    costs = noisy(16, 0.5)
    idle = {"a": need(), "b": need(), "c": need(standby=True)}
    assert plan_fleet(16, idle, old, costs=costs, even=0).hosts["c"].clusters == {}
    called = idle | {"a": need(state="lost")}
    lost = plan_fleet(16, called, old, costs=costs).hosts
    assert moved(old, lost) == list(range(8))
    assert len(shards_of(lost["c"])) >= 7
    back = plan_fleet(16, idle, lost, costs=costs).hosts
    assert back["c"].clusters == {}
    full = {"a": need(state="lost"), "b": need(max_shards=10), "c": need(max_shards=3)}
    target = plan_fleet(16, full, old, costs=costs)
    assert numbers(target.hosts) == {"a": 0, "b": 10, "c": 3}
    assert target.notes[0].startswith("3 shards fit on no host")


def test_clusters_are_not_refilled_by_moving_shards_between_them() -> None:
    old = laid_out(16, 16)
    costs = {s: (10.0 if s % 4 == 0 else 4.0) if s < 16 else 2.0 for s in range(32)}
    new = plan_fleet(32, {"a": need(), "b": need()}, old, costs=costs, even=0.05).hosts
    gone = set(moved(old, new))
    # Of 16 shards a loses four: three clusters hold the rest, so one is dissolved.
    assert len(gone) == 4
    assert sorted(set(clusters(old)) - set(clusters(new))) == [3]
    for number in (0, 1, 2):
        assert set(clusters(old)[number]) - gone <= set(clusters(new)[number])


def test_weights_may_lie_as_far_apart_as_numbers_go() -> None:
    needs = {"a": need(1e-320), "b": need(1e6), "c": need(state="lost")}
    old = laid_out(0, 8, 8)
    new = plan_fleet(16, needs, old, costs=dict.fromkeys(range(16), 1.0)).hosts
    assert numbers(new) == {"a": 0, "b": 16, "c": 0}
    assert excess(new, needs, dict.fromkeys(range(16), 1.0)) == {"b": 0}


WEIGHTS = st.sampled_from([1.0, 1.0, 2.0, 0.5])
NEEDS = st.builds(
    HostNeed,
    weight=WEIGHTS,
    shards_per_cluster=st.sampled_from([1, 4, 16]),
    in_touch=st.sampled_from([True, True, True, False]),
    max_shards=st.sampled_from([None, None, 25]),
    standby=st.sampled_from([False, False, False, True]),
    state=st.sampled_from(["eligible", "eligible", "eligible", "draining", "lost"]),
)
FLEETS = st.dictionaries(st.sampled_from("abcdef"), NEEDS, min_size=1).filter(
    lambda hosts: any(own.takes and own.in_touch for own in hosts.values())
)
COUNTS = st.integers(min_value=1, max_value=60)
COSTS = st.lists(st.floats(min_value=0.01, max_value=100), min_size=60, max_size=60)
EVEN = st.sampled_from([None, 0.0, 0.05, 0.3])


@given(COUNTS, FLEETS, FLEETS, COSTS, EVEN)
def test_with_costs_no_limit_is_broken_and_no_shard_is_twice_or_left_out_without_need(
    count: int,
    before: dict[str, HostNeed],
    after: dict[str, HostNeed],
    prices: list[float],
    even: float | None,
) -> None:
    costs = dict(enumerate(prices))
    old = plan_fleet(count, before, {}).hosts
    target = plan_fleet(count, after, old, costs=costs, even=even)
    plain = plan_fleet(count, after, old)
    everywhere = [shard for each in target.hosts.values() for shard in shards_of(each)]
    assert len(everywhere) == len(set(everywhere)) == len(homes(plain.hosts))
    called = any(own.state == "lost" and not own.standby for own in after.values())
    for host, own in after.items():
        now = len(shards_of(target.hosts[host]))
        assert now <= (60 if own.max_shards is None else own.max_shards)
        idle = own.standby and not called and not numbers(plain.hosts)[host]
        if idle or not own.takes:
            assert now == numbers(plain.hosts)[host]
        if not own.in_touch:
            assert now <= len(shards_of(old.get(host, HostEntry())))


@given(COUNTS, FLEETS, FLEETS, COSTS, COSTS)
def test_noise_on_costs_moves_nothing_that_has_its_place(
    count: int,
    before: dict[str, HostNeed],
    after: dict[str, HostNeed],
    prices: list[float],
    later: list[float],
) -> None:
    old = plan_fleet(count, before, {}).hosts
    target = plan_fleet(count, after, old, costs=dict(enumerate(prices))).hosts
    settled = all(entry.clusters or not after[host].takes for host, entry in target.items())
    if settled:
        assert plan_fleet(count, after, target, costs=dict(enumerate(later))).hosts == target


@example(
    # One shard of 97 is as much as a host should carry in all; it stays where it is.
    11,
    {host: HostNeed(shards_per_cluster=1) for host in "bcd"},
    [1, 19, 29, 29, 97, 1, 1, 1, 1, 1, 1],
    0.0,
)
@given(COUNTS, FLEETS, COSTS, st.sampled_from([0.0, 0.05, 0.3]))
def test_evening_out_never_makes_the_most_loaded_worse_off(
    count: int, needs: dict[str, HostNeed], prices: list[float], even: float
) -> None:
    costs = dict(enumerate(prices))
    takers = {host: own for host, own in needs.items() if own.takes and own.in_touch}
    plain = {h: HostNeed(weight=own.weight) for h, own in takers.items()}
    old = plan_fleet(count, plain, {}).hosts
    new = plan_fleet(count, plain, old, costs=costs, even=even).hosts
    assert above(new, plain, costs) <= above(old, plain, costs) + 1e-9
