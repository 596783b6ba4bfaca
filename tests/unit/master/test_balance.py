# SPDX-License-Identifier: Apache-2.0
"""What shards cost by what hosts report, and when it pays to move some for it."""

from collections.abc import Mapping

import pytest

from discluster.master.placement.balance import (
    averaged,
    complete,
    events_of,
    excess,
    guild_costs,
    load_costs,
    worthwhile,
)
from discluster.master.planner import HostNeed
from discluster.messages import ClusterView, HostReport, ShardView
from tests.unit.master.targets import entry, laid_out


def view(
    number: int,
    shards: Mapping[int, int],
    *,
    cpu: float | None = None,
    memory: int | None = None,
    rate: float | None = None,
    guilds: int | None = None,
) -> ClusterView:
    """``shards``: with the events that each brought."""
    return ClusterView(
        cluster=number,
        unit="active",
        shards=tuple(
            ShardView(shard=shard, state="ready", events=events, guilds=guilds)
            for shard, events in shards.items()
        ),
        cpu=cpu,
        memory=memory,
        event_rate=rate,
    )


def reports(*clusters: ClusterView) -> list[HostReport]:
    return [HostReport(plan_generation=1, clusters=(cluster,)) for cluster in clusters]


def test_guilds_are_counted_where_they_are_known() -> None:
    told = reports(view(0, {0: 0, 1: 0}, guilds=900), view(1, {2: 0}), view(2, {3: 0}, guilds=0))
    known = guild_costs(told)
    assert known == {0: 900.0, 1: 900.0, 3: 1.0}
    assert complete(known, 5)[2] == complete(known, 5)[4] == pytest.approx(1801 / 3)


def test_with_nothing_known_all_shards_cost_alike() -> None:
    assert set(complete({}, 3).values()) == {1.0}


def test_costs_of_shards_that_do_not_exist_any_more_do_not_count() -> None:
    assert complete({0: 2.0, 9: 100.0}, 2) == {0: 2.0, 1: 2.0}


def test_cpu_time_is_spread_by_the_events_since_the_last_look() -> None:
    busy = view(0, {0: 1300, 1: 5100}, cpu=0.6)
    costs = load_costs(reports(busy, view(1, {2: 50, 3: 50}, cpu=0.2)), {0: 1000, 1: 5000})
    # 300 and 100 events of a cluster that takes three times as much; 0.2 is a shard's average.
    assert costs[0] == pytest.approx(2.25)
    assert costs[1] == pytest.approx(0.75)
    assert costs[2] == costs[3] == pytest.approx(0.5)


def test_a_shard_whose_events_count_anew_counts_as_the_average_of_its_cluster() -> None:
    costs = load_costs(reports(view(0, {0: 200, 1: 5, 2: 100}, cpu=0.3)), {0: 0, 1: 9000, 2: 0})
    assert costs == {0: pytest.approx(4 / 3), 1: pytest.approx(1), 2: pytest.approx(2 / 3)}


def test_memory_counts_a_quarter() -> None:
    told = reports(view(0, {0: 0}, cpu=0.2, memory=300), view(1, {1: 0}, cpu=0.2, memory=100))
    assert load_costs(told, {}) == {0: pytest.approx(1.125), 1: pytest.approx(0.875)}


def test_the_rate_of_events_stands_in_for_cpu_time() -> None:
    told = reports(view(0, {0: 0}, rate=30.0), view(1, {1: 0}, rate=10.0))
    assert load_costs(told, {}) == {0: pytest.approx(1.5), 1: pytest.approx(0.5)}


def test_memory_alone_counts_whole() -> None:
    told = reports(view(0, {0: 0}, memory=300), view(1, {1: 0}, memory=100))
    assert load_costs(told, {}) == {0: pytest.approx(1.5), 1: pytest.approx(0.5)}


def test_of_a_cluster_that_nothing_is_known_of_there_is_no_cost() -> None:
    assert load_costs(reports(view(0, {0: 0})), {}) == {}
    assert load_costs(reports(view(0, {0: 0}, cpu=0.0)), {}) == {}
    assert load_costs([HostReport(plan_generation=1)], {}) == {}


def test_an_idle_shard_still_costs_something() -> None:
    told = reports(view(0, {0: 0}, cpu=0.0), view(1, {1: 0}, cpu=0.4))
    assert load_costs(told, {}) == {0: 0.05, 1: pytest.approx(2)}


def test_events_are_those_of_all_hosts() -> None:
    assert events_of(reports(view(0, {0: 3, 1: 4}), view(1, {2: 5}))) == {0: 3, 1: 4, 2: 5}


def test_averages_follow_slowly_and_keep_what_is_not_measured_now() -> None:
    before = {0: 10.0, 1: 10.0}
    assert averaged(before, {0: 20.0, 2: 7.0}, 0.1) == {0: 11.0, 1: 10.0, 2: 7.0}


def test_excess_is_told_by_weight() -> None:
    hosts = {"a": HostNeed(weight=3), "b": HostNeed(), "c": HostNeed(standby=True)}
    layout = laid_out(4, 4, 0)
    assert excess(layout, hosts, dict.fromkeys(range(8), 2.0)) == {
        "a": pytest.approx(-1 / 3),
        "b": pytest.approx(1),
    }


OLD = {"a": entry(range(4)), "b": entry(range(4, 8), first=10)}
NEEDS = {"a": HostNeed(), "b": HostNeed()}
COSTS = {shard: 30.0 if shard < 4 else 10.0 for shard in range(8)}


def test_a_gain_that_is_large_enough_is_adopted_with_its_reason() -> None:
    better = {"a": entry([1, 2, 3]), "b": entry([0, 4, 5, 6, 7], first=10)}
    verdict = worthwhile(OLD, better, NEEDS, COSTS, gain=0.1, balance="guilds")
    assert verdict.adopt
    assert verdict.reason == (
        "a carries 50 % more than its share of the guilds;"
        " with 1 shard moved no host has over 12 % more than its share"
    )


@pytest.mark.parametrize(
    ("gain", "adopted"), [(0.1, True), (0.37, True), (0.38, False), (2, False)]
)
def test_the_gain_must_be_reached(gain: float, adopted: bool) -> None:
    better = {"a": entry([1, 2, 3]), "b": entry([0, 4, 5, 6, 7], first=10)}
    assert worthwhile(OLD, better, NEEDS, COSTS, gain=gain).adopt is adopted


def test_what_only_turns_the_imbalance_round_is_not_adopted() -> None:
    turned = {"a": entry(range(4, 8)), "b": entry(range(4), first=10)}
    verdict = worthwhile(OLD, turned, NEEDS, COSTS, gain=0.1)
    assert not verdict.adopt
    assert "moving 8 shards would leave a host with 50 % more" in verdict.reason


def test_where_nobody_has_a_share_nothing_is_adopted() -> None:
    nobody = {host: HostNeed(weight=0) for host in "ab"}
    assert not worthwhile(OLD, OLD, nobody, COSTS, gain=0.1).adopt
