# SPDX-License-Identifier: Apache-2.0
"""Hosts whose machine goes down: MASTER gives their shards to others, or lets them keep them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import pytest

from discluster.messages import Goodbye, GoodbyeSeen, HostReport, PlanPush
from discluster.plan import Session
from tests.clock import ManualClock
from tests.unit.master.fakes import Control, Discord, Running, answer, settings
from tests.unit.master.fleets import report, session


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def leaving(
    generation: int, running: Iterable[int] = (), *, released: Mapping[int, Session] | None = None
) -> HostReport:
    told = report(generation, running, released=released)
    return msgspec.structs.replace(told, leaving=True)


async def running_fleet(run: Running, *names: str) -> list[Control]:
    """Hosts that run what they were told."""
    controls = [run.connect(name) for name in names]
    await run.after()
    for control in controls:
        plan = control.plan()
        control.say(report(plan.generation, plan.shards()))
    await run.after()
    return controls


def answered(control: Control) -> bool:
    return GoodbyeSeen() in control.heard()


async def test_host_that_goes_down_is_answered_when_its_shards_are_others(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_fleet(run, "a", "b")
        generation = run.master.status().generation
        a.say(leaving(generation, [0, 1]))
        await run.after()
        withdrawn = a.plan()
        assert withdrawn.clusters == {}
        assert run.master.fleet is not None
        assert run.master.fleet.reason == "a goes down"
        assert not any(isinstance(m, PlanPush) for m in b.heard()), "not before a has let go"
        a.say(Goodbye())
        await run.after()
        assert not answered(a)
        sessions = {0: session("zero", 5), 1: session("one", 6)}
        a.say(leaving(withdrawn.generation, released={0: sessions[0]}))
        await run.after()
        assert answered(a)
        taken = b.plan()
        assert sorted(taken.shards()) == [0, 1, 2, 3]
        assert taken.handover == {0: sessions[0]}


async def test_host_that_went_down_is_no_trouble_and_gets_its_share_when_it_is_back(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_fleet(run, "a", "b")
        a.say(leaving(run.master.status().generation))
        await run.after()
        a.say(leaving(a.plan().generation))
        a.say(Goodbye())
        await run.after()
        a.leave()
        await run.after(3600)
        taken = b.plan()
        b.say(report(taken.generation, taken.shards()))
        await run.after()
        assert run.master.status().hosts[0].state == "down"
        assert not any("a " in text for text in run.troubles), run.troubles
        again = run.connect("a", report(taken.generation))
        await run.after()
        kept = b.plan()
        assert sorted(kept.shards()) == [2, 3], "what b had before, so fewest moves"
        b.say(report(kept.generation, kept.shards(), released={0: session("zero", 9)}))
        await run.after()
        back = again.plan()
        assert sorted(back.shards()) == [0, 1]
        assert back.handover == {0: session("zero", 9)}


async def test_last_host_is_answered_at_once_and_keeps_its_shards(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a"), Discord(answer()), clock) as run:
        (a,) = await running_fleet(run, "a")
        generation = run.master.status().generation
        a.say(leaving(generation, [0, 1, 2, 3]))
        a.say(Goodbye())
        await run.after()
        assert answered(a)
        a.leave()
        await run.after(3600)
        assert run.master.status().hosts[0].state == "down"
        assert run.master.status().hosts[0].clusters == ()
        assert any("a was shut down; nobody else could take its" in t for t in run.troubles)
        again = run.connect("a", report(generation, [0, 1, 2, 3]))
        await run.after()
        assert sorted(again.plan().shards()) == [0, 1, 2, 3]
        assert run.troubles == []


async def test_whole_fleet_that_goes_down_at_once_is_answered_at_once(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_fleet(run, "a", "b")
        generation = run.master.status().generation
        for host, shards in ((a, [0, 1]), (b, [2, 3])):
            host.say(leaving(generation, shards))
        for host in (a, b):
            host.say(Goodbye())
        await run.after()
        assert answered(a)
        assert answered(b)
        for host in (a, b):
            host.leave()
        await run.after()
        assert run.master.fleet is not None
        assert {shard: place[0] for shard, place in run.master.fleet.targets().items()} == {
            **dict.fromkeys([0, 1], "a"),
            **dict.fromkeys([2, 3], "b"),
        }


async def test_host_that_goes_down_while_its_shards_come_to_it_is_not_waited_for(
    tmp_path: Path, clock: ManualClock
) -> None:
    """b goes down while it takes a's shards: they wait for b, with their sessions, and a may go."""
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = await running_fleet(run, "a", "b")
        a.say(leaving(run.master.status().generation, [0, 1]))
        await run.after()
        withdrawn = a.plan().generation
        b.say(leaving(withdrawn, [2, 3]))
        b.say(Goodbye())
        await run.after()
        assert answered(b)
        a.say(leaving(withdrawn, released={0: session("zero", 5)}))
        a.say(Goodbye())
        await run.after()
        assert answered(a)
        waiting = b.plan()
        assert sorted(waiting.shards()) == [0, 1, 2, 3]
        assert waiting.handover == {0: session("zero", 5)}


async def test_shards_of_a_host_that_goes_down_go_to_no_host_out_of_touch(
    tmp_path: Path, clock: ManualClock
) -> None:
    discord = Discord(answer(shards=6))
    chosen = settings("a", "b", "c", start_wait=0.0)
    async with Running(tmp_path, chosen, discord, clock) as run:
        a, _, c = await running_fleet(run, "a", "b", "c")
        c.leave()
        await run.after()
        a.say(leaving(run.master.status().generation, [0, 1]))
        await run.after()
        assert run.master.fleet is not None
        shares = {host: len(entry.clusters) for host, entry in run.master.fleet.hosts.items()}
        assert shares == {"a": 0, "b": 2, "c": 1}


async def test_shutdown_that_is_called_off_gives_the_host_its_share_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, _ = await running_fleet(run, "a", "b")
        a.say(leaving(run.master.status().generation, [0, 1]))
        await run.after()
        withdrawn = a.plan()
        assert withdrawn.clusters == {}
        a.say(report(withdrawn.generation, [0, 1]))
        await run.after()
        assert sorted(a.plan().shards()) == [0, 1]


async def test_master_that_plans_nothing_yet_keeps_no_host_from_going_down(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        await running_fleet(run, "a", "b")
        generation = run.master.status().generation
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as again:
        a = again.connect("a", report(generation, [0, 1]))
        await again.after()
        assert "waiting for b" in again.state
        a.say(leaving(generation, [0, 1]))
        a.say(Goodbye())
        await again.after()
        assert answered(a)
