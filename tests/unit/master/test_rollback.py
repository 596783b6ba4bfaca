# SPDX-License-Identifier: Apache-2.0
"""What a rollback can take over of an earlier plan."""

from collections.abc import Mapping

import msgspec
import pytest

from discluster.errors import DisclusterError
from discluster.master.orders.rollback import contradictions, earlier_layout
from discluster.master.planner import HostNeed
from discluster.plan import ClusterPlan, HostEntry
from tests.unit.master.fleets import fleet

OLD = fleet({"a": {0: [0, 1, 2]}, "b": {1: [3, 4, 5]}}, generation=3)
NOW = fleet({"a": {0: [0]}, "b": {1: [3]}, "c": {2: [1, 2, 4, 5]}}, generation=9)
THREE = {host: HostNeed() for host in "abc"}


def layout(entries: Mapping[str, HostEntry]) -> dict[str, dict[int, list[int]]]:
    return {
        host: {number: list(cluster.shards) for number, cluster in entry.clusters.items()}
        for host, entry in sorted(entries.items())
    }


def test_hosts_get_back_what_they_had_and_newcomers_nothing() -> None:
    assert layout(earlier_layout(OLD, NOW, THREE)) == {
        "a": {0: [0, 1, 2]},
        "b": {1: [3, 4, 5]},
        "c": {},
    }
    assert list(contradictions(OLD, THREE)) == []


def test_shards_of_a_host_that_is_gone_are_left_to_the_planner() -> None:
    needs = {host: HostNeed() for host in "ac"}
    assert layout(earlier_layout(OLD, NOW, needs)) == {"a": {0: [0, 1, 2]}, "c": {}}
    assert list(contradictions(OLD, needs)) == [
        "b is not there any more: its 3 shards go to others"
    ]


def test_a_host_out_of_touch_keeps_what_it_has() -> None:
    needs = THREE | {"c": HostNeed(in_touch=False)}
    assert layout(earlier_layout(OLD, NOW, needs)) == {
        "a": {0: [0]},
        "b": {1: [3]},
        "c": {2: [1, 2, 4, 5]},
    }


def test_another_number_of_shards_is_refused() -> None:
    larger = msgspec.structs.replace(NOW, shard_count=12)
    with pytest.raises(DisclusterError, match="had 6 shards, the fleet has 12"):
        earlier_layout(OLD, larger, THREE)


def test_runs_never_go_back() -> None:
    restarted = NOW.hosts | {"a": HostEntry(clusters={0: ClusterPlan(shards=(0,), run=7)})}
    now = msgspec.structs.replace(NOW, hosts=restarted)
    assert earlier_layout(OLD, now, THREE)["a"].clusters[0].run == 7


def test_a_number_that_names_another_hosts_cluster_by_now_is_not_taken() -> None:
    now = fleet({"a": {1: [0, 1, 2]}, "b": {3: [3, 4, 5]}}, generation=9)
    entries = earlier_layout(OLD, now, {host: HostNeed() for host in "ab"})
    assert layout(entries) == {"a": {0: [0, 1, 2]}, "b": {4: [3, 4, 5]}}


@pytest.mark.parametrize(
    ("need", "words"),
    [
        (HostNeed(state="draining"), "b is drained: its 3 shards go to others"),
        (HostNeed(state="lost"), "b is lost: its 3 shards go to others"),
        (HostNeed(in_touch=False), "b is out of touch and keeps what it has"),
        (HostNeed(max_shards=2), "b takes at most 2 shards now, it had 3"),
        (
            HostNeed(shards_per_cluster=1),
            "clusters of b take 1 shards now, 16 then: it is regrouped",
        ),
    ],
)
def test_what_settings_and_orders_have_against_it_is_told(need: HostNeed, words: str) -> None:
    assert list(contradictions(OLD, THREE | {"b": need})) == [words]
