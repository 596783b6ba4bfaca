# SPDX-License-Identifier: Apache-2.0
"""Ownership, case by case."""

import time

import msgspec
import pytest

from discluster.master.ownership import advance, retarget, unheard
from discluster.master.planner import HostNeed, plan_fleet
from discluster.master.records.checkpoints import Checkpointed
from discluster.master.steps import describe_step
from discluster.messages import ClusterView, HostReport
from discluster.plan import ClusterPlan, FleetPlan, Grant, HostEntry, Session
from discluster.stays import Stay
from tests.unit.master.fleets import GATEWAY, fleet, part_of, planned, report, session

MOVE = fleet({"a": {0: [0]}, "b": {1: [1]}}, generation=5, granted={0: Grant(host="a")})
WITHDRAWN = fleet(
    {"a": {0: [0]}, "b": {1: [1]}},
    generation=6,
    granted={0: Grant(host="a"), 1: Grant(host="a", withdrawn=6)},
)


def test_a_new_shard_is_granted_to_its_target_at_once() -> None:
    step = advance(fleet({"a": {0: [0, 1]}}), {"a": report(0)})
    assert list(step.granted) == [0, 1]
    assert step.fleet.generation == 2
    assert planned(step.fleet, "a") == {0, 1}


def test_a_shard_that_moves_is_withdrawn_before_anybody_else_gets_it() -> None:
    before = msgspec.structs.replace(MOVE, granted={0: Grant(host="a"), 1: Grant(host="a")})
    step = advance(before, {"a": report(5, [0, 1])})
    assert list(step.withdrawn) == [1]
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


def test_a_session_stays_in_the_plan_until_a_cluster_runs_the_shard_and_told_of_it() -> None:
    handed = fleet(
        {"b": {1: [0]}},
        generation=7,
        granted={0: Grant(host="b", since=7)},
        sessions={0: session()},
    )
    told = {0: Checkpointed(host="b", stay=Stay(entered=7, session=session("s", 3)))}
    assigned = advance(handed, {"b": report(7, holding=[0])}, told)
    assert not assigned.changed, "assigned, but no cluster took the session yet"
    resuming = {"b": report(7, [0], state="resuming")}
    assert not advance(handed, resuming).changed, "its host may be lost before it tells"
    for other in (
        Checkpointed(host="a", stay=told[0].stay),
        Checkpointed(host="b", stay=Stay(entered=6, session=session("s", 3))),
    ):
        assert not advance(handed, resuming, {0: other}).changed, "of another stay"
    assert advance(handed, resuming, told).fleet.sessions == {}


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
    hosts = plan_fleet(65_536, needs, {}).hosts
    plan = FleetPlan(generation=1, shard_count=65_536, gateway_url=GATEWAY, hosts=hosts)
    plan = advance(plan, {host: report(0) for host in needs}).fleet
    shards = {h: [s for c in e.clusters.values() for s in c.shards] for h, e in hosts.items()}
    reports = {host: report(2, shards[host]) for host in needs}
    began = time.process_time()
    step = advance(plan, reports)
    print(f"\na pass over 65,536 shards on 100 hosts: {time.process_time() - began:.3f} s")
    assert not step.changed
    assert time.process_time() - began < 5


# --- hosts that are lost --------------------------------------------------------------------------

LOST = fleet(
    {"a": {0: [0]}, "b": {1: [1]}},
    generation=6,
    granted={0: Grant(host="a"), 1: Grant(host="c", since=3)},
)


def test_lost_host_loses_its_shards_in_two_steps() -> None:
    """Its witnesses must know first, so that it does not take itself for the owner again."""
    reports = {"a": report(6, [0]), "b": report(6), "c": report(6, [1])}
    taken = advance(LOST, reports, connected={"a", "b"}, lost={"c": 6})
    assert taken.fleet.granted[1] == Grant(host="c", since=3, withdrawn=7)
    waits = advance(taken.fleet, reports, connected={"a", "b"}, lost={"c": 6})
    assert not waits.changed
    given = advance(taken.fleet, reports, connected={"a", "b"}, lost={"c": 7})
    assert given.fleet.granted[1] == Grant(host="b", since=8)
    assert describe_step(given, lost={"c": 7}) == ["gives b 1 shards that c lost"]


@pytest.mark.parametrize(
    ("checkpoint", "came_with", "goes_on"),
    [
        (Stay(entered=4, session=session("of-c", 70)), None, session("of-c", 70)),
        (Stay(entered=2, session=session("before", 70)), None, None),
        (Stay(entered=2, session=session("before", 70)), session("given", 5), session("given", 5)),
        (None, session("given", 5), session("given", 5)),
        (Stay(entered=4), session("given", 5), None),
    ],
)
def test_shard_of_a_lost_host_goes_on_with_what_is_known_of_its_last_stay(
    checkpoint: Stay | None, came_with: Session | None, goes_on: Session | None
) -> None:
    withdrawn = msgspec.structs.replace(
        LOST,
        granted={0: Grant(host="a"), 1: Grant(host="c", since=3, withdrawn=6)},
        sessions={1: came_with} if came_with else {},
    )
    told = {1: Checkpointed(host="c", stay=checkpoint)} if checkpoint else {}
    reports = {"a": report(6, [0]), "c": report(5, [1], released={})}
    step = advance(withdrawn, reports, told, connected={"a"}, lost={"c": 6})
    assert step.fleet.sessions.get(1) == goes_on


def test_what_a_lost_host_released_long_ago_is_older_than_its_checkpoint() -> None:
    withdrawn = msgspec.structs.replace(
        LOST, granted={0: Grant(host="a"), 1: Grant(host="c", since=3, withdrawn=6)}
    )
    last = msgspec.structs.replace(report(5, released={1: session("s", 10)}), entered={1: 3})
    told = {1: Checkpointed(host="c", stay=Stay(entered=5, session=session("s", 30)))}
    step = advance(withdrawn, {"c": last}, told, connected=(), lost={"c": 6})
    assert step.fleet.sessions == {1: session("s", 30)}


def test_lost_host_that_returns_with_old_reports_takes_nothing_back() -> None:
    passed = msgspec.structs.replace(
        LOST, generation=9, granted={0: Grant(host="a"), 1: Grant(host="b", since=8)}
    )
    reports = {"a": report(9, [0]), "b": report(9, [1]), "c": report(5, [1])}
    step = advance(passed, reports)
    assert step.fleet.granted[1] == Grant(host="b", since=8)
    assert planned(step.fleet, "c") == set()


def test_master_from_a_backup_believes_the_host_with_the_newer_plan() -> None:
    """c was lost and still reports shard 1; b got it under generation 20."""
    reports = {"c": report(12, holding=[1]), "b": report(20, [1]), "a": report(20, [0])}
    for order in (["a", "b", "c"], ["c", "b", "a"]):
        step = advance(LOST, {name: reports[name] for name in order})
        assert step.fleet.granted[1] == Grant(host="b")


# --- moves that wait for their turn ---------------------------------------------------------------


def _move_of_four() -> FleetPlan:
    before = fleet(
        {"a": {0: [0, 1], 1: [2, 3]}},
        generation=5,
        granted={shard: Grant(host="a") for shard in range(4)},
    )
    target = {"b": HostEntry(clusters={2: ClusterPlan(shards=(0, 1, 2, 3))})}
    return msgspec.structs.replace(before, hosts=target, granted=retarget(before, target))


def test_shards_that_wait_for_their_turn_stay_in_their_clusters() -> None:
    reports = {"a": report(5, [0, 1, 2, 3]), "b": report(5)}
    step = advance(_move_of_four(), reports, moves_at_once=1)
    assert step.withdrawn == {0: "a"}
    clusters = part_of(step.fleet, "a").clusters
    assert {n: c.shards for n, c in clusters.items()} == {0: (1,), 1: (2, 3)}
    again = advance(step.fleet, reports, moves_at_once=1)
    assert not again.changed, "one is under way"
    more = advance(step.fleet, reports, moves_at_once=2)
    assert more.withdrawn == {1: "a"}


def test_move_is_under_way_until_a_cluster_of_the_new_host_reports_the_shard() -> None:
    step = advance(_move_of_four(), {"a": report(5, [0, 1, 2, 3]), "b": report(5)}, moves_at_once=1)
    gone = report(6, [1, 2, 3], released={0: session("zero")})
    step = advance(step.fleet, {"a": gone, "b": report(6)}, moves_at_once=1)
    assert (list(step.granted), step.withdrawn) == ([0], {})
    waits = advance(step.fleet, {"a": gone, "b": report(7, holding=[0])}, moves_at_once=1)
    assert not waits.changed, "b has it in its plan, and no cluster runs it"
    goes_on = advance(step.fleet, {"a": gone, "b": report(7, [0])}, moves_at_once=1)
    assert goes_on.withdrawn == {1: "a"}


@pytest.mark.parametrize("why", ["leaving", "lost", "does not run"])
def test_shards_that_must_go_do_not_wait_for_their_turn(why: str) -> None:
    own = report(5, [] if why == "does not run" else [0, 1, 2, 3], holding=[0, 1, 2, 3])
    own = msgspec.structs.replace(own, leaving=why == "leaving")
    lost = {"a": 0} if why == "lost" else {}
    step = advance(_move_of_four(), {"a": own, "b": report(5)}, lost=lost, moves_at_once=1)
    assert list(step.withdrawn) == [0, 1, 2, 3]


def test_shard_that_shall_stay_after_all_is_left_where_it_is() -> None:
    moving = advance(
        _move_of_four(), {"a": report(5, [0, 1, 2, 3]), "b": report(5)}, moves_at_once=1
    ).fleet
    back = {"a": HostEntry(clusters={7: ClusterPlan(shards=(0, 1, 2, 3))})}
    turned = msgspec.structs.replace(moving, hosts=back, granted=retarget(moving, back))
    step = advance(turned, {"a": report(5, [0, 1, 2, 3])}, moves_at_once=1)
    assert step.fleet.granted == {shard: Grant(host="a") for shard in range(4)}
    assert planned(step.fleet, "a") == {0, 1, 2, 3}


def test_host_that_is_silent_keeps_its_shards_in_its_plan_until_it_hears_of_the_move() -> None:
    reports = {"a": report(5, [0, 1, 2, 3]), "b": report(5)}
    step = advance(_move_of_four(), reports, connected={"b"}, moves_at_once=1)
    assert step.withdrawn == {}
    assert planned(step.fleet, "a") == {0, 1, 2, 3}


def test_cluster_that_takes_in_while_it_gives_away_never_grows_too_large() -> None:
    """What would be too much leaves at once, whatever the limit says."""
    shards = tuple(range(256))
    before = fleet({"a": {0: shards}}, granted={s: Grant(host="a") for s in shards})
    before = msgspec.structs.replace(before, shard_count=512)
    target = {
        "a": HostEntry(clusters={0: ClusterPlan(shards=tuple(range(100, 356)))}),
        "b": HostEntry(clusters={1: ClusterPlan(shards=tuple(range(100)))}),
    }
    moved = msgspec.structs.replace(before, hosts=target, granted=retarget(before, target))
    step = advance(moved, {"a": report(1, shards), "b": report(1)}, moves_at_once=1)
    assert len(planned(step.fleet, "a")) == 256
    assert len(step.withdrawn) == 100


def test_cluster_that_failed_with_what_came_to_it_does_not_hold_up_other_moves() -> None:
    step = advance(_move_of_four(), {"a": report(5, [0, 1, 2, 3]), "b": report(5)}, moves_at_once=1)
    gone = report(6, [1, 2, 3], released={0: session("zero")})
    step = advance(step.fleet, {"a": gone, "b": report(6)}, moves_at_once=1)
    failed = msgspec.structs.replace(
        report(7, holding=[0]), clusters=(ClusterView(cluster=2, unit="failed"),)
    )
    goes_on = advance(step.fleet, {"a": gone, "b": failed}, moves_at_once=1)
    assert goes_on.withdrawn == {1: "a"}


def test_shard_returns_to_a_host_that_was_lost_only_when_that_has_let_go_of_it() -> None:
    """It would take the shard for one that never left, and go on with the session it had."""
    back = fleet({"a": {0: [0]}}, generation=9, granted={0: Grant(host="b", since=7, withdrawn=9)})
    released = report(9, released={0: session("newer", 5)})
    waits = advance(back, {"a": report(4, holding=[0]), "b": released})
    assert not waits.changed
    step = advance(back, {"a": report(9), "b": released})
    assert step.fleet.granted[0] == Grant(host="a", since=10)
    assert part_of(step.fleet, "a").handover == {0: session("newer", 5)}
