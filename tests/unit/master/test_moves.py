# SPDX-License-Identifier: Apache-2.0
"""How far the moves of an order are, and in what words."""

from collections.abc import Mapping

import msgspec
import pytest

from discluster.master.orders.moves import Sight, progress
from discluster.master.orders.orders import Task
from discluster.messages import ClusterView, HostReport, ShardState, ShardView
from discluster.orders import MovesStatus, Route
from discluster.plan import FleetPlan, Grant
from tests.unit.master.fleets import fleet

# Shards 2 and 3 shall go from b to a.
PLAN = fleet({"a": {0: [0, 1], 2: [2, 3]}, "b": {}}, generation=5, shard_count=4)
DRAIN = Task(order="drain b", began=100.0, moves={2: "b", 3: "b"}, drained="b")


def granted(*hosts: str, withdrawn: int | None = None) -> FleetPlan:
    """To whom shards 2 and 3 are granted; ``withdrawn`` from b."""
    grants = {
        shard: Grant(host=host, withdrawn=withdrawn if host == "b" else None)
        for shard, host in enumerate(hosts, start=2)
    }
    return msgspec.structs.replace(PLAN, granted=grants)


def running(states: Mapping[int, ShardState], cluster: int = 2) -> dict[str, HostReport]:
    """What a reports of shards in ``cluster``."""
    views = tuple(ShardView(shard=s, state=state) for s, state in states.items())
    clusters = (ClusterView(cluster=cluster, unit="active", connected=True, shards=views),)
    return {"a": HostReport(plan_generation=5, clusters=clusters)}


def seen(
    plan: FleetPlan,
    reports: Mapping[str, HostReport] | None = None,
    *,
    connected: str = "ab",
    now: float = 110.0,
    blocked: str | None = None,
    task: Task = DRAIN,
) -> MovesStatus:
    sight = Sight(
        fleet=plan, reports=reports or {}, connected=set(connected), now=now, blocked=blocked
    )
    return progress(task, 7, sight)


def only_route(status: MovesStatus) -> Route:
    (route,) = status.routes
    return route


def test_a_shard_has_moved_when_its_new_cluster_says_that_it_is_ready() -> None:
    status = seen(granted("a", "b", withdrawn=5), running({2: "ready"}))
    assert (status.serial, status.order, status.age) == (7, "drain b", 10.0)
    assert (status.state, status.moved, status.total) == ("running", 1, 2)
    assert only_route(status) == Route(
        source="b", target="a", total=2, moved=1, waits="b releases them"
    )
    assert status.problem is None


def test_all_moved_is_done() -> None:
    status = seen(granted("a", "a"), running({2: "ready", 3: "ready"}))
    assert (status.state, status.moved) == ("done", 2)
    assert only_route(status).waits is None


def test_ready_in_another_cluster_of_the_host_is_not_there_yet() -> None:
    """As while a host is regrouped."""
    status = seen(granted("a", "a"), running({2: "ready", 3: "ready"}, cluster=0))
    assert (status.state, status.moved) == ("running", 0)


@pytest.mark.parametrize(
    ("plan", "state", "words"),
    [
        (granted("b", "b"), None, "their turn comes: only so many move at a time"),
        (granted("b", "b", withdrawn=5), None, "b releases them"),
        (granted("a", "a"), None, "a opens them"),
        (granted("a", "a"), "resuming", "a opens them"),
        (granted("a", "a"), "waiting", "they wait for a permit to identify"),
        (granted("a", "a"), "held", "nobody may dial Discord now"),
        (granted("a", "a"), "backoff", "they do not reach Discord"),
        (granted("a", "a"), "fatal", "Discord rejects them"),
    ],
)
def test_what_shards_wait_for_is_told(
    plan: FleetPlan, state: ShardState | None, words: str
) -> None:
    reports = running({2: state, 3: state}) if state is not None else None
    status = seen(plan, reports)
    assert only_route(status).waits == words
    assert (status.state, status.problem) == ("running", None), "it may pass by itself"


def test_a_silent_source_is_told_as_what_keeps_it_from_its_end() -> None:
    status = seen(granted("b", "b", withdrawn=5), connected="a")
    assert status.problem == "2 shards: b is out of touch and has not released them"
    assert status.hint is not None
    assert status.state == "running", "MASTER gives them away when their lease is over"


def test_what_passes_by_itself_is_no_problem_though_the_old_host_is_gone() -> None:
    """The shards of a lost host were given away, and are being opened."""
    status = seen(granted("a", "a"), running({2: "resuming"}), connected="a")
    assert only_route(status).waits == "a opens them"
    assert status.problem is None


def test_shards_of_several_hosts_with_the_same_trouble_are_told_in_one() -> None:
    plan = fleet({"a": {0: [0]}, "c": {2: [2, 3]}, "b": {}}, generation=5, shard_count=4)
    plan = msgspec.structs.replace(plan, granted={2: Grant(host="c"), 3: Grant(host="c")})
    task = msgspec.structs.replace(DRAIN, moves={2: "a", 3: "b"}, drained=None)
    status = seen(plan, connected="ab", task=task)
    assert len(status.routes) == 2
    assert status.problem == "2 shards: c is out of touch"


def test_a_silent_target_is_told() -> None:
    status = seen(granted("a", "a"), connected="b")
    assert status.problem == "2 shards: a is out of touch"


def test_what_a_host_said_before_it_fell_silent_does_not_count() -> None:
    """As when its machine is off, and nobody has planned without it yet."""
    status = seen(granted("a", "a"), running({2: "ready", 3: "ready"}), connected="b")
    assert (status.state, status.moved) == ("running", 0)


def test_shards_that_nobody_takes_are_told_with_a_way_out() -> None:
    stays = fleet({"a": {0: [0, 1]}, "b": {1: [2, 3]}}, generation=5)
    status = seen(stays)
    assert only_route(status) == Route(
        source="b", target=None, total=2, moved=0, waits="no other host can take them"
    )
    assert status.problem == "2 shards: no other host can take them"
    assert status.hint == "add a host, or raise max_shards of another in master.yaml"


def test_a_rejected_token_is_the_problem_of_all() -> None:
    status = seen(granted("a", "a"), blocked="Discord rejected the token")
    assert status.problem == "no shard may dial: Discord rejected the token"


def test_a_spent_budget_is_told_of_shards_that_must_identify() -> None:
    sight = Sight(
        fleet=granted("a", "a"),
        reports=running({2: "waiting", 3: "resuming"}),
        connected={"a", "b"},
        now=110.0,
        refused="waiting for identify budget",
    )
    status = progress(DRAIN, 7, sight)
    assert status.problem == (
        "1 shard: they must identify, and nobody may: waiting for identify budget"
    )


def test_what_has_not_moved_at_the_deadline_has_failed() -> None:
    task = msgspec.structs.replace(DRAIN, deadline=160.0)
    plan = granted("a", "b", withdrawn=5)
    reports = running({2: "ready"})
    early = seen(plan, reports, task=task, now=159.0)
    assert (early.state, early.deadline) == ("running", 1.0)
    late = seen(plan, reports, task=task, now=160.0)
    assert late.state == "failed"
    assert late.problem == "not all had moved at the deadline (1 shard: b releases them)"
    assert late.hint == "b stays drained; to end that: disclusterctl undrain b"


def test_all_moved_at_the_deadline_is_done() -> None:
    task = msgspec.structs.replace(DRAIN, deadline=105.0)
    status = seen(granted("a", "a"), running({2: "ready", 3: "ready"}), task=task)
    assert status.state == "done"


def test_how_it_ended_stays_whatever_happens_to_the_shards_later() -> None:
    done = seen(granted("a", "a"), running({2: "ready", 3: "ready"}))
    ended = msgspec.structs.replace(DRAIN, moves={}, ended=done)
    assert seen(granted("b", "b"), task=ended, now=500.0) == done


def test_a_target_that_changed_on_the_way_is_followed() -> None:
    plan = fleet({"a": {0: [0, 1]}, "b": {}, "c": {4: [2, 3]}}, generation=8, shard_count=4)
    grants = {2: Grant(host="c"), 3: Grant(host="c")}
    status = seen(msgspec.structs.replace(plan, granted=grants), connected="abc")
    assert only_route(status).target == "c"


def test_a_shard_that_does_not_exist_any_more_is_not_waited_for() -> None:
    plan = fleet({"a": {0: [0, 1]}, "b": {}}, generation=8)
    assert seen(plan).state == "done"
