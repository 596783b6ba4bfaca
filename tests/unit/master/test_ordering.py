# SPDX-License-Identifier: Apache-2.0
"""The operator's orders, from the order to the last shard that moved."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from discluster.console import EventQuery, RollingRequest
from discluster.errors import DisclusterError
from discluster.master.orders.intents import NO_SUCH_HOST, REFUSED
from discluster.master.orders.orders import Task, begun, drained
from discluster.master.settings import HostSettings, MasterSettings
from discluster.master.store import MasterStore
from discluster.messages import Goodbye
from discluster.orders import (
    ClusterSize,
    Drain,
    MovesStatus,
    Order,
    Ordered,
    Rebalance,
    RemoveHost,
    Rollback,
    Undrain,
)
from discluster.plan import FleetPlan
from tests.clock import ManualClock
from tests.unit.master.fakes import Discord, Running, answer, settings
from tests.unit.master.following import Host, settle

HOSTS = ("a", "b", "c")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Fleet:
    """Three hosts with two shards each, that do what they are told."""

    def __init__(self, run: Running) -> None:
        self.run = run
        self.hosts: dict[str, Host] = {}

    def join(self, *names: str) -> None:
        for name in names:
            self.hosts[name] = Host(self.run, name)

    async def settle(self) -> None:
        present = self.run.master.status().hosts
        here = {host.host for host in present if host.state == "connected"}
        await settle(self.run, *(host for name, host in self.hosts.items() if name in here))

    def order(self, order: Order) -> Ordered:
        return self.run.master.orders.take(order)

    @property
    def shards(self) -> dict[str, list[int]]:
        """What each host runs."""
        return {name: host.shards for name, host in self.hosts.items()}

    @property
    def moves(self) -> MovesStatus:
        moves = self.run.master.orders.moves()
        assert moves is not None
        return moves

    @property
    def plan(self) -> FleetPlan:
        assert self.run.master.fleet is not None
        return self.run.master.fleet

    @property
    def orders_told(self) -> list[str]:
        """What the status says of orders."""
        return [text for text in self.run.troubles if "shards moved" in text]

    @property
    def told(self) -> list[str]:
        """The events."""
        return [event.sentence for event in self.run.events.page(EventQuery(last=1000)).events]


@asynccontextmanager
async def running(
    tmp_path: Path, clock: ManualClock, *names: str, **changed: object
) -> AsyncIterator[Fleet]:
    chosen = settings(*(names or HOSTS), **({"start_wait": 3.0} | changed))
    async with Running(tmp_path, chosen, Discord(answer(shards=6)), clock) as run:
        fleet = Fleet(run)
        fleet.join(*(names or HOSTS))
        await run.after()
        await fleet.settle()
        yield fleet


def refused(code: str = REFUSED) -> Callable[[DisclusterError], bool]:
    return lambda error: error.code == code


# --- drain ---


async def test_draining_a_host_moves_its_shards_and_ends_when_all_are_ready(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        before = fleet.shards["b"]
        answered = fleet.order(Drain(host="b"))
        assert answered.done == ("b is drained: it gets no shards",)
        assert {change.shard for change in answered.diff.changes} == set(before)
        assert {change.reason for change in answered.diff.changes} == {"b is drained"}
        assert answered.generation == fleet.plan.generation
        assert (fleet.moves.serial, fleet.moves.state) == (answered.serial, "running")
        await fleet.run.after(0.6)
        assert fleet.orders_told == ["drain b: 0 of 2 shards moved"]
        await fleet.settle()
        assert fleet.shards["b"] == []
        assert sorted(s for shards in fleet.shards.values() for s in shards) == list(range(6))
        assert (fleet.moves.state, fleet.moves.moved, fleet.moves.total) == ("done", 2, 2)
        about_b = fleet.run.events.page(EventQuery(last=1000, host="b")).events
        assert "drain b, by the operator: b is drained: it gets no shards" in [
            event.sentence for event in about_b
        ]
        assert any(text.startswith("drain b is done: 2 shards moved") for text in fleet.told)


async def test_a_dry_run_tells_the_moves_and_changes_nothing(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        plan, told = fleet.plan, fleet.told
        answered = fleet.order(Drain(host="b", dry_run=True))
        assert len(answered.diff.changes) == 2
        assert (answered.generation, answered.serial) == (plan.generation, 0)
        await fleet.settle()
        assert fleet.plan == plan
        assert fleet.told == told
        assert fleet.run.master.orders.moves() is None


async def test_a_drained_host_stays_drained_over_a_restart_of_master_and_of_itself(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        fleet.order(Drain(host="b"))
        await fleet.settle()
        hosts = fleet.hosts
    async with Running(tmp_path, settings(*HOSTS), Discord(answer(shards=6)), clock) as run:
        for host in hosts.values():
            host.follow_master(run)
        await settle(run, *hosts.values())
        assert hosts["b"].shards == []
        hosts["b"].leave()
        await run.after(1)
        hosts["b"].come_back()
        await settle(run, *hosts.values())
        assert hosts["b"].shards == []
        moves = run.master.orders.moves()
        assert moves is not None
        assert moves.state == "done", "what became of the order is known still"


async def test_an_order_that_was_stored_and_not_begun_is_carried_out_by_the_next_master(
    tmp_path: Path, clock: ManualClock
) -> None:
    """MASTER was killed in between."""
    async with running(tmp_path, clock) as fleet:
        hosts, before = fleet.hosts, fleet.shards["b"]
    store = MasterStore(tmp_path)
    moves: dict[int, str | None] = dict.fromkeys(before, "b")
    task = Task(order="drain b", began=clock.wall(), moves=moves, drained="b")
    store.save_orders(begun(drained(store.orders(), "b", now=clock.wall()), task))
    async with Running(tmp_path, settings(*HOSTS), Discord(answer(shards=6)), clock) as run:
        for host in hosts.values():
            host.follow_master(run)
        await settle(run, *hosts.values())
        assert hosts["b"].shards == []
        status = run.master.orders.moves()
        assert status is not None
        assert (status.serial, status.state, status.moved) == (1, "done", 2)


async def test_undraining_gives_the_host_its_share_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        fleet.order(Drain(host="b"))
        await fleet.settle()
        answered = fleet.order(Undrain(host="b"))
        assert answered.done == ("b can have shards again",)
        await fleet.settle()
        assert [len(shards) for shards in fleet.shards.values()] == [2, 2, 2]
        assert fleet.moves.state == "done"


async def test_the_same_order_twice_changes_nothing_more(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        fleet.order(Drain(host="b"))
        under_way = fleet.order(Drain(host="b"))
        assert under_way.done == ("b is drained already: it gets no shards",)
        assert (under_way.serial, fleet.moves.total) == (2, 2), (
            "what is still to move is waited for"
        )
        await fleet.settle()
        generation = fleet.plan.generation
        again = fleet.order(Drain(host="b"))
        assert (again.serial, again.generation) == (0, generation)
        fleet.order(Undrain(host="b"))
        await fleet.settle()
        generation = fleet.plan.generation
        again = fleet.order(Undrain(host="b"))
        assert again.done == ("b is not drained",)
        assert (again.serial, again.generation) == (0, generation)


async def test_a_drain_that_nobody_could_take_over_is_refused_and_can_be_forced(
    tmp_path: Path, clock: ManualClock
) -> None:
    hosts = {"a": HostSettings(max_shards=3), "b": HostSettings()}
    async with running(tmp_path, clock, "a", "b", hosts=hosts) as fleet:
        plan = fleet.plan
        with pytest.raises(DisclusterError, match="no other host can take 3 shards of b") as caught:
            fleet.order(Drain(host="b"))
        assert caught.value.code == REFUSED
        assert caught.value.hint is not None
        assert "disclusterctl drain b --force" in caught.value.hint
        assert fleet.plan == plan
        answered = fleet.order(Drain(host="b", force=True))
        assert answered.serial > 0
        assert fleet.moves.problem == "3 shards: no other host can take them"


async def test_the_last_host_cannot_be_drained(tmp_path: Path, clock: ManualClock) -> None:
    async with running(tmp_path, clock, "a") as fleet:
        with pytest.raises(DisclusterError, match="no other host can take 6 shards of a"):
            fleet.order(Drain(host="a"))
        assert fleet.run.master.orders.moves() is None


async def test_a_drain_fails_at_its_deadline_and_the_host_stays_drained(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        fleet.order(Drain(host="b", deadline=10))
        for _ in range(12):
            for name in ("a", "c"):
                fleet.hosts[name].follow()
            fleet.run.master.host_heard(fleet.hosts["b"].control.connection)
            await fleet.run.after(1)
        assert fleet.moves.state == "failed"
        problem = "not all had moved at the deadline (2 shards: b releases them)"
        assert fleet.moves.problem == problem
        assert any(text.startswith("drain b failed: ") for text in fleet.told)
        assert fleet.orders_told == [f"drain b: 0 of 2 shards moved; {problem}"]
        await fleet.settle()
        assert fleet.orders_told == []
        assert fleet.shards["b"] == [], "it goes on"
        assert fleet.moves.state == "failed", "but came too late"


@pytest.mark.parametrize("deadline", [0.0, -1.0, 700_000.0])
async def test_a_deadline_must_be_sensible(
    tmp_path: Path, clock: ManualClock, deadline: float
) -> None:
    async with running(tmp_path, clock) as fleet:
        with pytest.raises(DisclusterError, match="between 1 second and 7 days"):
            fleet.order(Drain(host="b", deadline=deadline))


async def test_an_order_takes_the_place_of_the_one_under_way_and_both_are_carried_out(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        first = fleet.order(Drain(host="b"))
        second = fleet.order(Drain(host="c"))
        assert second.serial == first.serial + 1
        assert fleet.moves.order == "drain c"
        await fleet.settle()
        assert (fleet.shards["b"], fleet.shards["c"]) == ([], [])
        assert fleet.moves.state == "done"


async def test_a_host_that_does_not_reach_discord_is_let_have_shards_by_undrain(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock, unreachable_after=5.0) as fleet:
        b = fleet.hosts["b"]
        b.states = dict.fromkeys(range(6), "backoff")
        for _ in range(4):
            await fleet.settle()
        assert b.shards == [], "they went to hosts that reach it"
        b.states = {}
        dry = fleet.order(Undrain(host="b", dry_run=True))
        assert dry.done == ("b can have shards again",)
        assert len(dry.diff.changes) == 2
        await fleet.settle()
        assert b.shards == []
        answered = fleet.order(Undrain(host="b"))
        assert answered.diff.changes == dry.diff.changes
        await fleet.settle()
        assert len(b.shards) == 2


# --- what is refused ---


@pytest.mark.parametrize(
    "order",
    [
        Drain(host="x"),
        Undrain(host="x"),
        RemoveHost(host="x"),
        RemoveHost(host="x", lost=True),
        ClusterSize(host="x", shards_per_cluster=3),
    ],
)
async def test_an_unknown_host_is_told_with_those_that_are_known(
    tmp_path: Path, clock: ManualClock, order: Order
) -> None:
    async with running(tmp_path, clock) as fleet:
        with pytest.raises(DisclusterError, match="no host 'x' in the fleet") as caught:
            fleet.order(order)
        assert caught.value.code == NO_SUCH_HOST
        assert caught.value.hint == "hosts in it: a, b, c"


EVERY: list[Order] = [
    Rebalance(),
    Drain(host="b"),
    Undrain(host="b"),
    RemoveHost(host="b"),
    ClusterSize(host="b", shards_per_cluster=3),
    Rollback(generation=1),
]


@pytest.mark.parametrize("order", EVERY, ids=lambda order: type(order).__name__)
async def test_no_order_is_taken_before_there_is_a_plan(
    tmp_path: Path, clock: ManualClock, order: Order
) -> None:
    async with Running(tmp_path, settings(*HOSTS), Discord(answer(shards=6)), clock) as run:
        with pytest.raises(DisclusterError, match="not now: waiting for a, b, c"):
            run.master.orders.take(order)


@pytest.mark.parametrize("order", EVERY, ids=lambda order: type(order).__name__)
async def test_no_order_is_taken_while_master_waits_for_hosts(
    tmp_path: Path, clock: ManualClock, order: Order
) -> None:
    async with running(tmp_path, clock) as fleet:
        hosts = fleet.hosts
    async with Running(tmp_path, settings(*HOSTS), Discord(answer(shards=6)), clock) as run:
        hosts["a"].follow_master(run)
        await run.after()
        with pytest.raises(DisclusterError, match="not now: waiting for b, c") as caught:
            run.master.orders.take(order)
        assert caught.value.code == REFUSED


async def test_while_clusters_are_restarted_in_turn_only_what_is_urgent_is_taken(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        fleet.run.master.restarts.begin(RollingRequest())
        for order in (Rebalance(), ClusterSize(host="b"), Rollback(generation=1)):
            with pytest.raises(DisclusterError, match="a rolling restart is running") as caught:
                fleet.order(order)
            assert caught.value.hint == "to pause it: disclusterctl restart --rolling --pause"
        assert fleet.order(Drain(host="b")).serial == 1
        await fleet.settle()
        await fleet.settle()
        assert fleet.shards["b"] == []
        assert fleet.moves.state == "done"


# --- remove ---


async def test_a_host_is_removed_once_it_is_empty_and_let_in_again_with_a_token(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        with pytest.raises(DisclusterError, match="b is connected") as caught:
            fleet.order(RemoveHost(host="b"))
        assert caught.value.hint == "to empty it first: disclusterctl drain b"
        fleet.order(Drain(host="b"))
        with pytest.raises(DisclusterError, match="b still has 2 shards"):
            fleet.order(RemoveHost(host="b"))
        await fleet.settle()
        answered = fleet.order(RemoveHost(host="b"))
        assert answered.done[0] == "b is removed"
        await fleet.run.after()
        assert fleet.hosts["b"].control.closed != []
        fleet.hosts["b"].leave()
        await fleet.run.after(1)
        assert [host.host for host in fleet.run.master.status().hosts] == ["a", "c"]
        desk = fleet.run.master.orders
        assert "b was removed from the fleet" in (desk.refusal("b") or "")
        assert desk.refusal("a") is None
        again = fleet.order(RemoveHost(host="b"))
        assert again.done[0].startswith("b is removed already")
        desk.readmit("b")
        assert desk.refusal("b") is None
        fleet.join("b")
        await fleet.settle()
        assert len(fleet.shards["b"]) == 2, "a new host, that is not drained"


async def test_an_old_connection_that_ends_after_its_host_was_removed_harms_nobody(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        old = fleet.hosts["b"].control
        fleet.hosts["b"].come_back()
        fleet.hosts["b"].leave()
        fleet.order(RemoveHost(host="b", lost=True))
        await fleet.run.after(1)
        old.say(Goodbye())
        old.leave()
        await fleet.settle()
        assert {host.host for host in fleet.run.master.status().hosts} == {"a", "c"}


async def test_a_host_that_is_off_gives_its_shards_away_at_once(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        with pytest.raises(DisclusterError, match="b is connected, so its machine is not off"):
            fleet.order(RemoveHost(host="b", lost=True))
        fleet.hosts["b"].leave()
        await fleet.run.after(1)
        with pytest.raises(DisclusterError, match="b still has 2 shards") as caught:
            fleet.order(RemoveHost(host="b"))
        assert "disclusterctl host remove b --lost" in (caught.value.hint or "")
        answered = fleet.order(RemoveHost(host="b", lost=True))
        assert {c.reason for c in answered.diff.changes} == {"b is off, as the operator says"}
        await fleet.settle()
        del fleet.hosts["b"]
        assert sorted(s for shards in fleet.shards.values() for s in shards) == list(range(6))
        assert (fleet.moves.state, fleet.moves.total) == ("done", 2)
        assert "b" not in fleet.plan.hosts
        assert {grant.host for grant in fleet.plan.granted.values()} == {"a", "c"}


async def test_a_host_that_was_not_off_gets_nothing_back_of_what_it_still_runs(
    tmp_path: Path, clock: ManualClock
) -> None:
    """The operator was wrong, and the host joined again."""
    async with running(tmp_path, clock) as fleet:
        b, own = fleet.hosts["b"], fleet.shards["b"]
        b.leave()
        fleet.order(RemoveHost(host="b", lost=True))
        await settle(fleet.run, fleet.hosts["a"], fleet.hosts["c"])
        fleet.run.master.orders.readmit("b")
        b.come_back()
        await fleet.run.after(1)
        assert {fleet.plan.granted[shard].host for shard in own} <= {"a", "c"}
        b.follow()
        assert not {*own} & {*b.shards}
        await fleet.settle()
        assert [len(shards) for shards in fleet.shards.values()] == [2, 2, 2]
        assert sorted(s for shards in fleet.shards.values() for s in shards) == list(range(6))


async def test_a_host_can_be_asserted_off_while_master_waits_for_it(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        hosts = fleet.hosts
    async with Running(tmp_path, settings(*HOSTS), Discord(answer(shards=6)), clock) as run:
        for name in "ac":
            hosts[name].follow_master(run)
        await run.after()
        assert "waiting for b" in run.state
        run.master.orders.take(RemoveHost(host="b", lost=True))
        await settle(run, hosts["a"], hosts["c"])
        assert sorted([*hosts["a"].shards, *hosts["c"].shards]) == list(range(6))


# --- shards per cluster ---


async def test_the_size_of_clusters_is_changed_and_given_back_to_the_settings(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        answered = fleet.order(ClusterSize(host="b", shards_per_cluster=1))
        assert answered.done == ("clusters of b take 1 shards",)
        assert {c.reason for c in answered.diff.changes} == {"clusters of b take 1 shards"}
        await fleet.settle()
        assert len(fleet.plan.hosts["b"].clusters) == 2
        assert fleet.moves.state == "done"
        answered = fleet.order(ClusterSize(host="b"))
        assert answered.done == ("clusters of b take 2 shards, as the settings say",)
        await fleet.settle()
        assert len(fleet.plan.hosts["b"].clusters) == 1


@pytest.mark.parametrize("size", [0, 257])
async def test_a_size_that_no_cluster_can_have_is_refused(
    tmp_path: Path, clock: ManualClock, size: int
) -> None:
    async with running(tmp_path, clock) as fleet:
        with pytest.raises(DisclusterError, match="a cluster takes 1 to 256 shards"):
            fleet.order(ClusterSize(host="b", shards_per_cluster=size))


# --- rebalance, rollback ---


async def test_a_rollback_puts_the_shards_back_and_holds_until_something_changes(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        first = fleet.plan.generation
        before = fleet.shards
        (entry,) = fleet.run.master.orders.history().entries
        fleet.join("d")
        await fleet.settle()
        assert fleet.shards["d"] != []
        answered = fleet.order(Rollback(generation=entry.generation))
        assert answered.serial > 0
        await fleet.settle()
        assert fleet.shards == before | {"d": []}
        assert fleet.moves.state == "done"
        assert fleet.plan.generation > first
        hosts = fleet.hosts
    chosen = settings(*HOSTS, start_wait=3.0)
    async with Running(tmp_path, chosen, Discord(answer(shards=6)), clock) as run:
        for name in "abd":
            hosts[name].follow_master(run)
        await settle(run, *(hosts[name] for name in "abd"))
        hosts["c"].follow_master(run)
        await settle(run, *hosts.values())
        assert {name: host.shards for name, host in hosts.items()} == before | {"d": []}, (
            "a restart of MASTER is no change"
        )
        hosts["a"].leave()
        await run.after(1)
        hosts["a"].come_back()
        await settle(run, *hosts.values())
        assert hosts["d"].shards == [], "nor is a short absence"
        run.master.orders.take(Rebalance())
        await settle(run, *hosts.values())
        assert hosts["d"].shards != []


async def test_a_rollback_to_a_plan_that_is_not_kept_is_refused(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        with pytest.raises(DisclusterError, match="generation 99 is not in the history"):
            fleet.order(Rollback(generation=99))


async def test_the_history_tells_what_moved_and_why(tmp_path: Path, clock: ManualClock) -> None:
    async with running(tmp_path, clock) as fleet:
        fleet.order(Drain(host="b"))
        await fleet.settle()
        first, second = fleet.run.master.orders.history().entries
        assert first.reason == "first plan, for a, b, c"
        assert first.moves == "6 shards placed"
        assert second.reason == "drain b, by the operator"
        assert "from b to" in second.moves
        assert (first.current, second.current) == (False, True)
        assert fleet.plan.generation > second.generation, "the steps of the moves are none"


async def test_a_balanced_fleet_has_nothing_to_rebalance(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        answered = fleet.order(Rebalance())
        assert answered.done == ("the shards are spread as well as they can be",)
        assert answered.serial == 0


# --- reload ---


async def test_a_reload_takes_what_it_can_and_tells_what_needs_a_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        edited = settings(
            start_wait=3.0,
            listen="0.0.0.0:9999",
            hosts={"a": HostSettings(weight=4), "b": HostSettings(), "c": HostSettings()},
        )
        desk = fleet.run.master.orders
        dry = desk.reload(edited, dry_run=True)
        told = {change.path: change.reloads for change in dry.settings}
        assert told == {"listen": False, "hosts.a.weight": True}
        assert dry.done == (
            "in force: hosts.a.weight",
            "in force when MASTER is restarted: listen",
        )
        assert [c.target for c in dry.diff.changes if c.target and c.target[0] != "a"] == []
        await fleet.settle()
        assert [len(shards) for shards in fleet.shards.values()] == [2, 2, 2]
        answered = desk.reload(edited)
        assert answered.diff.changes == dry.diff.changes
        await fleet.settle()
        assert [len(shards) for shards in fleet.shards.values()] == [4, 1, 1]
        assert fleet.moves.state == "done"
        again = desk.reload(edited)
        assert [change.path for change in again.settings] == ["listen"], "still to come"
        assert again.serial == 0


async def test_settings_that_leave_shards_without_room_are_told_in_the_dry_run(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        edited = settings(hosts={name: HostSettings(max_shards=1) for name in HOSTS})
        answered = fleet.run.master.orders.reload(edited, dry_run=True)
        assert [c.target for c in answered.diff.changes] == [None, None, None]
        assert {c.reason for c in answered.diff.changes} == {
            f"{name} is full, and no host can take the shard" for name in HOSTS
        }
        assert answered.diff.notes != ()


async def test_hosts_that_are_listed_by_a_reload_are_expected(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:

        def seen() -> dict[str, str]:
            return {host.host: host.state for host in fleet.run.master.status().hosts}

        desk = fleet.run.master.orders
        desk.reload(settings(*HOSTS, "d", start_wait=3.0))
        assert seen() == dict.fromkeys(HOSTS, "connected") | {"d": "expected"}
        desk.reload(settings("a", "b", start_wait=3.0))
        assert seen() == dict.fromkeys(HOSTS, "connected"), "c is there, listed or not"


async def test_another_number_of_shards_is_told_to_have_no_effect(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        edited = settings(*HOSTS, start_wait=3.0, shard_count=12)
        answered = fleet.run.master.orders.reload(edited)
        assert answered.done == ("shard_count is for a new fleet: this one keeps its 6 shards",)
        await fleet.settle()
        assert fleet.plan.shard_count == 6


async def test_a_reload_of_nothing_new_says_so(tmp_path: Path, clock: ManualClock) -> None:
    async with running(tmp_path, clock) as fleet:
        plan, told = fleet.plan, fleet.told
        answered = fleet.run.master.orders.reload(settings(*HOSTS, start_wait=3.0))
        assert answered.done == ("the settings on disk are those in force",)
        assert (fleet.plan, fleet.told) == (plan, told)


async def test_everything_that_uses_a_setting_follows_a_reload(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        heard: list[MasterSettings] = []
        fleet.run.master.orders.followers.append(heard.append)
        edited = msgspec.structs.replace(
            settings(*HOSTS, start_wait=3.0),
            identify_reserve=0.5,
            max_concurrency=4,
            log_level="debug",
        )
        fleet.run.master.orders.reload(edited)
        await fleet.settle()
        assert heard == [edited]
        assert fleet.run.master.permits.overview().identify.reserve == 500
        assert fleet.plan.max_concurrency == 4


async def test_a_reload_while_master_waits_for_hosts_is_planned_later(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as fleet:
        hosts = fleet.hosts
    async with Running(tmp_path, settings(*HOSTS), Discord(answer(shards=6)), clock) as run:
        hosts["a"].follow_master(run)
        await run.after()
        edited = settings(
            hosts={"a": HostSettings(weight=4), "b": HostSettings(), "c": HostSettings()}
        )
        answered = run.master.orders.reload(edited)
        assert answered.done == ("in force: hosts.a.weight",)
        assert answered.diff.changes == ()
        for name in "bc":
            hosts[name].follow_master(run)
        await settle(run, *hosts.values())
        assert [len(host.shards) for host in hosts.values()] == [4, 1, 1]


# --- what MASTER does by itself, in view of orders and settings ---


async def test_hosts_with_too_many_guilds_give_some_away_unless_the_operator_went_back(
    tmp_path: Path, clock: ManualClock
) -> None:
    changed = {"balance": "guilds", "rebalance_pause": 60.0, "shards_per_cluster": 1}
    async with running(tmp_path, clock, "a", "b", **changed) as fleet:
        before = fleet.shards
        heavy = dict.fromkeys(before["a"], 2000) | dict.fromkeys(before["b"], 500)
        for host in fleet.hosts.values():
            host.guilds = heavy
        for _ in range(30):
            await fleet.settle()
        moved = fleet.shards
        assert sorted(map(len, moved.values())) == [2, 4], "the guilds are even, not the shards"
        first, second = fleet.run.master.orders.history().entries
        assert "guilds" in second.reason
        fleet.order(Rollback(generation=first.generation))
        for _ in range(30):
            await fleet.settle()
        assert fleet.shards == before
        fleet.order(Rebalance())
        await fleet.settle()
        assert sorted(map(len, fleet.shards.values())) == [2, 4]


async def test_a_lease_that_was_made_shorter_is_waited_for_as_long_as_it_was(
    tmp_path: Path, clock: ManualClock
) -> None:
    """A host that MASTER did not hear since may still go by the one that it was told."""
    async with running(tmp_path, clock, lease=100.0) as fleet:
        hosts = fleet.hosts
    chosen = settings(*HOSTS, lease=10.0, ping_interval=2.0, start_wait=3.0)
    async with Running(tmp_path, chosen, Discord(answer(shards=6)), clock) as run:
        here = [hosts["a"], hosts["c"]]
        for host in here:
            host.follow_master(run)
        began = clock.monotonic()
        while clock.monotonic() < began + 95:
            await settle(run, *here)
        assert sum(len(host.shards) for host in here) == 4
        while clock.monotonic() < began + 110:
            await settle(run, *here)
        assert sum(len(host.shards) for host in here) == 6
