# SPDX-License-Identifier: Apache-2.0
"""The panel of witnesses, how steadily hosts answer, and who gets which plan when."""

from pathlib import Path

import msgspec
import pytest

from discluster.master.hosts.book import HostBook, HostConnection
from discluster.master.hosts.steadiness import Steadiness
from discluster.master.hosts.witnesses import LARGEST_PANEL, Panel, panel_after, witness_address
from discluster.master.parts import HostPlans
from discluster.messages import HostReport, PlanPush
from discluster.plan import Away, FleetPlan, Grant, HostEntry, Recovery
from tests.clock import ManualClock
from tests.unit.master.fakes import Control, Discord, Running, answer, settings
from tests.unit.master.fleets import GATEWAY, fleet, report

# --- the panel ------------------------------------------------------------------------------------


def of(*names: str) -> dict[str, str]:
    return {name: f"{name}.example.net:7444" for name in names}


def plan(
    *names: str, hosts: tuple[str, ...] | None = None, before: tuple[str, ...] = ()
) -> FleetPlan:
    return FleetPlan(
        generation=1,
        shard_count=1,
        gateway_url=GATEWAY,
        hosts={name: HostEntry() for name in hosts or names},
        witnesses=of(*names),
        panel_before=before,
    )


def going_by(*panel: str) -> HostReport:
    return HostReport(plan_generation=1, panel=panel)


def test_hosts_that_can_be_asked_are_the_first_panel() -> None:
    bare = plan(hosts=("a", "b", "c"))
    found = panel_after(bare, {"a": going_by()}, of("a", "c", "stranger"), owners={"a"})
    assert found == Panel(witnesses=of("a", "c"), before=())


def test_panel_stays_as_it_is_when_others_come_and_is_filled_up_by_name() -> None:
    names = tuple(f"m{n}" for n in range(LARGEST_PANEL))
    full = plan(*names, hosts=("a", *names))
    found = panel_after(full, {}, of("a", *names), owners=())
    assert found.witnesses == of(*names)
    short = plan(*names[1:], hosts=("a", "z", *names[1:]))
    found = panel_after(short, {}, of("a", "z"), owners=())
    assert sorted(found.witnesses) == ["a", *names[1:]]
    assert found.before == names[1:]


def test_panel_changes_only_when_every_owner_goes_by_it() -> None:
    pair = plan("a", "b", hosts=("a", "b", "c"), before=("a",))
    reports = {"a": going_by("a", "b"), "b": going_by("a")}
    waits = panel_after(pair, reports, of("a", "b", "c"), owners={"a", "b"})
    assert waits == Panel(witnesses=of("a", "b"), before=("a",))
    unheard = panel_after(pair, {"a": reports["a"]}, of("a", "b", "c"), owners={"a", "b"})
    assert unheard == waits
    reports["b"] = going_by("b", "a")
    changed = panel_after(pair, reports, of("a", "b", "c"), owners={"a", "b"})
    assert changed == Panel(witnesses=of("a", "b", "c"), before=("a", "b"))


def test_panel_before_is_forgotten_when_nobody_goes_by_it() -> None:
    pair = plan("a", "b", before=("a",))
    reports = {name: going_by("a", "b") for name in "ab"}
    assert panel_after(pair, reports, {}, owners={"a", "b"}).before == ()


def test_lost_hosts_and_hosts_that_left_are_no_witnesses() -> None:
    trio = plan("a", "b", "c", hosts=("a", "b"))
    reports = {"a": going_by("a", "b", "c")}
    found = panel_after(trio, reports, {}, owners={"a"}, lost=["b"])
    assert found == Panel(witnesses=of("a"), before=("a", "b", "c"))


def test_host_that_has_another_address_is_asked_there_at_once() -> None:
    pair = plan("a", "b")
    found = panel_after(pair, {}, {"b": "192.0.2.7:1"}, owners={"a"})
    assert found.witnesses == of("a") | {"b": "192.0.2.7:1"}


@pytest.mark.parametrize(
    ("told", "seen", "address"),
    [
        ("192.0.2.1:7444", "198.51.100.9", "192.0.2.1:7444"),
        (":7444", "198.51.100.9", "198.51.100.9:7444"),
        (":7444", "2001:db8::1", "[2001:db8::1]:7444"),
        (":7444", "::ffff:192.0.2.1", "192.0.2.1:7444"),
        (":7444", None, None),
        (None, "198.51.100.9", None),
        ("nonsense with spaces", "198.51.100.9", None),
    ],
)
def test_where_a_host_can_be_asked(told: str | None, seen: str | None, address: str | None) -> None:
    assert witness_address(told, seen) == address


# --- pings ----------------------------------------------------------------------------------------


def answered(*times: tuple[float, float]) -> Steadiness:
    """``times``: when each ping was sent and answered."""
    steady = Steadiness()
    for number, (sent, came) in enumerate(times):
        steady.pinged(number, sent)
        steady.answered(number, came, lease=30.0)
    return steady


def test_host_is_steady_since_its_first_answer_for_as_long_as_they_come() -> None:
    steady = answered((0.0, 1.0), (5.0, 6.0), (10.0, 10.5))
    assert steady.lasts(12.0, lease=30.0) == 11.0
    assert steady.lasts(19.8, lease=30.0) == 18.8
    assert steady.lasts(20.0, lease=30.0) == 0.0, "it may not have heard since 10.0"


def test_late_answer_begins_anew_since_nobody_knows_when_the_ping_arrived() -> None:
    steady = answered((0.0, 0.1), (5.0, 10.0))
    assert steady.lasts(11.0, lease=30.0) == 1.0


def test_answers_to_nothing_and_old_answers_say_nothing() -> None:
    steady = answered((0.0, 0.1))
    steady.answered(99, 5.0, lease=30.0)
    steady.answered(0, 9.0, lease=30.0)
    assert steady.lasts(9.5, lease=30.0) == pytest.approx(9.4)
    assert steady.lasts(10.0, lease=30.0) == 0.0


def test_nothing_is_known_of_a_host_without_answers_or_after_a_sleep() -> None:
    assert Steadiness().lasts(5.0, lease=30.0) == 0.0
    steady = answered((0.0, 0.1))
    steady.begin_anew()
    assert steady.lasts(0.2, lease=30.0) == 0.0


def test_pings_that_nobody_answers_take_no_room() -> None:
    steady = Steadiness()
    for number in range(1000):
        steady.pinged(number, float(number))
    steady.answered(0, 1000.0, lease=30.0)
    assert steady.lasts(1000.0, lease=30.0) == 0.0
    steady.answered(999, 1000.0, lease=30.0)
    assert steady.lasts(1001.0, lease=30.0) == 1.0


def test_time_in_which_master_stood_still_is_no_silence_of_a_host() -> None:
    clock = ManualClock()
    book = HostBook(clock=clock)
    closed: list[str] = []
    connection = HostConnection("a", closed.append)
    book.connect(connection, "1", report(0))
    connection.steadiness.pinged(1, clock.monotonic())
    connection.steadiness.answered(1, clock.monotonic(), lease=30.0)
    clock.jump(9.0)
    book.stood_still(5.0, asleep=False)
    (sight,) = book.sights(lease=30.0).values()
    assert (sight.quiet, sight.steady) == (4.0, 9.0)
    book.stood_still(60.0, asleep=True)
    (sight,) = book.sights(lease=30.0).values()
    assert (sight.quiet, sight.steady) == (0.0, 0.0)


# --- who gets the newest plan ---------------------------------------------------------------------

THREE = fleet(
    {"a": {0: [0]}, "b": {1: [1]}, "c": {2: [2]}},
    generation=7,
    granted={0: Grant(host="a"), 1: Grant(host="b"), 2: Grant(host="c")},
)


def waited_for(after: FleetPlan) -> set[str]:
    parts = HostPlans(after)
    return {host for host in "abc" if parts.must_report(host, report(7))}


def test_nobody_waits_for_a_report_of_hosts_that_give_up_nothing() -> None:
    assert waited_for(THREE) == set()
    leaves = msgspec.structs.replace(
        THREE, granted=THREE.granted | {1: Grant(host="b", withdrawn=7)}
    )
    assert waited_for(leaves) == {"b"}
    recovers = msgspec.structs.replace(THREE, recovery=Recovery(generation=8, hosts=("a",)))
    assert waited_for(recovers) == {"a", "b", "c"}


def test_witnesses_of_a_host_that_is_lost_must_report_what_was_taken_from_it() -> None:
    lost = msgspec.structs.replace(
        THREE,
        granted=THREE.granted | {2: Grant(host="c", withdrawn=7)},
        away={"c": Away(state="lost", at=1.0)},
    )
    assert waited_for(lost) == {"c"}
    assert waited_for(msgspec.structs.replace(lost, witnesses=of("a"))) == {"a", "c"}
    assert waited_for(msgspec.structs.replace(lost, panel_before=("b",))) == {"b", "c"}


async def test_plan_that_changes_nothing_for_a_host_reaches_it_when_there_is_calm(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        hosts = {name: run.connect(name) for name in ("a", "b")}
        await run.after()
        generation = 0
        for control in hosts.values():
            told = control.plan()
            generation = told.generation
            control.say(report(generation, told.shards()))
        await run.after(5)
        _ = [control.heard() for control in hosts.values()]
        hosts["a"].say(msgspec.structs.replace(report(generation, [0, 1]), leaving=True))
        await run.after(1)
        assert pushed(hosts["a"]) > generation
        assert pushed(hosts["b"]) == 0, "it gets nothing before a has let go"
        await run.after(5)
        assert pushed(hosts["b"]) > generation
        again = run.connect("b", report(generation, [2, 3]))
        await run.after()
        assert pushed(again) > generation, "a new connection always gets one"


async def test_master_that_stops_leaves_all_hosts_with_the_same_plan_and_tells_them(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        hosts = {name: run.connect(name) for name in ("a", "b")}
        await run.after()
        generation = max(pushed(control) for control in hosts.values())
        hosts["a"].say(msgspec.structs.replace(report(generation, [0, 1]), leaving=True))
        await run.after()
        assert pushed(hosts["b"]) == 0
    assert pushed(hosts["b"]) > generation
    assert [control.closed for control in hosts.values()] == [["MASTER stops"]] * 2


def pushed(control: Control) -> int:
    """Generation of the last plan that came, 0 if none did."""
    return max((m.generation for m in control.heard() if isinstance(m, PlanPush)), default=0)
