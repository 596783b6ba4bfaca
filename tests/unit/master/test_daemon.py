# SPDX-License-Identifier: Apache-2.0
"""MASTER's loop: what it waits for, plans, pushes, grants and says."""

from pathlib import Path

import pytest

from discluster.console import HostAllowance, ResumeRequest
from discluster.errors import ConfigurationError, DiscordError, StateError, UnavailableError
from discluster.master.settings import HostSettings
from discluster.messages import (
    PERMIT_LIFE,
    Allowance,
    AllowanceReport,
    Clearance,
    ClearanceCase,
    ClusterView,
    Goodbye,
    GoodbyeSeen,
    Halt,
    HostReport,
    Permit,
    PermitDenied,
    PermitRequest,
    PermitReturned,
    PermitUsed,
    PlanRefused,
    ShardView,
)
from tests.clock import ManualClock
from tests.unit.master.fakes import Control, Discord, Running, answer, settings
from tests.unit.master.fleets import report, session


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def permits(control: Control) -> list[Permit]:
    return [message for message in control.heard() if isinstance(message, Permit)]


def permitted(control: Control) -> list[int]:
    """The shards that got a permit."""
    return [permit.shard for permit in permits(control)]


async def running_pair(tmp_path: Path, clock: ManualClock, run: Running) -> tuple[Control, Control]:
    """Two hosts that run what they were told; shards 0 and 1 on a, 2 and 3 on b."""
    pair = run.connect("a"), run.connect("b")
    await run.after()
    for control, shards in zip(pair, ([0, 1], [2, 3]), strict=True):
        plan = control.plan()
        assert list(plan.shards()) == shards
        control.say(report(plan.generation, shards))
    await run.after()
    return pair


async def test_the_first_plan_waits_for_the_hosts_that_are_listed(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a = run.connect("a")
        await run.after(44)
        assert run.master.status().generation == 0
        assert run.state.startswith("waiting for b, until ")
        b = run.connect("b")
        await run.after()
        assert sorted([*a.plan().shards(), *b.plan().shards()]) == [0, 1, 2, 3]
        assert run.master.fleet is not None
        assert run.master.fleet.reason == "first plan, for a, b"
        assert "ready" in run.notifier.told


async def test_a_host_that_does_not_come_is_not_waited_for_for_ever(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a = run.connect("a")
        await run.after(20)
        a.say(report(0))
        await run.after(25.5)
        assert list(a.plan().shards()) == [0, 1, 2, 3]


async def test_plans_tell_how_long_to_wait_before_a_host_paces_itself(
    tmp_path: Path, clock: ManualClock
) -> None:
    """MASTER may believe for a whole lease that a host is in touch, and grant in its windows."""
    async with Running(tmp_path, settings("a"), Discord(answer()), clock) as run:
        a = run.connect("a")
        await run.after()
        # The lease, a ping, and the use of what was granted at the last instant.
        assert a.plan().identify.after == pytest.approx(30 + 5 + 10 + 5.05, abs=0.5)


async def test_without_a_list_hosts_are_gathered_for_a_while(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings(), Discord(answer()), clock) as run:
        assert run.state == "waiting for the first host to connect"
        run.connect("a")
        await run.after(10)
        assert "master.yaml does not list the hosts" in run.state
        assert run.master.fleet is None


async def test_a_host_that_joins_gets_its_share_only_when_it_was_released(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a"), Discord(answer()), clock) as run:
        a = run.connect("a")
        await run.after()
        a.say(report(a.plan().generation, [0, 1, 2, 3]))
        await run.after()
        b = run.connect("b")
        await run.after()
        kept = a.plan()
        assert list(kept.shards()) == [0, 1]
        assert list(b.plan().shards()) == []
        a.say(report(kept.generation, [0, 1, 2, 3]))
        await run.after()
        next_one = b.plan()
        assert (list(next_one.shards()), next_one.identify.slot) == ([], 1), "a slot, and no shard"
        a.say(report(kept.generation, [0, 1], released={2: session("two", 5)}))
        await run.after()
        arrived = b.plan()
        assert list(arrived.shards()) == [2, 3]
        assert arrived.handover == {2: session("two", 5)}
        assert run.master.fleet is not None
        assert run.master.fleet.reason == "b joined"


async def test_the_shard_count_of_a_running_fleet_stays_and_a_difference_is_told(
    tmp_path: Path, clock: ManualClock
) -> None:
    discord = Discord(answer(shards=4))
    async with Running(tmp_path, settings("a"), discord, clock) as run:
        run.connect("a")
        await run.after()
    discord.next = answer(shards=8)
    async with Running(tmp_path, settings("a"), discord, clock) as run:
        run.connect("a")
        await run.after(1)
        assert run.master.fleet is not None
        assert run.master.fleet.shard_count == 4
        assert "Discord recommends 8 shards, the fleet runs 4" in run.troubles


@pytest.mark.covers("F01", "T-09")
async def test_a_rejected_token_is_told_and_master_stays_up_without_asking_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    discord = Discord(DiscordError("Discord rejected the bot token (HTTP 401)", hint="mend it"))
    async with Running(tmp_path, settings("a"), discord, clock) as run:
        run.connect("a")
        await run.after(7200)
        assert discord.asked == 1
        assert run.state == (
            "cannot plan without a shard count: Discord rejected the bot token (HTTP 401)"
        )
        assert run.master.status().troubles[0].severity == "error"
        assert run.master.status().troubles[0].hint == "mend it"
        with pytest.raises(ConfigurationError) as caught:
            run.master.diff(settings("a"))
        assert caught.value.code == "no-plan"


async def test_a_fixed_shard_count_needs_no_discord(tmp_path: Path, clock: ManualClock) -> None:
    discord = Discord(UnavailableError("discord.com cannot be reached"))
    async with Running(tmp_path, settings("a", shard_count=2), discord, clock) as run:
        a = run.connect("a")
        await run.after(1)
        assert list(a.plan().shards()) == [0, 1]
        assert discord.asked >= 1


async def test_a_goodbye_is_acknowledged_and_the_host_keeps_its_shards(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, _ = await running_pair(tmp_path, clock, run)
        generation = run.master.status().generation
        a.say(Goodbye())
        await run.after()
        assert GoodbyeSeen() in a.heard()
        a.leave()
        await run.after(3600)
        assert run.master.status().generation == generation
        host = run.master.status().hosts[0]
        assert host.state == "unattended"
        assert any("a is unattended" in text for text in run.troubles)


async def test_a_goodbye_on_a_replaced_connection_says_nothing_about_the_host(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a"), Discord(answer()), clock) as run:
        old = run.connect("a")
        new = run.connect("a")
        assert old.closed == ["a newer connection of this host replaced this one"]
        old.say(Goodbye())
        old.leave()
        new.leave()
        assert run.master.status().hosts[0].state == "silent"


async def test_a_silent_host_is_dropped_and_told_and_keeps_its_shards_until_it_is_lost(
    tmp_path: Path, clock: ManualClock
) -> None:
    chosen = settings("a", "b", start_wait=10.0)
    async with Running(tmp_path, chosen, Discord(answer()), clock) as run:
        a, b = await running_pair(tmp_path, clock, run)
        before = run.master.status().generation
        for _ in range(31):
            await run.after(1)
            run.master.host_heard(b.connection)
        assert a.closed
        assert a.closed[0] == "nothing was heard for 30 s"
        a.leave()
        await run.after()
        assert "a has been silent for 31 s; its shards are given away in 1 s" in run.troubles
        assert run.state == "2 of 4 shards ready; 2 on hosts out of touch"
        assert run.master.status().generation == before
        await run.after(1.5)
        assert sorted(b.plan().shards()) == [0, 1, 2, 3]


async def test_a_host_that_does_not_come_back_after_a_restart_of_master_is_waited_for_and_told(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        await running_pair(tmp_path, clock, run)
        generation = run.master.status().generation
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        run.connect("b", report(generation, [2, 3]))
        await run.after(5)
        (early,) = run.master.status().troubles
        assert (early.severity, early.host) == ("warning", "a")
        assert "waiting for a" in run.state
        await run.after(20)
        run.connect("b", report(generation, [2, 3]))
        await run.after(19)
        assert run.master.status().generation == generation, "nothing moves in the grace"
        await run.after(2)
        (late,) = run.master.status().troubles
        assert (late.severity, late.host) == ("error", "a")
        assert late.text == "a is lost: its 2 shards went to b"


async def test_a_plan_that_a_host_refuses_is_told(tmp_path: Path, clock: ManualClock) -> None:
    async with Running(tmp_path, settings("a"), Discord(answer()), clock) as run:
        a = run.connect("a")
        await run.after()
        a.say(PlanRefused(generation=1, errors="plan:1: no"))
        await run.after()
        assert "a refused its plan: plan:1: no" in run.troubles


@pytest.mark.covers("T-37", "T-39")
async def test_permits_are_spaced_by_their_use_across_hosts(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_pair(tmp_path, clock, run)
        a.say(PermitRequest(shard=0))
        b.say(PermitRequest(shard=2))
        await run.after()
        assert permitted(a) == [0]
        assert permitted(b) == []
        await run.after(1)
        a.say(PermitUsed(shard=0))
        used = clock.monotonic()
        await run.after(4.7)
        assert permitted(b) == []
        await run.after(0.2)
        (permit,) = permits(b)
        assert permit.shard == 2
        assert permit.since == used + 5.05
        assert permit.until == permit.since + PERMIT_LIFE
        b.say(PermitReturned(shard=2))
        assert run.master.status().identify.remaining == 899


async def test_a_permit_is_not_given_next_to_what_a_host_just_took_from_its_slot(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Host b paced itself until the instant it connected."""
    chosen = settings("a", "b", lease=300.0)
    async with Running(tmp_path, chosen, Discord(answer()), clock) as run:
        a, b = await running_pair(tmp_path, clock, run)
        b.leave()
        await run.after(60)
        b_slot = 1
        while int(clock.wall() / 10.1) % 2 != b_slot:
            await run.after(0.5)
            run.master.host_heard(a.connection)
        run.connect("b", report(1, [2, 3]))
        a.say(PermitRequest(shard=0))
        await run.after(0.1)
        assert a.heard() == []
        for _ in range(30):
            await run.after(0.5)
            run.master.host_heard(a.connection)
        assert permitted(a) == [0]


@pytest.mark.covers("F12", "T-07")
async def test_a_fatal_close_code_stops_identifies_in_words(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_pair(tmp_path, clock, run)
        a.say(report(1, [0, 1], state="fatal", fatal=4004))
        b.say(PermitRequest(shard=2))
        await run.after()
        (denied,) = [m for m in b.heard() if isinstance(m, PermitDenied)]
        assert denied.shard == 2
        assert denied.retry_after > 0
        assert denied.reason == "on a, shard 0 was rejected: Discord closed it with 4004 for good"
        assert denied.reason in run.troubles
        a.say(report(1, [0, 1]))
        b.say(PermitRequest(shard=2))
        await run.after()
        assert permitted(b) == [2]


@pytest.mark.covers("T-04", "T-07", "F12", "O-07")
async def test_every_host_hears_of_a_rejection_and_of_its_end(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_pair(tmp_path, clock, run)
        a.say(report(1, [0, 1], state="fatal", fatal=4014))
        await run.after()
        reason = "on a, shard 0 was rejected: Discord closed it with 4014 for good"
        assert [m for m in b.heard() if isinstance(m, Halt)] == [Halt(reason=reason)]
        b.leave()
        again = run.connect("b", report(1, [2, 3]))
        await run.after()
        assert Halt(reason=reason) in again.heard(), "a new connection hears it, too"
        a.say(report(1, [0, 1]))
        await run.after(1)
        assert Halt(reason=None) in again.heard()


@pytest.mark.covers("T-07", "O-07")
async def test_a_new_master_calls_nothing_well_before_it_has_heard_of_all_hosts(
    tmp_path: Path, clock: ManualClock
) -> None:
    discord = Discord(answer())
    async with Running(tmp_path, settings("a", "b"), discord, clock) as run:
        await running_pair(tmp_path, clock, run)
    async with Running(tmp_path, settings("a", "b"), discord, clock) as run:
        b = run.connect("b", report(1, [2, 3]))
        await run.after(5)
        assert not [m for m in b.heard() if isinstance(m, Halt)]
        run.connect("a", report(1, [0, 1], state="fatal", fatal=4004))
        await run.after()
        (halt,) = [m for m in b.heard() if isinstance(m, Halt)]
        assert halt.reason is not None


@pytest.mark.covers("F01", "T-09", "O-07")
async def test_a_token_that_the_api_does_not_know_is_used_by_nobody(
    tmp_path: Path, clock: ManualClock
) -> None:
    discord = Discord(answer())
    async with Running(tmp_path, settings("a"), discord, clock) as run:
        a = run.connect("a")
        await run.after()
        discord.next = DiscordError("Discord rejected the bot token", code="token-rejected")
        await run.after(3700)
        asked = discord.asked
        assert Halt(reason="Discord rejected the bot token") in a.heard()
        assert "Discord rejected the bot token" in run.troubles
        await run.after(4000)
        assert discord.asked == asked == 2, "one request, then none"


async def test_a_refusal_that_is_not_about_the_token_stops_nobody(
    tmp_path: Path, clock: ManualClock
) -> None:
    discord = Discord(answer())
    async with Running(tmp_path, settings("a"), discord, clock) as run:
        a = run.connect("a")
        await run.after()
        discord.next = DiscordError("Discord's edge does not like this machine (HTTP 403)")
        await run.after(3700)
        assert [m for m in a.heard() if isinstance(m, Halt)] == [Halt(reason=None)]


@pytest.mark.covers("T-58", "F12")
async def test_one_host_tries_for_all_after_4003(tmp_path: Path, clock: ManualClock) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_pair(tmp_path, clock, run)
        a.heard(), b.heard()
        for control, shard in ((a, 1), (b, 3)):
            control.say(ClearanceCase(shard=shard, state="asks"))
        await run.after(30)
        assert clearances(a) == [1]
        assert clearances(b) == []
        a.say(ClearanceCase(shard=1, state="accepted"))
        await run.after()
        assert clearances(b) == [None], "all of b may"


async def test_another_host_tries_when_the_first_cannot(tmp_path: Path, clock: ManualClock) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_pair(tmp_path, clock, run)
        for control, shard in ((a, 1), (b, 3)):
            control.say(ClearanceCase(shard=shard, state="asks"))
        await run.after()
        a.leave()
        await run.after()
        assert clearances(b) == [3]
        b.say(ClearanceCase(shard=3, state="failed"))
        b.say(ClearanceCase(shard=2, state="asks"))
        await run.after(0.9)
        assert clearances(b) == []
        await run.after(0.2)
        assert clearances(b) == [2]


@pytest.mark.covers("T-58", "F12")
async def test_nobody_tries_any_more_once_the_canary_was_rejected(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_pair(tmp_path, clock, run)
        for control, shard in ((a, 1), (b, 3)):
            control.say(ClearanceCase(shard=shard, state="asks"))
        await run.after()
        a.say(report(1, [0, 1], state="fatal", fatal=4014))
        for _ in range(60):
            await run.after(10)
            run.master.host_heard(a.connection)
            run.master.host_heard(b.connection)
        assert clearances(b) == []


def clearances(control: Control) -> list[int | None]:
    return [m.shard for m in control.heard() if isinstance(m, Clearance)]


async def test_what_would_change_is_told_before_it_is_done(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        await running_pair(tmp_path, clock, run)
        assert run.master.diff(settings("a", "b")).summary == "nothing would change"
        heavier = settings(hosts={"a": HostSettings(weight=3), "b": HostSettings()})
        diff = run.master.diff(heavier)
        assert diff.summary == "1 shard would move: 1 from b to a"
        assert diff.changes[0].reason == "a's share by weight grew"


async def test_master_with_lost_files_goes_on_above_the_plans_that_hosts_have(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a = run.connect("a", report(40, [2, 3]))
        b = run.connect("b", report(41, [0, 1]))
        await run.after()
        plan = a.plan()
        assert plan.generation > 41
        assert list(plan.shards()) == []
        assert list(b.plan().shards()) == []
        a.say(report(plan.generation, [], released={2: session("two"), 3: session("three")}))
        b.say(report(plan.generation, [0, 1]))
        await run.after()
        assert b.plan().handover == {2: session("two"), 3: session("three")}


async def test_damaged_files_keep_master_from_starting(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "fleet.yaml").write_text("generation: 0\n")
    with pytest.raises(ConfigurationError, match=r"fleet\.yaml:1: generation: must be at least 1"):
        Running(tmp_path, settings("a"), Discord(answer()), clock)
    (tmp_path / "fleet.yaml").unlink()
    (tmp_path / "identify.json").write_text("{")
    with pytest.raises(StateError, match=r"identify\.json: cannot be read"):
        Running(tmp_path, settings("a"), Discord(answer()), clock)


async def test_the_watchdog_is_fed(tmp_path: Path, clock: ManualClock) -> None:
    async with Running(tmp_path, settings("a"), Discord(answer()), clock) as run:
        await run.after(25)
        assert run.notifier.told.count("watchdog") == 3
    assert run.notifier.told[-1] == "stopping"


async def test_host_that_tells_its_allowance_is_given_one_and_status_shows_it(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_pair(tmp_path, clock, run)
        a.say(AllowanceReport(serial=0))
        await run.after()
        (told,) = [m for m in a.heard() if isinstance(m, Allowance)]
        assert (told.identifies, told.daily) == (200, 225)
        assert not any(isinstance(m, Allowance) for m in b.heard())
        a.say(AllowanceReport(serial=told.serial, identifies=200, daily=225, spent=3))
        await run.after()
        overview = run.master.permits.overview()
        assert overview.allowances == (
            HostAllowance(host="a", present=True, limit=200, left=197, daily=225),
        )
        assert overview.identify.remaining == 897
        assert overview.spendable == 897 - 100 - 197


@pytest.mark.covers("T-02")
async def test_shard_in_a_loop_is_denied_and_told_with_what_it_ended(
    tmp_path: Path, clock: ManualClock
) -> None:
    chosen = settings("a", "b", identify_loop_limit=2)
    async with Running(tmp_path, chosen, Discord(answer()), clock) as run:
        a, _ = await running_pair(tmp_path, clock, run)
        for _ in range(2):
            a.say(PermitUsed(shard=1))
        views = (ShardView(shard=1, state="backoff", problem="Discord closed with 4002"),)
        cluster = ClusterView(cluster=0, unit="active", shards=views)
        a.say(HostReport(plan_generation=1, holding=(0, 1), clusters=(cluster,)))
        a.say(PermitRequest(shard=1))
        await run.after(60)
        reason = "identified 2 times within an hour; the last time it ended with: Discord closed"
        (denied, *_) = [m for m in a.heard() if isinstance(m, PermitDenied)]
        assert denied.shard == 1
        assert reason in denied.reason
        assert any(f"shard 1 held back: {reason}" in text for text in run.troubles)
        assert run.master.permits.resume(ResumeRequest(shards=(1,))).done
        a.say(PermitRequest(shard=1))
        await run.after(30)
        assert any(isinstance(m, Permit) for m in a.heard())


async def test_master_that_restarts_while_discord_does_not_answer_keeps_the_gateway_of_its_plan(
    tmp_path: Path, clock: ManualClock
) -> None:
    """With a shard count of its own it can plan a new fleet without Discord, at the usual address;
    a fleet that runs stays where it is.
    """
    fixed = settings("a", "b", shard_count=4)
    async with Running(tmp_path, fixed, Discord(answer()), clock) as run:
        await running_pair(tmp_path, clock, run)
        assert run.master.fleet is not None
        before = run.master.fleet
    changed = settings("a", "b", shard_count=4, shards_per_cluster=1)
    silent = Discord(UnavailableError("rate limited"))
    async with Running(tmp_path, changed, silent, clock) as run:
        for name, shards in (("a", [0, 1]), ("b", [2, 3])):
            run.connect(name, report(before.generation, shards))
        await run.after(1)
        assert run.master.fleet is not None
        assert run.master.fleet.generation > before.generation, "planned anew"
        assert run.master.fleet.gateway_url == before.gateway_url


async def test_new_fleet_with_a_shard_count_of_its_own_does_not_need_discord_to_answer(
    tmp_path: Path, clock: ManualClock
) -> None:
    silent = Discord(UnavailableError("nobody there"))
    async with Running(tmp_path, settings("a", shard_count=4), silent, clock) as run:
        run.connect("a")
        await run.after(1)
        assert run.master.fleet is not None
        assert run.master.fleet.gateway_url == "wss://gateway.discord.gg"
