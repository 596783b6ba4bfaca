# SPDX-License-Identifier: Apache-2.0
"""Ownership, case by case."""

import time

import msgspec
import pytest

from discluster.master.ownership import advance, unheard
from discluster.master.planner import HostNeed, plan_fleet
from discluster.messages import HostReport
from discluster.plan import FleetPlan, Grant, Session
from tests.unit.master.fleets import GATEWAY, fleet, part_of, planned, report, session

MOVE = fleet({"a": {0: [0]}, "b": {1: [1]}}, generation=5, granted={0: Grant(host="a")})
WITHDRAWN = fleet(
    {"a": {0: [0]}, "b": {1: [1]}},
    generation=6,
    granted={0: Grant(host="a"), 1: Grant(host="a", withdrawn=6)},
)


def test_a_new_shard_is_granted_to_its_target_at_once() -> None:
    step = advance(fleet({"a": {0: [0, 1]}}), {"a": report(0)})
    assert step.granted == (0, 1)
    assert step.fleet.generation == 2
    assert planned(step.fleet, "a") == {0, 1}


def test_a_shard_that_moves_is_withdrawn_before_anybody_else_gets_it() -> None:
    before = msgspec.structs.replace(MOVE, granted={0: Grant(host="a"), 1: Grant(host="a")})
    step = advance(before, {"a": report(5, [0, 1])})
    assert step.withdrawn == (1,)
    assert step.fleet.granted[1] == Grant(host="a", withdrawn=6)
    assert planned(step.fleet, "a") == {0}
    assert planned(step.fleet, "b") == set()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "a host that was not heard says nothing"),
        (report(6, [0, 1]), "it still runs there"),
        (report(6, [0], holding=[0, 1]), "a cluster that does not answer may still run it"),
        (report(5, [0]), "under the older plan it may just be about to start it"),
        (report(0), "a host without a plan has not seen the withdrawal"),
    ],
)
def test_a_withdrawn_shard_waits(answer: HostReport | None, why: str) -> None:
    step = advance(WITHDRAWN, {"a": answer} if answer else {})
    assert step.fleet.granted[1] == Grant(host="a", withdrawn=6), why


def test_a_released_shard_goes_on_with_its_session() -> None:
    step = advance(WITHDRAWN, {"a": report(6, [0], released={1: session("of-1", 70)})})
    assert planned(step.fleet, "b") == {1}
    assert part_of(step.fleet, "b").handover == {1: session("of-1", 70)}
    assert part_of(step.fleet, "a").handover == {}


def test_a_session_stays_in_the_plan_until_a_cluster_reports_the_shard() -> None:
    handed = fleet(
        {"b": {1: [0]}},
        generation=7,
        granted={0: Grant(host="b")},
        sessions={0: session()},
    )
    assigned = advance(handed, {"b": report(7, holding=[0])})
    assert not assigned.changed, "assigned, but no cluster took the session yet"
    running = advance(handed, {"b": report(7, [0], state="resuming")})
    assert running.fleet.sessions == {}


def test_a_shard_that_moves_on_before_any_cluster_took_it_keeps_its_session() -> None:
    """What the host in between released is of an earlier stay, or nothing."""
    between = fleet(
        {"c": {2: [0]}},
        generation=9,
        granted={0: Grant(host="b", withdrawn=9)},
        sessions={0: session("now", 50)},
    )
    for stale in ({}, {0: session("now", 10)}, {0: session("long ago", 900)}):
        step = advance(between, {"b": report(9, released=stale)})
        assert part_of(step.fleet, "c").handover == {0: session("now", 50)}
    step = advance(between, {"b": report(9, released={0: session("now", 60)})})
    assert part_of(step.fleet, "c").handover == {0: session("now", 60)}


def test_a_shard_that_comes_back_before_it_was_released_stays() -> None:
    back = fleet({"a": {0: [0, 1]}}, generation=7, granted=WITHDRAWN.granted)
    step = advance(back, {"a": report(6, [0])})
    assert step.fleet.granted == {0: Grant(host="a"), 1: Grant(host="a")}


def test_a_shard_that_runs_somewhere_although_nobody_was_given_it_moves_in_order() -> None:
    """MASTER lost its files: it adopts what runs, and withdraws it before it gives it away."""
    step = advance(fleet({"a": {0: [0]}, "b": {1: [1]}}), {"a": report(0), "b": report(0, [0])})
    assert step.fleet.granted[0] == Grant(host="b", withdrawn=2)
    assert planned(step.fleet, "a") == set()


def test_while_a_host_follows_a_plan_that_master_does_not_know_nothing_new_is_granted() -> None:
    lost = fleet({"a": {0: [0]}, "b": {1: [1]}}, generation=1)
    starting = {"a": report(40), "b": report(40, [1])}
    first = advance(lost, starting)
    assert first.fleet.generation == 41, "a host refuses a plan older than its own"
    assert first.fleet.granted == {1: Grant(host="b")}, "a may be about to start shard 0"
    assert advance(first.fleet, starting).fleet.granted == {1: Grant(host="b")}
    half = {"a": report(41), "b": report(40, [1])}
    assert advance(first.fleet, half).fleet.granted == {1: Grant(host="b")}, "or b may"
    heard = advance(first.fleet, {"a": report(41), "b": report(41, [1])})
    assert heard.fleet.granted == {0: Grant(host="a", since=42), 1: Grant(host="b")}


def test_owners_in_a_backup_are_of_the_past() -> None:
    """MASTER came back with files of generation 6, by which shard 1 is a's; b has it by now."""
    step = advance(WITHDRAWN, {"a": report(20, [0]), "b": report(20, [1])})
    assert step.fleet.generation == 21
    assert step.fleet.granted == {0: Grant(host="a"), 1: Grant(host="b")}
    assert planned(step.fleet, "b") == {1}


def test_shard_of_which_nobody_tells_waits_for_every_host_that_may_have_it() -> None:
    first = advance(WITHDRAWN, {"a": report(20, [0])})
    assert first.fleet.granted == {0: Grant(host="a")}
    assert unheard(first.fleet, {"a": report(20, [0])}) == ["a", "b"]
    alone = advance(first.fleet, {"a": report(21, [0])})
    assert alone.fleet.granted == {0: Grant(host="a")}, "b was not heard"
    back = advance(first.fleet, {"a": report(21, [0]), "b": report(20, [1])})
    assert back.fleet.granted == {0: Grant(host="a"), 1: Grant(host="b")}


def test_released_shard_that_a_backup_forgot_gets_its_newest_session() -> None:
    first = advance(WITHDRAWN, {"a": report(20, [0]), "b": report(20)})
    older = msgspec.structs.replace(
        report(21, [0], released={1: session("older", 90)}), entered={1: 7}
    )
    newer = msgspec.structs.replace(report(21, released={1: session("newer", 3)}), entered={1: 9})
    step = advance(first.fleet, {"a": older, "b": newer})
    assert step.fleet.granted[1] == Grant(host="b", since=22)
    assert part_of(step.fleet, "b").handover == {1: session("newer", 3)}


def test_nothing_to_do_is_no_new_generation() -> None:
    still = fleet({"a": {0: [0]}}, generation=3, granted={0: Grant(host="a")})
    assert advance(still, {"a": report(3, [0])}) == advance(still, {})
    assert not advance(still, {}).changed


@pytest.mark.parametrize(
    "bad",
    [
        Session(session_id="", resume_url="wss://x", seq=1),
        Session(session_id="has space", resume_url="wss://x", seq=1),
        Session(session_id="x" * 65, resume_url="wss://x", seq=1),
        Session(session_id="x", resume_url="ftp://x", seq=1),
        Session(session_id="x", resume_url="wss://x", seq=-1),
        Session(session_id="x", resume_url="wss://x", seq=2**70),
    ],
)
def test_a_session_that_no_plan_can_hold_is_dropped(bad: Session) -> None:
    """It would make MASTER's own file unreadable."""
    step = advance(WITHDRAWN, {"a": report(6, [0], released={1: bad})})
    assert step.fleet.granted[1] == Grant(host="b", since=7)
    assert step.fleet.sessions == {}


def test_a_host_that_leaves_the_plan_gets_one_without_clusters() -> None:
    gone = fleet({"b": {1: [0]}}, generation=2, granted={0: Grant(host="a")})
    step = advance(gone, {"a": report(1, [0])})
    assert part_of(step.fleet, "a").clusters == {}


def test_slots_are_shared_out_with_the_plan() -> None:
    plan = fleet({"a": {0: [0]}, "b": {1: [1]}}, max_concurrency=16)
    plan = msgspec.structs.replace(plan, slots={})
    step = advance(plan, {"a": report(0), "b": report(0)})
    slots = [part_of(step.fleet, host).identify for host in ("a", "b")]
    assert [(s.slot, s.slots, s.max_concurrency) for s in slots] == [(0, 2, 16), (1, 2, 16)]
    reports = {"a": report(2, [0]), "b": report(2, [1])}
    assert not advance(step.fleet, reports).changed


def test_a_pass_over_the_largest_fleet_is_fast_enough() -> None:
    needs = {f"h{n}": HostNeed() for n in range(100)}
    hosts = plan_fleet(65_536, needs, {})
    plan = FleetPlan(generation=1, shard_count=65_536, gateway_url=GATEWAY, hosts=hosts)
    plan = advance(plan, {host: report(0) for host in needs}).fleet
    shards = {h: [s for c in e.clusters.values() for s in c.shards] for h, e in hosts.items()}
    reports = {host: report(2, shards[host]) for host in needs}
    began = time.process_time()
    step = advance(plan, reports)
    print(f"\na pass over 65,536 shards on 100 hosts: {time.process_time() - began:.3f} s")
    assert not step.changed
    assert time.process_time() - began < 5
