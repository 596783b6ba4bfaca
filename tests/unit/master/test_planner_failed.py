# SPDX-License-Identifier: Apache-2.0
"""The planner and clusters that failed: where their shards go, and with whom they stay."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.master.planner import HostNeed, plan_fleet
from discluster.plan import Failed, HostEntry
from tests.unit.master.targets import clusters, homes, laid_out, moved, numbers, shards_of

SIZE = 4


def need(weight: float = 1, **other: object) -> HostNeed:
    return HostNeed(weight=weight, shards_per_cluster=SIZE, **other)  # type: ignore[arg-type]


def failed(layout: Mapping[str, HostEntry], *numbers: int) -> dict[int, Failed]:
    return {
        number: Failed(host=host, at=0.0, shards=cluster.shards)
        for host, entry in layout.items()
        for number, cluster in entry.clusters.items()
        if number in numbers
    }


def mixed(layout: Mapping[str, HostEntry], gone: Mapping[int, Failed]) -> list[tuple[int, ...]]:
    """Clusters in which shards of a failed cluster are together with others."""
    kin = {shard: number for number in sorted(gone) for shard in gone[number].shards}
    return [c for c in clusters(layout).values() if len({kin.get(s) for s in c}) > 1]


def test_failed_cluster_goes_to_another_host_as_a_cluster_of_its_own() -> None:
    old = laid_out(8, 6)
    gone = failed(old, 1)
    new = plan_fleet(14, {h: need() for h in "ab"}, old, failed=gone).hosts
    assert clusters(new) == {0: (0, 1, 2, 3), 2: (8, 9, 10, 11), 3: (12, 13), 4: (4, 5, 6, 7)}
    assert homes(new)[4] == "b"
    assert moved(old, new) == [4, 5, 6, 7]


def test_without_another_host_it_becomes_a_new_cluster_of_the_same_host() -> None:
    old = laid_out(10)
    new = plan_fleet(10, {"a": need()}, old, failed=failed(old, 1)).hosts
    assert clusters(new) == {0: (0, 1, 2, 3), 2: (8, 9), 3: (4, 5, 6, 7)}


@pytest.mark.parametrize(
    "other",
    [
        need(in_touch=False),
        need(0),
        need(state="draining"),
        need(state="lost"),
        need(max_shards=10),
        need(standby=True),
    ],
)
def test_a_host_that_can_take_nothing_is_no_other_host(other: HostNeed) -> None:
    old = laid_out(8, 8) if other.takes and not other.standby else laid_out(16, 0)
    new = plan_fleet(16, {"a": need(), "b": other}, old, failed=failed(old, 1)).hosts
    assert homes(new)[4] == homes(new)[7] == "a"
    assert 1 not in clusters(new)
    assert (4, 5, 6, 7) in clusters(new).values()


def test_it_goes_to_the_least_loaded_host_by_weight() -> None:
    old = laid_out(8, 8, 16, weights=[1, 1, 4])
    needs = {"a": need(), "b": need(), "c": need(4)}
    assert homes(plan_fleet(32, needs, old, failed=failed(old, 0)).hosts)[0] == "c"


def test_no_healthy_shard_moves_in_return() -> None:
    old = laid_out(16, 16)
    needs = {h: need() for h in "ab"}
    gone = failed(old, 0, 1, 2)
    new = plan_fleet(32, needs, old, failed=gone).hosts
    assert numbers(new) == {"a": 4, "b": 28}
    assert moved(old, new) == list(range(12))


def test_once_it_is_forgotten_the_hosts_are_balanced_again() -> None:
    old = laid_out(16, 16)
    needs = {h: need() for h in "ab"}
    after = plan_fleet(32, needs, old, failed=failed(old, 0)).hosts
    assert numbers(after) == {"a": 12, "b": 20}
    assert numbers(plan_fleet(32, needs, after).hosts) == {"a": 16, "b": 16}


def test_failed_again_elsewhere_it_avoids_both_hosts() -> None:
    old = laid_out(8, 8, 12)
    needs = {h: need() for h in "abc"}
    first = failed(old, 0)
    new = plan_fleet(28, needs, old, failed=first).hosts
    assert homes(new)[0] == "b"
    (number,) = [n for n, shards in clusters(new).items() if 0 in shards]
    again = plan_fleet(28, needs, new, failed=first | failed(new, number)).hosts
    assert {homes(again)[shard] for shard in range(4)} == {"c"}


def test_a_number_of_a_failed_cluster_is_not_used_again() -> None:
    old = laid_out(8, 8)
    needs = {h: need() for h in "ab"}
    gone = failed(old, 3)
    new = plan_fleet(16, needs, old, failed=gone).hosts
    assert max(clusters(new)) == 4
    # Nobody has cluster 3 or 4 now; 3 still stands among the failed ones.
    shrunk = {"a": laid_out(8)["a"]}
    assert min(plan_fleet(8, needs, shrunk, failed=gone).hosts["b"].clusters) == 4


def test_its_shards_follow_a_host_that_goes_away_together() -> None:
    old = laid_out(8, 8, 8)
    needs = {h: need() for h in "abc"}
    gone = failed(old, 0)
    new = plan_fleet(24, needs, old, failed=gone).hosts
    where = homes(new)[0]
    left = {h: need(state="lost") if h == where else need() for h in "abc"}
    later = plan_fleet(24, left, new, failed=gone).hosts
    (other,) = {"b", "c"} - {where}
    assert {homes(later)[shard] for shard in range(4)} == {other}
    assert not mixed(later, gone)


def test_a_standby_host_that_is_called_in_may_take_it() -> None:
    old = laid_out(8, 8, 0)
    needs = {"a": need(), "b": need(state="lost"), "c": need(standby=True)}
    new = plan_fleet(16, needs, old, failed=failed(old, 0)).hosts
    assert homes(new)[0] == "c"


def test_another_cluster_size_splits_it_and_keeps_it_apart() -> None:
    old = laid_out(8, 8)
    gone = failed(old, 0)
    new = plan_fleet(16, {h: need() for h in "ab"}, old, failed=gone).hosts
    twos = {h: HostNeed(shards_per_cluster=3) for h in "ab"}
    later = plan_fleet(16, twos, new, failed=gone).hosts
    assert not mixed(later, gone)
    assert sorted(homes(later)) == list(range(16))


def test_a_silent_host_that_gives_up_a_failed_cluster_gets_no_other_for_it() -> None:
    old = laid_out(8, 8)
    needs = {"a": need(in_touch=False), "b": need()}
    new = plan_fleet(16, needs, old, failed=failed(old, 0, 2)).hosts
    assert {homes(new)[shard] for shard in (0, 1, 2, 3, 8, 9, 10, 11)} == {"b"}


COUNTS = st.integers(min_value=4, max_value=60)
FLEETS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(
        HostNeed,
        weight=st.sampled_from([1.0, 1.0, 2.0, 0.5]),
        shards_per_cluster=st.sampled_from([2, 4, 16]),
        max_shards=st.sampled_from([None, None, 30]),
        standby=st.sampled_from([False, False, False, True]),
        state=st.sampled_from(["eligible", "eligible", "eligible", "draining", "lost"]),
    ),
    min_size=1,
).filter(lambda hosts: any(need.takes for need in hosts.values()))


@given(COUNTS, FLEETS, FLEETS, st.sets(st.integers(min_value=0, max_value=8), max_size=3))
def test_whatever_fails_shards_stay_once_apart_and_still(
    count: int, before: dict[str, HostNeed], after: dict[str, HostNeed], fails: set[int]
) -> None:
    old = plan_fleet(count, before, {}).hosts
    gone = failed(old, *fails)
    target = plan_fleet(count, after, old, failed=gone)
    new = target.hosts
    everywhere = [shard for entry in new.values() for shard in shards_of(entry)]
    assert len(everywhere) == len(set(everywhere))
    assert len(everywhere) == count or target.notes
    assert not set(clusters(new)) & set(gone)
    assert not mixed(new, gone)
    for host, entry in new.items():
        assert all(len(c.shards) <= after[host].shards_per_cluster for c in entry.clusters.values())
        assert len(shards_of(entry)) <= (after[host].max_shards or count)
    assert plan_fleet(count, after, new, failed=gone) == target


@given(COUNTS, FLEETS, st.sets(st.integers(min_value=0, max_value=8), min_size=1, max_size=3))
def test_only_what_failed_moves(count: int, needs: dict[str, HostNeed], fails: set[int]) -> None:
    old = plan_fleet(count, needs, {}).hosts
    gone = failed(old, *fails)
    suspects = {shard for cluster in gone.values() for shard in cluster.shards}
    new = plan_fleet(count, needs, old, failed=gone).hosts
    # The place that is left on the old host is not filled by moving others either.
    assert set(moved(old, new)) <= suspects
