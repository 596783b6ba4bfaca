# SPDX-License-Identifier: Apache-2.0
"""The planner keeps identify buckets together where that costs no balance and no move."""

from collections.abc import Mapping
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.master.planner import HostNeed, plan_fleet
from discluster.plan import HostEntry
from tests.unit.master.targets import (
    clusters,
    entry,
    fewest_moves,
    homes,
    moved,
    numbers,
    shards_of,
)


def parts(layout: Mapping[str, HostEntry], lanes: int) -> dict[int, set[str]]:
    """Bucket -> the hosts that have shards of it."""
    where: dict[int, set[str]] = {}
    for shard, host in homes(layout).items():
        where.setdefault(shard % lanes, set()).add(host)
    return where


def whole(layout: Mapping[str, HostEntry], lanes: int) -> int:
    return sum(len(hosts) == 1 for hosts in parts(layout, lanes).values())


def fleet(hosts: int, size: int = 4) -> dict[str, HostNeed]:
    return {name: HostNeed(shards_per_cluster=size) for name in "abcdefghij"[:hosts]}


@pytest.mark.parametrize(
    ("count", "lanes", "hosts", "together"),
    [
        (64, 16, 4, 16),
        (64, 16, 2, 16),
        (64, 16, 1, 16),
        # 13 shards a host are three buckets of 4 and one shard of the one that is left.
        (64, 16, 5, 15),
        (48, 16, 3, 15),
        (48, 16, 6, 12),
        # Buckets of 32 fit on no host.
        (64, 2, 4, 0),
        (64, 1, 3, 0),
        # Every shard is a bucket of its own.
        (20, 100, 7, 20),
    ],
)
def test_first_plan_keeps_as_many_buckets_whole_as_can_be(
    count: int, lanes: int, hosts: int, together: int
) -> None:
    layout = plan_fleet(count, fleet(hosts), {}, max_concurrency=lanes).hosts
    assert whole(layout, lanes) == together
    assert max(numbers(layout).values()) - min(numbers(layout).values()) <= 1


def test_buckets_larger_than_a_host_touch_as_few_hosts_as_can_be() -> None:
    layout = plan_fleet(64, fleet(8), {}, max_concurrency=4).hosts
    assert [len(hosts) for hosts in parts(layout, 4).values()] == [2, 2, 2, 2]


def test_shards_of_a_bucket_are_in_one_cluster() -> None:
    layout = plan_fleet(64, fleet(4), {}, max_concurrency=16).hosts
    assert clusters(layout)[0] == (0, 16, 32, 48)
    assert all(len({shard % 16 for shard in shards}) == 1 for shards in clusters(layout).values())


def test_a_newcomer_gets_whole_buckets() -> None:
    old = plan_fleet(64, fleet(3), {}, max_concurrency=16).hosts
    new = plan_fleet(64, fleet(4), old, max_concurrency=16).hosts
    fetched = {shard % 16 for shard in shards_of(new["d"])}
    assert len(shards_of(new["d"])) == 16
    assert len(fetched) <= 6
    assert whole(new, 16) >= 11


def test_with_clusters_larger_than_a_bucket_a_newcomer_gets_whole_buckets_all_the_same() -> None:
    old = plan_fleet(96, fleet(2, 16), {}, max_concurrency=24).hosts
    new = plan_fleet(96, fleet(3, 16), old, max_concurrency=24).hosts
    # Each gives 16: whole clusters, which hold four buckets each.
    assert whole(old, 24) == whole(new, 24) == 24


def test_part_of_a_cluster_goes_by_whole_buckets() -> None:
    old = plan_fleet(16, fleet(1, 16), {}, max_concurrency=4).hosts
    new = plan_fleet(16, fleet(2, 16), old, max_concurrency=4).hosts
    assert whole(new, 4) == 4
    # A quarter is one bucket.
    needs = {"a": HostNeed(weight=3), "b": HostNeed()}
    assert whole(plan_fleet(16, needs, old, max_concurrency=4).hosts, 4) == 4


def test_a_lost_hosts_shards_join_their_bucket() -> None:
    layout = plan_fleet(60, fleet(5), {}, max_concurrency=10).hosts
    needs = fleet(5) | {"e": HostNeed(shards_per_cluster=4, state="lost")}
    after = plan_fleet(60, needs, layout, max_concurrency=10).hosts
    joined = parts(after, 10)
    assert len(moved(layout, after)) == 12
    # Twelve shards for four hosts with three places each: two buckets of six, in two parts each.
    assert sum(map(len, joined.values())) <= 12


def test_a_shard_that_lost_its_host_joins_its_bucket() -> None:
    old = {
        "a": entry([1, 5, 9]),
        "b": entry([0, 4, 8], first=10),
        "c": entry([12, 13], first=20),
        "d": entry([2, 3, 6, 7, 10, 11], first=30, size=8, weight=2),
    }
    full = HostNeed(weight=2, max_shards=6)
    needs = {"a": HostNeed(), "b": HostNeed(), "c": HostNeed(state="lost"), "d": full}
    new = plan_fleet(14, needs, old, max_concurrency=4).hosts
    assert sorted(shards_of(new["a"])) == [1, 5, 9, 13]
    assert sorted(shards_of(new["b"])) == [0, 4, 8, 12]


def test_of_a_cluster_that_shrinks_the_shards_stay_whose_bucket_stays() -> None:
    old = {"a": entry([1, 3, 5, 7], [0, 2, 9, 11]), "c": entry([4, 6, 8, 10], first=10)}
    needs = {
        host: HostNeed(weight=weight, shards_per_cluster=4)
        for host, weight in {"a": 3, "b": 1, "c": 2}.items()
    }
    new = plan_fleet(12, needs, old, max_concurrency=2).hosts
    assert sorted(shards_of(new["a"])) == [1, 3, 5, 7, 9, 11]
    assert sorted(shards_of(new["b"])) == [0, 2]


@given(
    st.integers(min_value=1, max_value=200),
    st.integers(min_value=1, max_value=40),
    st.integers(min_value=1, max_value=6),
    st.integers(min_value=1, max_value=6),
)
def test_buckets_cost_neither_balance_nor_a_move(
    count: int, lanes: int, before: int, after: int
) -> None:
    old = plan_fleet(count, fleet(before), {}, max_concurrency=lanes).hosts
    new = plan_fleet(count, fleet(after), old, max_concurrency=lanes).hosts
    assert sorted(homes(new)) == list(range(count))
    assert max(numbers(new).values()) - min(numbers(new).values()) <= 1
    assert len(moved(old, new)) == fewest_moves(count, old, fleet(after))


@given(
    st.integers(min_value=1, max_value=200),
    st.integers(min_value=1, max_value=40),
    st.integers(min_value=1, max_value=6),
)
def test_a_first_plan_splits_only_what_does_not_fit(count: int, lanes: int, hosts: int) -> None:
    layout = plan_fleet(count, fleet(hosts), {}, max_concurrency=lanes).hosts
    largest = ceil(count / lanes)
    # Each host is filled with whole buckets until none fits, then with parts.
    least = sum(number // largest for number in numbers(layout).values())
    assert whole(layout, lanes) >= min(least, len(parts(layout, lanes)))
