# SPDX-License-Identifier: Apache-2.0
"""The planner: properties that hold for any fleet without limits, and a table of shares."""

import random
from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from discluster.errors import ConfigurationError
from discluster.master.planner import HostNeed, Target, plan_fleet
from discluster.plan import ClusterPlan, HostEntry
from tests.unit.master.targets import (
    by_brute_force,
    clusters,
    entry,
    fewest_moves,
    homes,
    laid_out,
    moved,
    numbers,
    shards_of,
)

WEIGHTS = st.one_of(
    st.sampled_from([0.0, 1.0, 1.0, 2.0, 0.5, 3.0]),
    st.floats(min_value=0.01, max_value=1000, allow_nan=False),
)
NEEDS = st.builds(HostNeed, weight=WEIGHTS, shards_per_cluster=st.sampled_from([1, 2, 3, 4, 8, 16]))
FLEETS = st.dictionaries(st.sampled_from("abcdefgh"), NEEDS, min_size=1).filter(
    lambda hosts: any(need.weight > 0 for need in hosts.values())
)
COUNTS = st.integers(min_value=1, max_value=120)
LANES = st.sampled_from([1, 1, 2, 5, 16])


def planned(count: int, needs: Mapping[str, HostNeed], lanes: int = 1) -> dict[str, HostEntry]:
    return plan_fleet(count, needs, {}, max_concurrency=lanes).hosts


def check(count: int, needs: Mapping[str, HostNeed], target: Target) -> None:
    """What holds for every plan of hosts without limits, however it came about."""
    plan = target.hosts
    assert target.notes == ()
    everywhere = [shard for entry in plan.values() for shard in shards_of(entry)]
    assert sorted(everywhere) == list(range(count))
    total = sum(Fraction(need.weight) for need in needs.values())
    for host, need in needs.items():
        exact = count * Fraction(need.weight) / total
        assert floor(exact) <= len(shards_of(plan[host])) <= ceil(exact)
        size = need.shards_per_cluster
        assert len(plan[host].clusters) == ceil(len(shards_of(plan[host])) / size)
        for cluster in plan[host].clusters.values():
            assert len(cluster.shards) <= size
            assert list(cluster.shards) == sorted(cluster.shards)
    everyone = [number for entry in plan.values() for number in entry.clusters]
    assert len(everyone) == len(set(everyone))


@given(COUNTS, FLEETS, LANES)
def test_every_shard_has_exactly_one_home_and_every_host_its_share(
    count: int, needs: dict[str, HostNeed], lanes: int
) -> None:
    check(count, needs, plan_fleet(count, needs, {}, max_concurrency=lanes))


@example(
    # d's share is exactly 1: what rounding left over is not d's, though d has both shards.
    2,
    {"d": HostNeed()},
    {"b": HostNeed(), "c": HostNeed(weight=0.5), "d": HostNeed(weight=1.5)},
    1,
)
@given(COUNTS, FLEETS, FLEETS, LANES)
def test_a_changed_fleet_moves_no_more_shards_than_its_shares_demand(
    count: int, before: dict[str, HostNeed], after: dict[str, HostNeed], lanes: int
) -> None:
    old = planned(count, before, lanes)
    new = plan_fleet(count, after, old, max_concurrency=lanes)
    check(count, after, new)
    assert len(moved(old, new.hosts)) == fewest_moves(count, old, after)


@settings(max_examples=25)
@given(
    st.integers(min_value=1, max_value=7),
    st.lists(st.sampled_from("abcd"), min_size=7, max_size=7),
    st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3),
)
def test_no_layout_at_all_has_these_shares_with_fewer_moves(
    count: int, places: list[str], weights: list[int]
) -> None:
    was = dict(enumerate(places[:count]))
    old = {
        host: HostEntry(
            clusters={number: ClusterPlan(shards=tuple(s for s in was if was[s] == host))}
        )
        for number, host in enumerate(sorted(set(places[:count])))
    }
    needs = {host: HostNeed(weight=weight) for host, weight in zip("abc", weights, strict=False)}
    total = sum(weights)

    def balanced(have: dict[str, int]) -> bool:
        shares = {host: Fraction(count * int(needs[host].weight), total) for host in needs}
        return all(floor(shares[host]) <= have[host] <= ceil(shares[host]) for host in needs)

    new = plan_fleet(count, needs, old).hosts
    assert len(moved(old, new)) == by_brute_force(count, list(needs), was, balanced)


@given(COUNTS, FLEETS, FLEETS, LANES)
def test_planning_again_changes_nothing(
    count: int, before: dict[str, HostNeed], after: dict[str, HostNeed], lanes: int
) -> None:
    first = planned(count, before, lanes)
    assert plan_fleet(count, before, first, max_concurrency=lanes).hosts == first
    second = plan_fleet(count, after, first, max_concurrency=lanes).hosts
    assert plan_fleet(count, after, second, max_concurrency=lanes).hosts == second


@given(COUNTS, FLEETS, FLEETS, LANES, st.randoms(use_true_random=False))
def test_the_order_in_which_hosts_are_named_does_not_matter(
    count: int,
    before: dict[str, HostNeed],
    after: dict[str, HostNeed],
    lanes: int,
    rng: random.Random,
) -> None:
    old = planned(count, before, lanes)
    names = list(after)
    rng.shuffle(names)
    shuffled = {name: after[name] for name in names}
    turned = dict(reversed(old.items()))
    assert plan_fleet(count, shuffled, turned, max_concurrency=lanes) == plan_fleet(
        count, after, old, max_concurrency=lanes
    )


@given(COUNTS, FLEETS, FLEETS)
def test_a_number_never_passes_from_one_host_to_another(
    count: int, before: dict[str, HostNeed], after: dict[str, HostNeed]
) -> None:
    old = planned(count, before)
    new = plan_fleet(count, after, old).hosts
    owner = {number: host for host, entry in old.items() for number in entry.clusters}
    for host, own in new.items():
        assert all(owner.get(number, host) == host for number in own.clusters)


@given(COUNTS, FLEETS, LANES)
def test_a_cluster_that_keeps_its_size_keeps_its_shards_when_a_host_joins(
    count: int, needs: dict[str, HostNeed], lanes: int
) -> None:
    old = planned(count, needs, lanes)
    new = plan_fleet(count, needs | {"z": HostNeed()}, old, max_concurrency=lanes).hosts
    for host, own in old.items():
        changed = [n for n, c in own.clusters.items() if new[host].clusters.get(n) != c]
        emptied = [n for n in changed if n not in new[host].clusters]
        # Whole clusters leave; of the others one may shrink, and one that was short may fill up.
        assert len(changed) - len(emptied) <= 2


@given(COUNTS, FLEETS, st.sets(st.sampled_from("abcdefgh")))
def test_falling_silent_moves_nothing(
    count: int, needs: dict[str, HostNeed], silent: set[str]
) -> None:
    before = planned(count, needs)
    later = {
        host: msgspec.structs.replace(need, in_touch=host not in silent)
        for host, need in needs.items()
    }
    assert plan_fleet(count, later, before).hosts == before


@given(COUNTS, FLEETS, st.integers(min_value=0, max_value=5))
def test_a_cluster_that_stays_keeps_its_run(
    count: int, needs: dict[str, HostNeed], run: int
) -> None:
    old = {
        host: msgspec.structs.replace(
            entry,
            clusters={
                number: msgspec.structs.replace(cluster, run=run)
                for number, cluster in entry.clusters.items()
            },
        )
        for host, entry in planned(count, needs).items()
    }
    new = plan_fleet(count, needs | {"z": HostNeed()}, old).hosts
    known = clusters(old)
    for own in new.values():
        for number, cluster in own.clusters.items():
            assert cluster.run == (run if number in known else 0)


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
    assert numbers(planned(count, needs)) == expected


def test_the_remainder_stays_where_it_is() -> None:
    needs = {host: HostNeed(shards_per_cluster=4) for host in "abc"}
    old = laid_out(3, 3, 4)
    assert plan_fleet(10, needs, old).hosts == old


def test_a_host_that_joins_takes_whole_clusters_first() -> None:
    needs = {"a": HostNeed(shards_per_cluster=4), "b": HostNeed(shards_per_cluster=4)}
    old = planned(16, {"a": needs["a"]})
    new = plan_fleet(16, needs, old).hosts
    assert new["a"].clusters == {0: old["a"].clusters[0], 1: old["a"].clusters[1]}
    assert sorted(new["b"].clusters) == [4, 5]


def test_a_cluster_that_is_not_full_goes_before_full_ones() -> None:
    old = {"a": entry([0, 1], [2, 3, 4, 5])}
    needs = {"a": HostNeed(weight=2, shards_per_cluster=4), "b": HostNeed(shards_per_cluster=4)}
    new = plan_fleet(6, needs, old).hosts
    assert clusters(new) == {1: (2, 3, 4, 5), 2: (0, 1)}


@pytest.mark.parametrize(
    ("before", "after", "staying"),
    [
        # Each old cluster keeps what fits; the others go to clusters with new numbers.
        (8, 4, {0: (0, 1, 2, 3), 1: (8, 9, 10, 11)}),
        # The last ones are dissolved, the first ones filled up.
        (4, 8, {0: (0, 1, 2, 3), 1: (4, 5, 6, 7)}),
        (4, 16, {0: (0, 1, 2, 3)}),
        (16, 1, {0: (0,)}),
        (4, 5, {0: (0, 1, 2, 3), 1: (4, 5, 6, 7), 2: (8, 9, 10, 11), 3: (12,)}),
    ],
)
def test_another_cluster_size_moves_the_fewest_shards_between_clusters(
    before: int, after: int, staying: dict[int, tuple[int, ...]]
) -> None:
    old = planned(16, {"a": HostNeed(shards_per_cluster=before)})
    new = plan_fleet(16, {"a": HostNeed(shards_per_cluster=after)}, old)
    check(16, {"a": HostNeed(shards_per_cluster=after)}, new)
    was, now = clusters(old), clusters(new.hosts)
    stay = {n: tuple(sorted({*was[n]} & {*now[n]})) for n in was if n in now}
    assert stay == staying
    assert sorted(map(len, now.values()), reverse=True)[:-1] == [after] * (len(now) - 1)


def test_short_clusters_are_levelled_when_the_size_changes() -> None:
    old = planned(10, {"a": HostNeed(shards_per_cluster=5)})
    new = plan_fleet(10, {"a": HostNeed(shards_per_cluster=8)}, old).hosts
    assert clusters(new) == {0: (0, 1, 2, 3, 4, 7, 8, 9), 1: (5, 6)}


def test_weight_zero_empties_a_host() -> None:
    old = planned(8, {"a": HostNeed(), "b": HostNeed()})
    new = plan_fleet(8, {"a": HostNeed(), "b": HostNeed(weight=0)}, old).hosts
    assert new["b"].clusters == {}
    assert sorted(shards_of(new["a"])) == list(range(8))


def test_shards_of_a_host_that_leaves_go_to_nobody_who_is_out_of_touch() -> None:
    together = {"a": HostNeed(weight=2), "b": HostNeed(), "c": HostNeed()}
    old = planned(24, together)
    c = HostNeed(in_touch=False)
    new = plan_fleet(24, {"a": HostNeed(weight=0), "b": HostNeed(), "c": c}, old).hosts
    assert new["a"].clusters == {}
    assert len(shards_of(new["b"])) == 18
    assert new["c"] == old["c"]


def test_a_host_out_of_touch_gives_its_share_to_one_that_joins() -> None:
    old = planned(8, {"a": HostNeed()})
    new = plan_fleet(8, {"a": HostNeed(in_touch=False), "b": HostNeed()}, old).hosts
    assert numbers(new) == {"a": 4, "b": 4}


def test_shards_of_a_host_that_is_not_planned_for_find_a_new_home() -> None:
    old = {"gone": HostEntry(clusters={7: ClusterPlan(shards=(0, 1, 2, 3))})}
    new = plan_fleet(4, {"a": HostNeed()}, old).hosts
    assert new == {"a": HostEntry(clusters={8: ClusterPlan(shards=(0, 1, 2, 3))})}


def test_shards_that_do_not_exist_any_more_leave_their_clusters() -> None:
    old = laid_out(8, 8)
    new = plan_fleet(10, {host: HostNeed(shards_per_cluster=4) for host in "ab"}, old).hosts
    assert sorted(homes(new)) == list(range(10))
    assert numbers(new) == {"a": 5, "b": 5}


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        ({}, "there is none"),
        ({"a": HostNeed(weight=0), "b": HostNeed(weight=0)}, "a, b have weight 0"),
        ({"a": HostNeed(state="draining")}, "a is being drained"),
        ({"a": HostNeed(state="lost")}, "a is lost"),
        ({"a": HostNeed(max_shards=0)}, "a is at max_shards"),
        ({"a": HostNeed(in_touch=False), "b": HostNeed(weight=0)}, "b has weight 0, a is out of"),
    ],
)
def test_a_fleet_of_which_no_host_can_take_a_shard_is_refused_in_words(
    needs: dict[str, HostNeed], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"no host can take a shard: {why}") as caught:
        plan_fleet(4, needs, {})
    assert caught.value.hint


def test_lost_hosts_alone_are_no_fleet_so_that_their_shards_stay_theirs() -> None:
    old = planned(8, {"a": HostNeed(), "b": HostNeed()})
    with pytest.raises(ConfigurationError, match="no host can take a shard"):
        plan_fleet(8, {"a": HostNeed(state="lost"), "b": HostNeed(state="lost")}, old)
