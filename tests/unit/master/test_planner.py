# SPDX-License-Identifier: Apache-2.0
"""The planner: properties that hold for any fleet, and a table of fleets."""

import random
import time
from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from discluster.errors import ConfigurationError
from discluster.master.planner import HostNeed, plan_fleet, quotas
from discluster.plan import ClusterPlan, HostEntry

WEIGHTS = st.one_of(
    st.sampled_from([0.0, 1.0, 1.0, 2.0, 0.5, 3.0]),
    st.floats(min_value=0.01, max_value=1000, allow_nan=False),
)
NEEDS = st.builds(HostNeed, weight=WEIGHTS, shards_per_cluster=st.sampled_from([1, 2, 3, 4, 8, 16]))
FLEETS = st.dictionaries(st.sampled_from("abcdefgh"), NEEDS, min_size=1).filter(
    lambda hosts: any(need.weight > 0 for need in hosts.values())
)
COUNTS = st.integers(min_value=1, max_value=120)


def shards_of(entry: HostEntry) -> list[int]:
    return [shard for cluster in entry.clusters.values() for shard in cluster.shards]


def homes(plan: Mapping[str, HostEntry]) -> dict[int, str]:
    return {shard: host for host, entry in plan.items() for shard in shards_of(entry)}


def check(count: int, needs: Mapping[str, HostNeed], plan: Mapping[str, HostEntry]) -> None:
    """What holds for every plan, however it came about."""
    everywhere = [shard for entry in plan.values() for shard in shards_of(entry)]
    assert sorted(everywhere) == list(range(count))
    total = sum(Fraction(need.weight) for need in needs.values())
    for host, need in needs.items():
        exact = count * Fraction(need.weight) / total
        assert floor(exact) <= len(shards_of(plan[host])) <= ceil(exact)
        sizes = sorted(len(c.shards) for c in plan[host].clusters.values())
        assert sizes[1:] == [need.shards_per_cluster] * (len(sizes) - 1)
        assert all(0 < size <= need.shards_per_cluster for size in sizes)
        for cluster in plan[host].clusters.values():
            assert list(cluster.shards) == sorted(cluster.shards)
    numbers = [number for entry in plan.values() for number in entry.clusters]
    assert len(numbers) == len(set(numbers))


def fewest_moves(count: int, before: Mapping[str, HostEntry], needs: Mapping[str, HostNeed]) -> int:
    """Lower bound for any shares within one of the exact ones, found by trying all roundings."""
    total = sum(Fraction(need.weight) for need in needs.values())
    now = {h: len(shards_of(before[h])) if h in before else 0 for h in needs}
    exact = {h: count * Fraction(need.weight) / total for h, need in needs.items()}
    spare = count - sum(floor(amount) for amount in exact.values())
    roundable = [h for h in needs if exact[h] != floor(exact[h])]
    # Rounding up a host that is above its rounded-down share saves exactly one move.
    saving = sum(now[h] > floor(exact[h]) for h in roundable)
    kept = sum(min(now[h], floor(exact[h])) for h in needs) + min(spare, saving)
    return count - kept


@given(COUNTS, FLEETS)
def test_every_shard_has_exactly_one_home_and_every_host_its_share(
    count: int, needs: dict[str, HostNeed]
) -> None:
    check(count, needs, plan_fleet(count, needs, {}))


@example(
    # d's share is exactly 1: what rounding left over is not d's, though d has both shards.
    2,
    {"d": HostNeed()},
    {"b": HostNeed(), "c": HostNeed(weight=0.5), "d": HostNeed(weight=1.5)},
)
@given(COUNTS, FLEETS, FLEETS)
def test_a_changed_fleet_moves_no_more_shards_than_its_shares_demand(
    count: int, before: dict[str, HostNeed], after: dict[str, HostNeed]
) -> None:
    old = plan_fleet(count, before, {})
    new = plan_fleet(count, after, old)
    check(count, after, new)
    was, now = homes(old), homes(new)
    moved = sum(was[shard] != now[shard] for shard in range(count))
    assert moved == fewest_moves(count, old, after)


@given(COUNTS, FLEETS)
def test_planning_again_changes_nothing(count: int, needs: dict[str, HostNeed]) -> None:
    plan = plan_fleet(count, needs, {})
    assert plan_fleet(count, needs, plan) == plan


@given(COUNTS, FLEETS, FLEETS, st.randoms(use_true_random=False))
def test_the_order_in_which_hosts_are_named_does_not_matter(
    count: int, before: dict[str, HostNeed], after: dict[str, HostNeed], rng: random.Random
) -> None:
    old = plan_fleet(count, before, {})
    names = list(after)
    rng.shuffle(names)
    shuffled = {name: after[name] for name in names}
    assert plan_fleet(count, shuffled, dict(reversed(old.items()))) == plan_fleet(count, after, old)


@given(COUNTS, FLEETS, FLEETS)
def test_a_number_never_passes_from_one_host_to_another(
    count: int, before: dict[str, HostNeed], after: dict[str, HostNeed]
) -> None:
    old = plan_fleet(count, before, {})
    new = plan_fleet(count, after, old)
    owner = {number: host for host, entry in old.items() for number in entry.clusters}
    for host, entry in new.items():
        assert all(owner.get(number, host) == host for number in entry.clusters)


@given(COUNTS, FLEETS)
def test_a_cluster_that_keeps_its_size_keeps_its_shards_when_a_host_joins(
    count: int, needs: dict[str, HostNeed]
) -> None:
    old = plan_fleet(count, needs, {})
    new = plan_fleet(count, needs | {"z": HostNeed()}, old)
    for host, entry in old.items():
        changed = [n for n, c in entry.clusters.items() if new[host].clusters.get(n) != c]
        emptied = [n for n in changed if n not in new[host].clusters]
        # Whole clusters leave; of the others one may shrink, and one that was short may fill up.
        assert len(changed) - len(emptied) <= 2


@pytest.mark.parametrize(
    ("count", "weights", "expected"),
    [
        (24, {"a": 1, "b": 1, "c": 1}, {"a": 8, "b": 8, "c": 8}),
        (24, {"a": 3, "b": 2, "c": 1}, {"a": 12, "b": 8, "c": 4}),
        (10, {"a": 1, "b": 1, "c": 1}, {"a": 4, "b": 3, "c": 3}),
        (2, {"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 0}),
        (7, {"a": 0, "b": 1}, {"a": 0, "b": 7}),
        (1, {"a": 1}, {"a": 1}),
        (16, {"a": 0.1, "b": 0.3}, {"a": 4, "b": 12}),
        (65_536, {"a": 1e6, "b": 1e-6}, {"a": 65_536, "b": 0}),
    ],
)
def test_shares(count: int, weights: dict[str, float], expected: dict[str, int]) -> None:
    needs = {host: HostNeed(weight=weight) for host, weight in weights.items()}
    assert quotas(count, needs, {}) == expected


def test_the_remainder_stays_where_it_is() -> None:
    needs = {host: HostNeed() for host in "abc"}
    assert quotas(10, needs, {"a": 3, "b": 3, "c": 4}) == {"a": 3, "b": 3, "c": 4}


def test_a_host_that_joins_takes_whole_clusters_first() -> None:
    needs = {"a": HostNeed(shards_per_cluster=4), "b": HostNeed(shards_per_cluster=4)}
    old = plan_fleet(16, {"a": needs["a"]}, {})
    new = plan_fleet(16, needs, old)
    assert new["a"].clusters == {0: old["a"].clusters[0], 1: old["a"].clusters[1]}
    assert sorted(new["b"].clusters) == [4, 5]


def test_another_cluster_size_regroups_the_same_shards_on_the_same_host() -> None:
    old = plan_fleet(16, {"a": HostNeed(shards_per_cluster=8)}, {})
    new = plan_fleet(16, {"a": HostNeed(shards_per_cluster=4)}, old)
    assert [c.shards for c in new["a"].clusters.values()] == [
        (0, 1, 2, 3),
        (4, 5, 6, 7),
        (8, 9, 10, 11),
        (12, 13, 14, 15),
    ]


def test_weight_zero_empties_a_host() -> None:
    old = plan_fleet(8, {"a": HostNeed(), "b": HostNeed()}, {})
    new = plan_fleet(8, {"a": HostNeed(), "b": HostNeed(weight=0)}, old)
    assert new["b"].clusters == {}
    assert sorted(shards_of(new["a"])) == list(range(8))


def test_shards_of_a_host_that_leaves_go_to_nobody_who_is_out_of_touch() -> None:
    together = {"a": HostNeed(weight=2), "b": HostNeed(), "c": HostNeed()}
    old = plan_fleet(24, together, {})
    c = HostNeed(in_touch=False)
    new = plan_fleet(24, {"a": HostNeed(weight=0), "b": HostNeed(), "c": c}, old)
    assert new["a"].clusters == {}
    assert len(shards_of(new["b"])) == 18
    assert new["c"] == old["c"]


def test_a_host_out_of_touch_gives_its_share_to_one_that_joins() -> None:
    old = plan_fleet(8, {"a": HostNeed()}, {})
    new = plan_fleet(8, {"a": HostNeed(in_touch=False), "b": HostNeed()}, old)
    assert {host: len(shards_of(entry)) for host, entry in new.items()} == {"a": 4, "b": 4}


@given(COUNTS, FLEETS, st.sets(st.sampled_from("abcdefgh")))
def test_falling_silent_moves_nothing(
    count: int, needs: dict[str, HostNeed], silent: set[str]
) -> None:
    planned = plan_fleet(count, needs, {})
    later = {
        host: msgspec.structs.replace(need, in_touch=host not in silent)
        for host, need in needs.items()
    }
    assert plan_fleet(count, later, planned) == planned


@pytest.mark.parametrize(
    "needs",
    [
        {"a": HostNeed(weight=0), "b": HostNeed(in_touch=False)},
        {"a": HostNeed(weight=0), "b": HostNeed(weight=0)},
    ],
)
def test_where_nobody_can_take_shards_the_plan_is_refused(needs: dict[str, HostNeed]) -> None:
    old = plan_fleet(8, {"a": HostNeed(), "b": HostNeed()}, {})
    with pytest.raises(ConfigurationError, match="no host can take a shard"):
        plan_fleet(8, needs, old)


def test_shards_of_a_host_that_is_not_planned_for_find_a_new_home() -> None:
    old = {"gone": HostEntry(clusters={7: ClusterPlan(shards=(0, 1, 2, 3))})}
    new = plan_fleet(4, {"a": HostNeed()}, old)
    assert new == {"a": HostEntry(clusters={8: ClusterPlan(shards=(0, 1, 2, 3))})}


@pytest.mark.parametrize("needs", [{}, {"a": HostNeed(weight=0)}])
def test_a_fleet_without_weight_is_refused_in_words(needs: dict[str, HostNeed]) -> None:
    with pytest.raises(ConfigurationError, match="no host can take a shard") as caught:
        plan_fleet(4, needs, {})
    assert caught.value.hint


def test_the_largest_fleet_is_planned_in_seconds() -> None:
    needs = {f"h{n}": HostNeed(weight=1 + n % 3) for n in range(1000)}
    began = time.process_time()
    first = plan_fleet(65_536, needs, {})
    planned = time.process_time() - began
    began = time.process_time()
    second = plan_fleet(65_536, needs | {"new": HostNeed(weight=2)}, first)
    print(f"\n1,000 hosts x 65,536 shards: first {planned:.3f} s,", end=" ")
    print(f"a host joins {time.process_time() - began:.3f} s")
    assert sum(len(shards_of(entry)) for entry in second.values()) == 65_536
    assert planned < 10
