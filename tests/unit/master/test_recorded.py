# SPDX-License-Identifier: Apache-2.0
"""What of MASTER's life is found in its events, once each."""

from pathlib import Path

import pytest

from discluster.console import EventQuery, ResumeRequest
from discluster.messages import PermitRequest, PermitUsed, PlanRefused
from tests.clock import ManualClock
from tests.unit.master.fakes import Discord, Running, answer, settings
from tests.unit.master.fleets import report


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def recorded(run: Running, kind: str) -> list[str]:
    return [e.sentence for e in run.events.page(EventQuery()).events if e.kind == kind]


async def test_coming_going_planning_and_giving_are_recorded(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a"), Discord(answer(2)), clock) as run:
        a = run.connect("a")
        await run.after()
        a.say(report(1, [0, 1]))
        await run.after(10)
        a.leave()
        await run.after(10)
        told = recorded(run, "host")
        assert told[0].startswith("a ")
        assert "a is out of touch" in told
        (planned,) = recorded(run, "plan")
        assert planned.startswith("planned generation 1: ")
    assert recorded(run, "master")[-1] == "MASTER stops"


async def test_plan_that_a_host_refuses_is_an_error_of_that_host(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a"), Discord(answer(2)), clock) as run:
        a = run.connect("a")
        await run.after()
        a.say(PlanRefused(generation=1, errors="plan.yaml:3: clusters: no such thing"))
        await run.after()
        (event,) = [
            e for e in run.events.page(EventQuery(host="a")).events if e.severity == "error"
        ]
        assert "refused plan 1" in event.sentence


async def test_rejection_is_recorded_when_it_comes_and_when_it_goes(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with Running(tmp_path, settings("a"), Discord(answer(2)), clock) as run:
        a = run.connect("a")
        await run.after()
        a.say(report(1, [0, 1], state="fatal", fatal=4014))
        await run.after(30)
        a.say(report(1, [0, 1]))
        await run.after(30)
        said, ended = [told for told in recorded(run, "discord") if "dial" in told]
        assert said.startswith("nobody may dial: on a, shard 0 was rejected")
        assert ended == "hosts may dial again: nobody is rejected any more"


async def test_guard_that_stops_a_shard_is_recorded_once_and_so_is_its_release(
    tmp_path: Path, clock: ManualClock
) -> None:
    chosen = settings("a", identify_loop_limit=2)
    async with Running(tmp_path, chosen, Discord(answer(1)), clock) as run:
        a = run.connect("a")
        await run.after()
        for _ in range(3):
            a.say(PermitRequest(shard=0))
            await run.after(20)
            a.say(PermitUsed(shard=0))
            await run.after(20)
        (stopped,) = recorded(run, "identify")
        assert stopped == (
            "shard 0 may not identify any more: identified 2 times within an hour;"
            " 'disclusterctl identify resume' lets go"
        )
        run.master.permits.resume(ResumeRequest())
        (resumed,) = recorded(run, "order")
        assert resumed.startswith("the operator resumes identifying: Released shard 0")
