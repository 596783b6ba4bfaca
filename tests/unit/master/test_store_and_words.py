# SPDX-License-Identifier: Apache-2.0
"""What MASTER keeps on disk, and what it says."""

import time
from pathlib import Path

import msgspec
import pytest

from discluster.console import FleetStatus, IdentifyStatus, Trouble
from discluster.errors import DocumentError, StateError
from discluster.master.hosts.lost import Losses
from discluster.master.identify.budget import Budget
from discluster.master.orders.changes import describe_changes, describe_reason
from discluster.master.ownership import advance
from discluster.master.planner import HostNeed, plan_fleet
from discluster.master.status import HostView, MasterView, fatal_block, fleet_status
from discluster.master.store import MasterStore, Remembered
from discluster.messages import ShardState
from discluster.plan import FleetPlan, Grant
from tests.unit.master.fleets import GATEWAY, fleet, report, session

PLAN = fleet(
    {"a": {0: [0, 1]}, "b": {1: [2, 3]}},
    granted={s: Grant(host="ab"[s // 2]) for s in range(4)},
    sessions={3: session("three", 9)},
)


def test_the_plan_in_force_is_there_after_a_restart(tmp_path: Path) -> None:
    store = MasterStore(tmp_path)
    assert store.load() is None
    store.save(PLAN)
    assert MasterStore(tmp_path).load() == PLAN


@pytest.mark.parametrize("text", ["", "generation: 1\n", "{", "generation: 1\ngeneration: 2\n"])
def test_a_damaged_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "fleet.yaml").write_text(text)
    with pytest.raises(DocumentError, match=r"fleet\.yaml"):
        MasterStore(tmp_path).load()


def test_small_facts_survive_and_damaged_ones_are_told(tmp_path: Path) -> None:
    store = MasterStore(tmp_path)
    assert store.remembered() == Remembered()
    facts = Remembered(budget=Budget(total=1000, remaining=3, resets_at=5.5), recommended=7)
    store.remember(facts)
    assert MasterStore(tmp_path).remembered() == facts
    (tmp_path / "identify.json").write_text('{"budget": 3}')
    with pytest.raises(StateError, match=r"identify\.json") as caught:
        store.remembered()
    assert "remove it" in str(caught.value.hint)


def test_the_largest_fleet_can_be_stored_and_read_back(tmp_path: Path) -> None:
    """All shards on the move at once, with sessions as long as they can be."""
    hosts = plan_fleet(65_536, {f"h{n}": HostNeed() for n in range(100)}, {}).hosts
    plan = FleetPlan(generation=1, shard_count=65_536, gateway_url=GATEWAY, hosts=hosts)
    plan = advance(plan, {}).fleet
    plan = msgspec.structs.replace(plan, sessions={s: session("x" * 32) for s in range(65_536)})
    store = MasterStore(tmp_path)
    began = time.process_time()
    store.save(plan)
    saved = time.process_time()
    assert store.load() == plan
    print(f"\n65,536 shards: save {saved - began:.2f} s, load {time.process_time() - saved:.2f} s")


# --- words ----------------------------------------------------------------------------------------


def view(
    hosts: dict[str, HostView],
    *,
    plan: FleetPlan | None = PLAN,
    waiting_for: str | None = None,
    recommended: int | None = 4,
    trouble: Trouble | None = None,
    identify: IdentifyStatus | None = None,
    losses: Losses | None = None,
) -> FleetStatus:
    return fleet_status(
        MasterView(
            fleet=plan,
            hosts=hosts,
            shards_per_cluster={"a": 2},
            weights={"a": 2.0},
            identify=identify or IdentifyStatus(),
            waiting_for=waiting_for,
            recommended=recommended,
            discord_trouble=trouble,
            losses=losses or Losses(),
            uptime=5.0,
        )
    )


def connected(*running: int, state: ShardState = "ready") -> HostView:
    return HostView(state="connected", seen=0.5, report=report(1, running, state=state))


def test_a_fleet_that_is_well_has_nothing_to_tell() -> None:
    status = view({"a": connected(0, 1), "b": connected(2, 3)})
    assert status.state == "all 4 shards ready"
    assert status.troubles == ()
    assert (status.shards_ready, status.shards_planned) == (4, 4)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("waiting", "2 waiting for their turn to identify"),
        ("identifying", "2 identifying"),
        ("resuming", "2 resuming"),
        ("backoff", "2 pausing before they try again"),
        ("fatal", "2 rejected by Discord"),
        ("dialing", "2 connecting"),
        ("hello", "2 connecting"),
        ("idle", "2 connecting"),
        ("closing", "2 closing"),
    ],
)
def test_what_shards_are_about_is_told_in_words(state: ShardState, words: str) -> None:
    status = view({"a": connected(0, 1), "b": connected(2, 3, state=state)})
    assert status.state == f"2 of 4 shards ready; {words}"


def test_shards_of_a_host_out_of_touch_are_neither_ready_nor_dead() -> None:
    silent = HostView(state="silent", seen=50.0, report=report(1, [2, 3]))
    status = view({"a": connected(0, 1), "b": silent}, losses=Losses(due={"b": 12.0}))
    assert status.state == "2 of 4 shards ready; 2 on hosts out of touch"
    (trouble,) = status.troubles
    assert trouble.severity == "error"
    assert trouble.text == "b has been silent for 50 s; its shards are given away in 12 s"
    assert trouble.hint


def test_shards_that_nobody_reports_are_told() -> None:
    assert (
        view({"a": connected(0, 1), "b": connected()}).state == "2 of 4 shards ready; 2 not running"
    )


def test_a_host_that_never_came_is_told_when_master_waits_no_more() -> None:
    hosts = {"a": connected(0, 1), "b": HostView(state="expected")}
    early = view(hosts, waiting_for="waiting for b").troubles
    late = view(hosts).troubles
    assert [(t.severity, t.host) for t in (*early, *late)] == [("warning", "b"), ("error", "b")]


def test_another_recommended_count_is_a_notice() -> None:
    (trouble,) = view({"a": connected(0, 1), "b": connected(2, 3)}, recommended=8).troubles
    assert (trouble.severity, trouble.text) == (
        "notice",
        "Discord recommends 8 shards, the fleet runs 4",
    )


def test_troubles_of_discord_and_of_the_budget_are_told() -> None:
    hosts = {"a": connected(0, 1), "b": connected(2, 3)}
    rejected = Trouble(severity="error", text="rejected")
    assert view(hosts, trouble=rejected).troubles == (rejected,)
    low = IdentifyStatus(waiting=2, blocked="the budget is low")
    assert view(hosts, identify=low).troubles[0].text == "the budget is low"


def test_ages_are_counted_on_from_the_report() -> None:
    old = msgspec.structs.replace(connected(0), report_age=7.0)
    (shard,) = view({"a": old}).hosts[0].clusters[0].shards
    assert shard.since == 7.0


def test_a_fatal_close_is_told_with_its_place() -> None:
    assert fatal_block({"a": report(1, [0])}) is None
    block = fatal_block({"a": report(1, [0]), "b": report(1, [3], state="fatal", fatal=4014)})
    assert block == "on b, shard 3 was rejected: Discord closed it with 4014 for good"
    restarted = msgspec.structs.replace(report(1, [3]), rejected="shard 3 was rejected: badly")
    assert fatal_block({"b": restarted}) == "on b, shard 3 was rejected: badly"


@pytest.mark.parametrize(
    ("needs", "summary", "reason"),
    [
        ({"a": HostNeed(shards_per_cluster=2), "b": HostNeed(shards_per_cluster=2)}, "", ""),
        (
            {"a": HostNeed(weight=0), "b": HostNeed()},
            "2 from a to b",
            "a gets no shards any more",
        ),
        ({"b": HostNeed()}, "2 from a to b", "a gets no shards any more"),
        (
            {"a": HostNeed(weight=3), "b": HostNeed()},
            "1 from b to a",
            "a's share by weight grew",
        ),
        (
            {h: HostNeed() for h in ("a", "b", "c", "d")},
            "1 from a to c, 1 from b to d",
            "c joined and takes its share",
        ),
        (
            {h: HostNeed(shards_per_cluster=1) for h in "ab"},
            "2 to another cluster of the same host",
            "clusters of a take 1 shards",
        ),
    ],
)
def test_changes_are_told_with_their_reasons(
    needs: dict[str, HostNeed], summary: str, reason: str
) -> None:
    diff = describe_changes(PLAN, plan_fleet(4, needs, PLAN.hosts).hosts)
    if not summary:
        assert diff.summary == "nothing would change"
        assert diff.changes == ()
    else:
        assert diff.summary.endswith(f" would move: {summary}")
        assert diff.changes[0].reason == reason


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (fleet({"a": {0: [0, 1]}, "b": {1: [2, 3]}, "c": {}}), "c joined"),
        (fleet({"a": {0: [0, 1, 2, 3]}}), "b left"),
        (fleet({"a": {0: [0]}, "b": {1: [1, 2, 3]}}), "weights, limits or cluster sizes changed"),
        (msgspec.structs.replace(PLAN, max_concurrency=16), "max_concurrency is 16 now"),
        (msgspec.structs.replace(PLAN, gateway_url="wss://x"), "the gateway is wss://x now"),
    ],
)
def test_a_plan_says_why_it_was_made(after: FleetPlan, reason: str) -> None:
    assert describe_reason(PLAN, after) == reason
    assert describe_reason(None, PLAN) == "first plan, for a, b"


def test_a_move_that_waits_for_its_old_host_is_told() -> None:
    moving = msgspec.structs.replace(PLAN, granted=PLAN.granted | {3: Grant(host="a", withdrawn=2)})
    (pending,) = describe_changes(moving, PLAN.hosts).pending
    assert pending == "1 shard on its way from a to b: a has not released it yet"
