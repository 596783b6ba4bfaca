# SPDX-License-Identifier: Apache-2.0
"""What counts as wrong, and that it is told once."""

import msgspec
import pytest

from discluster.console import FleetStatus, Trouble
from discluster.ctl import problems
from discluster.messages import ShardView
from tests.unit.ctl import fleets


def texts(status: FleetStatus) -> list[str]:
    return [trouble.text for trouble in problems.of_fleet(status)]


def with_troubles(status: FleetStatus, *troubles: Trouble) -> FleetStatus:
    return msgspec.structs.replace(status, troubles=troubles)


def test_healthy_fleet_is_well() -> None:
    assert problems.fleet_is_well(fleets.healthy())
    assert texts(fleets.healthy()) == []


@pytest.mark.parametrize(
    "status",
    [
        fleets.starting(),
        fleets.token_rejected(),
        fleets.silent_host(),
        fleets.failed_cluster(),
        fleets.no_hosts(),
        fleets.many_shards(),
    ],
)
def test_fleet_that_is_not_all_ready_is_not_well(status: FleetStatus) -> None:
    assert not problems.fleet_is_well(status)


def test_fleet_without_shards_is_not_well() -> None:
    assert not problems.fleet_is_well(fleets.fleet(fleets.host("alpha")))


def test_notice_leaves_a_fleet_well_and_a_warning_does_not() -> None:
    for severity, well in (("notice", True), ("warning", False), ("error", False)):
        trouble = msgspec.convert({"severity": severity, "text": "look"}, Trouble)
        assert problems.fleet_is_well(with_troubles(fleets.healthy(), trouble)) is well


def test_errors_come_before_warnings_and_notices() -> None:
    found = problems.of_fleet(
        with_troubles(
            fleets.failed_cluster(),
            Trouble(severity="notice", text="n"),
            Trouble(severity="warning", text="w"),
            Trouble(severity="error", text="e"),
        )
    )
    severities = [trouble.severity for trouble in found]
    assert severities == sorted(severities, key=["error", "warning", "notice"].index)
    assert len(severities) == 6


def test_lost_host_is_an_error_with_both_ways_out() -> None:
    (lost,) = problems.of_fleet(fleets.loaded())
    assert (lost.severity, lost.host) == ("error", "zeta")
    assert "its shards were given to other hosts" in lost.text
    assert lost.hint is not None
    assert "disclusterctl host remove zeta" in lost.hint


def test_each_host_state_that_needs_a_person_is_told() -> None:
    alpha, beta, gamma = fleets.three_hosts()
    status = fleets.fleet(
        msgspec.structs.replace(alpha, state="silent", seen=14.0),
        msgspec.structs.replace(beta, state="expected", seen=None),
        msgspec.structs.replace(gamma, state="unattended", seen=90.0),
    )
    silent, expected, unattended = problems.of_fleet(status)
    assert (silent.severity, silent.host) == ("error", "alpha")
    assert silent.text.startswith("silent for 14s")
    assert (expected.severity, expected.host) == ("warning", "beta")
    assert "token create --host beta" in (expected.hint or "")
    assert (unattended.severity, unattended.host) == ("notice", "gamma")
    assert "1min 30s ago" in unattended.text


def test_what_master_tells_is_not_told_again() -> None:
    told = Trouble(severity="error", text="beta is silent; its lease ends in 12s", host="beta")
    assert texts(with_troubles(fleets.silent_host(), told)) == [told.text]


def test_trouble_of_another_host_hides_nothing() -> None:
    told = Trouble(severity="error", text="alpha is silent", host="alpha")
    assert len(texts(with_troubles(fleets.silent_host(), told))) == 2


def test_notice_hides_nothing_that_is_worse() -> None:
    told = Trouble(severity="notice", text="beta was silent yesterday", host="beta")
    assert len(texts(with_troubles(fleets.silent_host(), told))) == 2


def test_cluster_that_master_tells_of_is_not_told_again() -> None:
    told = Trouble(severity="error", text="crash loop", host="beta", cluster=3)
    assert not any("cluster 3" in text for text in texts(fleets_with(told)))
    assert any("cluster 3" in text for text in texts(fleets_with()))


def fleets_with(*troubles: Trouble) -> FleetStatus:
    return with_troubles(fleets.failed_cluster(), *troubles)


def test_clusters_that_failed_alike_are_one_problem() -> None:
    views = [
        msgspec.structs.replace(
            fleets.cluster(n, ()), unit="failed", problem="unit failed: exit-code"
        )
        for n in (3, 4, 5, 9)
    ]
    [trouble] = problems.of_host(fleets.host("alpha", *views))
    assert trouble.text == "clusters 3-5, 9: unit failed: exit-code"
    assert trouble.hint == (
        "on alpha: journalctl -u discluster-cluster@3; once mended: disclusterctl restart 3 4 5 9"
    )


def test_failed_cluster_without_a_reason_is_told_too() -> None:
    view = msgspec.structs.replace(fleets.cluster(7, ()), unit="failed", detail="")
    [trouble] = problems.of_host(fleets.host("alpha", view))
    assert (trouble.severity, trouble.text) == ("error", "cluster 7 failed")


def test_fatal_shards_are_one_problem_with_their_close_code() -> None:
    shards = tuple(ShardView(shard=n, state="fatal", fatal=4014) for n in range(8))
    [trouble] = problems.of_host(fleets.host("alpha", fleets.cluster(0, shards)))
    assert trouble.severity == "error"
    assert trouble.text == "shards 0-7 stopped for good: close code 4014"


def test_fatal_shards_are_not_told_when_master_names_the_close_code() -> None:
    assert len(texts(fleets.token_rejected())) == 1


def test_shard_that_only_waits_is_no_problem() -> None:
    assert texts(fleets.starting()) == []


def test_shards_that_back_off_for_one_reason_are_one_warning() -> None:
    shards = tuple(ShardView(shard=n, state="backoff", problem="refused") for n in (4, 5, 6))
    [trouble] = problems.of_host(fleets.host("alpha", fleets.cluster(1, shards)))
    assert (trouble.severity, trouble.text) == ("warning", "shards 4-6: refused")


def test_fleet_without_hosts_is_told_how_to_enrol_one() -> None:
    [trouble] = problems.of_fleet(fleets.no_hosts())
    assert trouble.severity == "warning"
    assert "disclusterctl token create" in (trouble.hint or "")


def test_shards_that_are_held_back_are_told_once_with_what_master_says_of_them() -> None:
    reason = "shard 3 was rejected: Discord rejected the bot token (4004 Authentication failed)"
    held = [ShardView(shard=n, state="held", problem=f"on alpha, {reason}") for n in (4, 5, 6)]
    status = fleets.healthy()
    (first, *others) = status.hosts
    (cluster, *clusters) = first.clusters
    cluster = msgspec.structs.replace(cluster, shards=tuple(held))
    first = msgspec.structs.replace(first, clusters=(cluster, *clusters))
    status = msgspec.structs.replace(status, hosts=(first, *others))
    assert texts(status) == [f"shards 4-6: on alpha, {reason}"]
    told = Trouble(severity="error", text=f"on alpha, {reason}")
    assert texts(with_troubles(status, told)) == [told.text]
