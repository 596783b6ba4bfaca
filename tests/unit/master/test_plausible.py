# SPDX-License-Identifier: Apache-2.0
"""Whoever holds one host does not hold the fleet by that."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from discluster.clock import DAY
from discluster.console import EventQuery
from discluster.master.hosts.plausible import (
    LONGEST_JUMP,
    MAXIMUM_GENERATION,
    heeded,
    objection,
    speaks_for,
)
from discluster.master.identify.guard import GuardMemory, LoopGuard
from discluster.master.identify.lanes import Lanes
from discluster.messages import (
    AllowanceReport,
    Checkpoint,
    ClearanceCase,
    ClusterView,
    HostReport,
    Permit,
    PermitRequest,
    PermitUsed,
    PlanRefused,
)
from discluster.plan import Grant
from tests.clock import ManualClock
from tests.unit.master.fakes import Control, Discord, Running, answer, settings
from tests.unit.master.fleets import fleet, report, session

PLAN = fleet(
    {"alpha": {0: [0, 1]}, "beta": {1: [2, 3]}},
    generation=7,
    granted={0: Grant(host="alpha"), 1: Grant(host="alpha"), 2: Grant(host="beta")},
)


def complaint(told: HostReport, host: str = "alpha", **others: HostReport) -> str | None:
    return objection(host, told, PLAN, lambda: others)


# --- reports --------------------------------------------------------------------------------------


def cluster(**changed: Any) -> HostReport:
    view = msgspec.structs.replace(ClusterView(cluster=0, unit="active"), **changed)
    return HostReport(plan_generation=7, clusters=(view,))


@pytest.mark.parametrize(
    "told",
    [
        report(2**62),
        HostReport(plan_generation=7, entered={0: MAXIMUM_GENERATION + 1}),
        HostReport(plan_generation=7, panel=tuple(f"h{n}" for n in range(1000))),
        cluster(generation=MAXIMUM_GENERATION + 1),
        HostReport(plan_generation=7, clusters=cluster().clusters * 2),
    ],
)
def test_report_that_no_control_sends_is_refused(told: HostReport) -> None:
    assert str(complaint(told)).startswith("its report makes no sense: ")


def test_honest_reports_are_taken() -> None:
    assert complaint(report(0)) is None
    assert complaint(report(7, [0, 1]), alpha=report(6), beta=report(7)) is None
    assert complaint(cluster(cpu=63.5, memory=2**40, event_rate=1e5, run=3)) is None
    assert objection("alpha", report(10**9), None, dict) is None, "MASTER has no plan"


def test_generation_beyond_any_that_master_can_have_made_is_refused_in_words() -> None:
    assert complaint(report(7 + LONGEST_JUMP)) is None, "its files are from an old backup"
    assert complaint(report(8 + LONGEST_JUMP)) == (
        "it says that it follows plan 1000008, MASTER is at 7: if MASTER's files are that old,"
        " restore newer ones"
    )


def test_host_that_was_there_before_cannot_have_got_a_newer_plan_from_anybody_else() -> None:
    assert complaint(report(8), alpha=report(7)) is not None
    assert complaint(report(8), alpha=report(8)) is None, "as it has said all along"


def test_one_host_is_not_believed_against_all_others() -> None:
    """Else it would be the owner of every shard that it says it holds."""
    assert complaint(report(8), beta=report(7)) is not None
    assert complaint(report(8)) is None, "nobody else has told yet"
    assert complaint(report(8), beta=report(9)) is None, "MASTER's files are older than the fleet"


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PermitRequest, PermitUsed])
def test_host_asks_and_tells_of_its_own_shards_only(
    kind: type[PermitRequest] | type[PermitUsed],
) -> None:
    for shard, host in {0: "alpha", 2: "beta", 3: "anybody"}.items():
        for who in ("alpha", "beta"):
            said = heeded(who, kind(shard=shard), PLAN, report(7))
            assert (said is not None) == (host in (who, "anybody"))
    for shard in (-1, 4, 2**62):
        assert heeded("alpha", kind(shard=shard), PLAN, report(7)) is None


def test_master_with_older_files_does_not_know_whose_a_shard_is() -> None:
    assert heeded("alpha", PermitRequest(shard=2), PLAN, report(9)) is not None
    assert speaks_for("alpha", 2, None)
    assert not speaks_for("alpha", 2**20, None)


def test_checkpoints_and_cases_of_others_shards_are_passed_over() -> None:
    told = Checkpoint(shard_count=4, sessions={0: session(), 2: session()}, ended=(1, 2, 2**60))
    said = heeded("alpha", told, PLAN, report(7))
    assert said == msgspec.structs.replace(told, sessions={0: session()}, ended=(1,))
    case = ClearanceCase(shard=2, state="accepted")
    assert heeded("alpha", case, PLAN, report(7)) is None
    assert heeded("beta", case, PLAN, report(7)) is case


def test_refusal_without_end_is_cut_short() -> None:
    said = heeded("alpha", PlanRefused(generation=7, errors="x" * 10**6), PLAN, report(7))
    assert isinstance(said, PlanRefused)
    assert len(said.errors) == 2000


# --- a MASTER -------------------------------------------------------------------------------------


async def started(run: Running) -> tuple[Control, Control]:
    """Alpha has shards 0 and 1, beta 2 and 3, and both run them."""
    hosts = run.connect("alpha"), run.connect("beta")
    await run.after()
    for host in hosts:
        plan = host.plan()
        host.say(report(plan.generation, plan.shards(), cluster=min(plan.clusters)))
        host.say(AllowanceReport(serial=0))
    await run.after(20)
    for host in hosts:
        host.heard()
    return hosts


def running(directory: Path) -> Running:
    return Running(directory, settings("alpha", "beta"), Discord(answer()), ManualClock())


async def test_host_cannot_take_anothers_permit_nor_hold_up_its_lane(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        mallory, honest = await started(run)
        shard = next(iter(run.master.fleet.hosts["beta"].clusters.values())).shards[0]  # type: ignore[union-attr]
        before = run.master.permits.status().remaining
        for _ in range(50):
            mallory.say(PermitUsed(shard=shard))
        honest.say(PermitRequest(shard=shard))
        mallory.say(PermitRequest(shard=shard))
        await run.after(1)
        assert [m.shard for m in honest.heard() if isinstance(m, Permit)] == [shard]
        assert not [m for m in mallory.heard() if isinstance(m, Permit)]
        assert run.master.permits.status().remaining == (before or 0) - 1


async def test_host_that_claims_what_it_did_not_spend_leaves_others_half_of_the_day(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as run:
        mallory, _ = await started(run)
        for serial in range(1000, 1100):
            mallory.say(AllowanceReport(serial=serial, identifies=10**9, daily=10**9, spent=10**9))
        mallory.say(AllowanceReport(serial=2**80, spent=10**9, resets_in=1e308))
        await run.after(1)
        assert (run.master.permits.status().remaining or 0) >= 300
        own = next(iter(run.master.fleet.hosts["alpha"].clusters.values())).shards[0]  # type: ignore[union-attr]
        for _ in range(2000):
            mallory.say(PermitUsed(shard=own))
        await run.after(1)
        assert (run.master.permits.status().remaining or 0) >= 250


async def test_host_that_comes_and_goes_does_not_drive_out_other_events(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        await started(run)
        before = run.events.newest
        for number in range(500):
            mallory = run.connect("alpha")
            mallory.say(PlanRefused(generation=number, errors="because"))
        await run.after(0)
        assert run.events.newest - before <= 20
        await run.after(61)
        run.connect("alpha")
        page = run.events.page(EventQuery(last=2))
        assert "more events of alpha were left out" in page.events[0].sentence


# --- lanes and guard ------------------------------------------------------------------------------


def test_shard_that_lets_permits_lapse_waits_for_those_that_use_theirs() -> None:
    lanes = Lanes(interval=5.0, rest_until=0.0)
    now, used = 0.0, 0
    for _ in range(20):
        lanes.request(0, "mallory")
        lanes.request(1, "honest")
        for grant in lanes.grants(now, 0.0, limit=9):
            if grant.host == "honest":
                lanes.used(1, "honest", now)
                used += 1
        now += 16
    assert used >= 15


def test_permit_that_is_given_back_at_once_again_and_again_waits_too() -> None:
    lanes = Lanes(interval=5.0, rest_until=0.0)
    given = []
    for _ in range(10):
        lanes.request(0, "mallory")
        lanes.request(1, "honest")
        (grant,) = lanes.grants(0.0, 0.0, limit=9)
        given.append(grant.shard)
        lanes.returned(grant.shard, grant.host)
    assert 1 in given


def test_guard_remembers_no_more_of_a_shard_than_it_needs() -> None:
    guard = LoopGuard(limit=10, waste=0.5, memory=GuardMemory())
    for number in range(20):
        assert not guard.is_looping(0, float(number))
        guard.used(0, float(number))
    assert guard.is_looping(0, 20.0)
    assert not guard.is_looping(1, 20.0)
    assert not guard.is_looping(0, DAY)
