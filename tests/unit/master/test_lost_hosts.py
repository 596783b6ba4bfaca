# SPDX-License-Identifier: Apache-2.0
"""A MASTER whose hosts fall silent: what it gives away, when, and what it says."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from discluster.console import EventQuery, HostStatus
from discluster.master.settings import HostSettings
from discluster.messages import (
    Allowance,
    AllowanceReport,
    Checkpoint,
    Goodbye,
    GoodbyeSeen,
    HostReport,
    Permit,
    PermitRequest,
    PermitUsed,
    PlanPush,
)
from discluster.plan import IdentifySlots, Session, host_plan_from_yaml
from tests.clock import ManualClock
from tests.unit.master.fakes import Control, Discord, Running, answer, settings
from tests.unit.master.fleets import report, session

NAMES = ("a", "b", "c")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Host:
    """A CONTROL that answers everything, until it is ``cut``."""

    def __init__(self, run: Running, name: str, first: HostReport | None = None) -> None:
        self.run, self.name = run, name
        self.generation, self.shards = 0, list[int]()
        self.panel: tuple[str, ...] = ()
        self.handover: dict[int, Session] = {}
        self.permits: list[Permit] = []
        self.slots = IdentifySlots()
        self.cut = False
        self.control = Control(run.master, name, first or self._report())
        self.control.say(AllowanceReport(serial=0))

    def _report(self) -> HostReport:
        return msgspec.structs.replace(
            report(self.generation, self.shards),
            witness=f"{self.name}.example.net:7444",
            panel=self.panel,
            slots=self.slots,
            shard_count=6 if self.generation else 0,
        )

    def answer(self, number: int) -> None:
        """The ping that MASTER sent, and whatever plan there is."""
        if self.cut:
            return
        connection, now = self.control.connection, self.run.clock.monotonic()
        connection.steadiness.pinged(number, now)
        connection.steadiness.answered(number, now, lease=30.0)
        self.obey()
        self.control.say(self._report())

    def obey(self) -> None:
        heard = self.control.heard()
        self.permits += [m for m in heard if isinstance(m, Permit)]
        for told in (m for m in heard if isinstance(m, Allowance)):
            taken = AllowanceReport(
                serial=told.serial,
                identifies=told.identifies,
                daily=told.daily,
                resets_in=told.resets_in,
            )
            self.control.say(taken)
        pushed = [m.text for m in heard if isinstance(m, PlanPush)]
        if pushed:
            plan = host_plan_from_yaml(pushed[-1], file="pushed")
            self.generation, self.shards = plan.generation, sorted(plan.shards())
            self.panel = tuple(sorted(plan.witnesses))
            self.handover = plan.handover
            self.slots = plan.identify

    def checkpoint(self) -> None:
        sessions = {shard: session(f"of-{shard}", 10) for shard in self.shards}
        entered = dict.fromkeys(self.shards, self.generation)
        self.control.say(Checkpoint(shard_count=6, sessions=sessions, entered=entered))


class Fleet:
    """Three hosts with two shards each, on a clock that stands still."""

    def __init__(self, run: Running, names: Iterable[str] = NAMES) -> None:
        self.run = run
        self.hosts = {name: Host(run, name) for name in names}
        self._pings = 0

    async def live(self, seconds: float) -> None:
        """Everybody who is not cut answers every second."""
        for _ in range(round(seconds)):
            self._pings += 1
            for host in self.hosts.values():
                host.answer(self._pings)
            await self.run.after(1.0)
        for host in self.hosts.values():
            host.answer(self._pings)

    async def begin(self) -> None:
        await self.live(50)
        for host in self.hosts.values():
            host.checkpoint()
        await self.live(1)

    def status(self, name: str) -> HostStatus:
        (found,) = [h for h in self.run.master.status().hosts if h.host == name]
        return found

    def owners(self) -> dict[int, str]:
        assert self.run.master.fleet is not None
        return {shard: grant.host for shard, grant in self.run.master.fleet.granted.items()}

    def events(self) -> list[str]:
        return [event.sentence for event in self.run.events.page(EventQuery()).events]

    def cut(self, name: str) -> None:
        self.hosts[name].cut = True
        self.hosts[name].control.leave()


def running(tmp_path: Path, clock: ManualClock, **changed: object) -> Running:
    chosen = settings(*NAMES, **changed)
    return Running(tmp_path, chosen, Discord(answer(shards=6)), clock)


async def test_shards_of_a_lost_host_go_on_elsewhere_with_their_checkpoints(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        fleet = Fleet(run)
        await fleet.begin()
        assert fleet.hosts["a"].panel == NAMES
        lost = fleet.hosts["c"].shards
        fleet.cut("c")
        await fleet.live(31)
        assert {fleet.owners()[shard] for shard in lost} == {"c"}
        assert "its shards are given away in" in "".join(run.troubles)
        await fleet.live(4)
        assert set(fleet.owners().values()) == {"a", "b"}
        handed = fleet.hosts["a"].handover | fleet.hosts["b"].handover
        assert handed == {shard: session(f"of-{shard}", 10) for shard in lost}
        assert fleet.status("c").state == "lost"
        assert "c is lost: its 2 shards went to a and b" in run.troubles
        told = fleet.events()
        assert "c is lost: it was silent for a lease and 2 s; its shards are given away" in told
        assert "gives a 1 shards that c lost" in told


async def test_lost_host_that_returns_gets_no_shard_before_it_has_been_back_for_a_while(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        fleet = Fleet(run)
        await fleet.begin()
        old = fleet.hosts["c"]
        fleet.cut("c")
        await fleet.live(40)
        # It still reports that it holds what it had: it has not heard better.
        back = fleet.hosts["c"] = Host(run, "c", old._report())
        back.generation, back.shards = old.generation, old.shards
        await fleet.live(3)
        assert back.shards == []
        assert set(fleet.owners().values()) == {"a", "b"}
        assert any("c was lost and is back" in text for text in run.troubles)
        await fleet.live(40)
        assert back.shards == []
        await fleet.live(30)
        assert len(back.shards) == 2
        assert "c, which was lost, has been back for 60 s: it gets shards again" in [
            told.replace("1 min", "60 s") for told in fleet.events()
        ]


async def test_nothing_is_given_away_while_most_witnesses_are_out_of_touch(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Then it may be MASTER that is cut off, and the others carry on."""
    async with running(tmp_path, clock) as run:
        fleet = Fleet(run)
        await fleet.begin()
        before = fleet.owners()
        fleet.cut("b")
        fleet.cut("c")
        await fleet.live(300)
        assert fleet.owners() == before
        assert any("only 1 of 3 witnesses" in text for text in run.troubles)
        hints = [trouble.hint or "" for trouble in run.master.status().troubles]
        assert any("disclusterctl host remove b --lost" in hint for hint in hints)


async def test_unattended_host_is_not_lost_even_by_a_master_that_is_restarted(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        fleet = Fleet(run)
        await fleet.begin()
        leaving = fleet.hosts["c"]
        leaving.cut = True
        leaving.control.say(Goodbye())
        await run.after()
        assert GoodbyeSeen() in leaving.control.heard()
        leaving.control.leave()
        await fleet.live(120)
        before = fleet.owners()
        assert fleet.status("c").state == "unattended"
        kept = {name: fleet.hosts[name] for name in ("a", "b")}
    async with running(tmp_path, clock) as run:
        fleet = Fleet(run, names=())
        for name, host in kept.items():
            fleet.hosts[name] = Host(run, name, host._report())
            fleet.hosts[name].generation, fleet.hosts[name].shards = host.generation, host.shards
        await fleet.live(300)
        assert fleet.owners() == before
        assert fleet.status("c").state == "unattended"
        assert not any("waiting for" in text for text in [run.state])


async def test_master_that_is_restarted_gives_a_host_away_that_does_not_come(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        fleet = Fleet(run)
        await fleet.begin()
        kept = {name: fleet.hosts[name] for name in ("a", "b")}
        before = fleet.owners()
    async with running(tmp_path, clock) as run:
        fleet = Fleet(run, names=())
        for name, host in kept.items():
            fleet.hosts[name] = Host(run, name, host._report())
            fleet.hosts[name].generation, fleet.hosts[name].shards = host.generation, host.shards
            fleet.hosts[name].panel = host.panel
        await fleet.live(44)
        assert fleet.owners() == before, "not in the grace"
        await fleet.live(4)
        assert set(fleet.owners().values()) == {"a", "b"}


async def test_master_that_stood_still_holds_no_silence_against_its_hosts(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock) as run:
        fleet = Fleet(run)
        await fleet.begin()
        before = fleet.owners()
        clock.jump(60.0)
        await run.after(1.0)
        assert all(host.control.closed == [] for host in fleet.hosts.values())
        await fleet.live(3)
        assert fleet.owners() == before
        assert any("MASTER stood still for" in told for told in fleet.events())


async def test_moves_wait_for_their_turn_in_the_cluster_where_they_run(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with running(tmp_path, clock, moves_at_once=1, hosts={}, start_wait=1.0) as run:
        fleet = Fleet(run, names=("a",))
        await fleet.begin()
        assert len(fleet.hosts["a"].shards) == 6
        fleet.hosts["b"] = Host(run, "b")
        most = 0
        for _ in range(12):
            running_now = sum(len(host.shards) for host in fleet.hosts.values())
            await fleet.live(1)
            most = max(most, running_now - sum(len(host.shards) for host in fleet.hosts.values()))
            for host in fleet.hosts.values():
                host.checkpoint()
        assert most <= 1
        assert [len(host.shards) for host in fleet.hosts.values()] == [3, 3]


async def test_master_that_lost_its_disk_leaves_everything_where_it_runs(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Whatever Discord recommends by now, and however it would plan afresh."""
    chosen = settings("a", "b")
    async with Running(tmp_path, chosen, Discord(answer(shards=8)), clock) as run:
        told = {"a": [1, 3, 5], "b": [0, 2, 4]}
        hosts = {
            name: run.connect(
                name,
                msgspec.structs.replace(report(40, own, cluster=at), shard_count=6),
            )
            for at, (name, own) in enumerate(told.items())
        }
        await run.after()
        plans = {name: control.plan() for name, control in hosts.items()}
        assert {name: sorted(plan.shards()) for name, plan in plans.items()} == told
        assert {plan.shard_count for plan in plans.values()} == {6}
        assert all(plan.generation > 40 for plan in plans.values())
        assert "Discord recommends 8 shards, the fleet runs 6" in run.troubles


async def test_master_with_files_from_a_backup_hears_all_hosts_before_it_does_anything(
    tmp_path: Path, clock: ManualClock
) -> None:
    """The shards changed places since; nothing moves back."""
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        first = {name: run.connect(name) for name in ("a", "b")}
        await run.after()
        plans = {name: control.plan() for name, control in first.items()}
    told = {"a": sorted(plans["b"].shards()), "b": sorted(plans["a"].shards())}

    def says(name: str) -> HostReport:
        own = report(40, told[name], cluster=min(plans[name].clusters))
        return msgspec.structs.replace(own, shard_count=4)

    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a = run.connect("a", says("a"))
        await run.after(5)
        assert not any(isinstance(m, PlanPush) for m in a.heard())
        b = run.connect("b", says("b"))
        await run.after()
        for control, name in ((a, "a"), (b, "b")):
            plan = control.plan()
            assert plan.generation > 40
            assert sorted(plan.shards()) == told[name]
        await run.after(5)
        assert run.master.fleet is not None
        assert all(grant.withdrawn is None for grant in run.master.fleet.granted.values())


async def test_shards_that_no_checkpoint_told_of_identify_as_fast_as_discord_allows(
    tmp_path: Path, clock: ManualClock
) -> None:
    """A host whose shards have passed on identifies nothing in its windows, so nobody has to keep
    clear of them: with two hosts they would leave room for one identify in 20 seconds.
    """
    chosen = settings("a", "b", shard_count=8, identify_interval=5.0)
    async with Running(tmp_path, chosen, Discord(answer(shards=8)), clock) as run:
        fleet = Fleet(run, ("a", "b"))
        await fleet.live(50)
        lost = fleet.hosts["b"].shards
        assert len(lost) == 4
        fleet.cut("b")
        await fleet.live(40)
        assert set(fleet.owners().values()) == {"a"}
        assert fleet.hosts["a"].handover == {}
        began = clock.monotonic()
        granted: list[float] = []
        for shard in lost:
            fleet.hosts["a"].control.say(PermitRequest(shard=shard))
        while len(granted) < len(lost):
            assert clock.monotonic() - began < 5.0 * len(lost) + 1.0, granted
            await fleet.live(1)
            while fleet.hosts["a"].permits:
                permit = fleet.hosts["a"].permits.pop()
                granted.append(permit.since)
                fleet.hosts["a"].control.say(PermitUsed(shard=permit.shard))
        assert all(after - before >= 5.0 for before, after in pairwise(granted))


async def test_host_that_had_all_windows_and_half_the_budget_leaves_both_to_who_takes_over(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Before Discord has named the reset, what hosts may identify without MASTER is kept for each
    of their days: that of a host that is lost is no exception to who has its shards now.
    """
    hosts = {"a": HostSettings(), "b": HostSettings(standby=True)}
    unnamed = answer(shards=4, remaining=1000, reset_after=0)
    async with Running(tmp_path, settings(hosts=hosts), Discord(unnamed), clock) as run:
        fleet = Fleet(run, ("a", "b"))
        await fleet.live(50)
        assert set(fleet.owners().values()) == {"a"}
        fleet.cut("a")
        await fleet.live(40)
        assert set(fleet.owners().values()) == {"b"}
        fleet.hosts["b"].control.say(PermitRequest(shard=0))
        await fleet.live(6)
        assert [permit.shard for permit in fleet.hosts["b"].permits] == [0]
