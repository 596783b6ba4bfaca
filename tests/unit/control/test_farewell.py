# SPDX-License-Identifier: Apache-2.0
"""How CONTROL leaves: alone, or with its machine."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from discluster.control.farewell import Farewell, last_steps
from discluster.control.reconcile import Assign, Decision, Observed, Settle, Start, Stop, decide
from discluster.control.supervisor import UnitView
from discluster.errors import SupervisorError
from discluster.messages import Assignment, Goodbye, GoodbyeSeen, Held, HostReport
from discluster.plan import HostPlan
from tests.unit.control.masters import WELCOME, Conversation, SmallMaster
from tests.unit.control.test_daemon import FakeSupervisor, Host, plan
from tests.waiting import wait_for

ACTIVE, INACTIVE = UnitView(state="active"), UnitView(state="inactive")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class FakeLink:
    """Acknowledges or not; ``patience``: how long it was given."""

    def __init__(self, *, connected: bool = True, answers: bool = True) -> None:
        self.connected = connected
        self.answers = answers
        self.patience: float | None = None

    async def say_goodbye(self, patience: float) -> bool:
        self.patience = patience
        return self.answers


def held(cluster: int, *shards: int) -> Held:
    return Held(
        assignment=Assignment(
            cluster=cluster,
            generation=1,
            shard_count=8,
            gateway_url="wss://gateway.example",
            shards=shards,
        )
    )


def last(new: HostPlan, units: Mapping[int, UnitView], *, stop: bool) -> Decision:
    seen = Observed(units=units, held={3: held(3, 0, 1)})
    return last_steps(decide(new, seen), new, seen, stop=stop)


def test_nothing_is_started_on_a_machine_that_goes_down() -> None:
    wanted = plan(c3=(0, 1))
    seen = Observed(units={3: INACTIVE}, held={3: held(3, 0, 1)})
    assert decide(wanted, seen).steps == (Start(3),)
    decision = last(wanted, {3: INACTIVE}, stop=False)
    assert decision.steps == ()
    assert decision.sentence == "this host goes down; 2 shards are still this host's"


def test_what_systemd_stops_is_left_to_it() -> None:
    assert last(plan(6), {3: ACTIVE}, stop=False).steps == ()
    assert last(plan(6), {3: ACTIVE}, stop=True).steps == (Stop(3),)


def test_clusters_that_end_with_control_are_stopped_before_their_shards_are_withdrawn() -> None:
    assert last(plan(c3=(0, 1)), {3: ACTIVE}, stop=True).steps == (Stop(3),)
    assert last(plan(c3=(0, 1)), {3: INACTIVE}, stop=True).steps == ()


def test_shards_that_were_withdrawn_are_let_go_once_their_cluster_has_stopped() -> None:
    (step,) = last(plan(6), {3: INACTIVE}, stop=False).steps
    assert isinstance(step, Assign)
    assert (step.held.assignment.shards, step.held.leaving) == ((), (0, 1))
    seen = Observed(units={3: INACTIVE}, held={3: step.held})
    (settled,) = last_steps(decide(plan(6), seen), plan(6), seen, stop=False).steps
    assert isinstance(settled, Settle)
    seen = Observed(units={3: INACTIVE}, held={3: settled.held})
    ended = last_steps(decide(plan(6), seen), plan(6), seen, stop=False)
    assert ended.sentence == "this host goes down; it has no shards any more"


@pytest.mark.parametrize(
    ("shutdown", "outlive", "leaving"),
    [(False, True, False), (True, True, True), (False, False, True)],
    ids=["control restarts", "machine shuts down", "clusters end with control"],
)
async def test_host_leaves_only_if_its_clusters_stop(
    shutdown: bool, outlive: bool, leaving: bool
) -> None:
    supervisor = FakeSupervisor()
    supervisor.shutdown, supervisor.clusters_outlive_control = shutdown, outlive
    farewell, link = Farewell(supervisor), FakeLink()
    assert not farewell.leaving
    await farewell.begin()
    assert farewell.leaving is leaving
    words = await farewell.take_leave(link)
    assert ("the clusters run on" in words) is not leaving
    assert link.patience == (10.0 if leaving else 2.0)


async def test_shutdown_that_is_called_off_is_over() -> None:
    supervisor = FakeSupervisor()
    supervisor.shutdown = True
    farewell = Farewell(supervisor)
    await farewell.look()
    assert farewell.leaving
    supervisor.shutdown = False
    await farewell.look()
    assert not farewell.leaving


class LostSupervisor(FakeSupervisor):
    """Its bus went away."""

    async def going_down(self) -> bool:
        raise SupervisorError("systemd: the bus is gone")


async def test_supervisor_that_cannot_be_asked_does_not_hinder_the_stop() -> None:
    farewell = Farewell(LostSupervisor())
    await farewell.begin()
    assert not farewell.leaving
    assert (
        await farewell.take_leave(None)
        == "MASTER is away; the clusters run on until their lease ends"
    )


@pytest.mark.parametrize(
    ("link", "told"),
    [
        (None, "MASTER is away; the clusters stop"),
        (FakeLink(connected=False), "MASTER is away; the clusters stop"),
        (FakeLink(answers=False), "MASTER did not acknowledge it; the clusters stop"),
        (FakeLink(), "MASTER knows that this host goes down"),
    ],
    ids=["not joined", "away", "deaf", "there"],
)
async def test_what_came_of_the_goodbye_is_told(link: FakeLink | None, told: str) -> None:
    supervisor = FakeSupervisor()
    supervisor.shutdown = True
    farewell = Farewell(supervisor)
    await farewell.begin()
    assert told in await farewell.take_leave(link)


async def test_machine_that_goes_down_hands_its_shards_over_before_control_ends(
    host: Host, tmp_path: Path
) -> None:
    """As systemd does it: the clusters stop first, then CONTROL is told to."""
    heard: list[object] = []
    master = SmallMaster(tmp_path / "master")

    def reported(**expected: object) -> bool:
        reports = [m for m in heard if isinstance(m, HostReport)]
        return bool(reports) and all(
            getattr(reports[-1], name) == value for name, value in expected.items()
        )

    async def script(conversation: Conversation) -> None:
        heard.append(await conversation.hear())
        await conversation.say(WELCOME)
        while not isinstance(heard[-1], Goodbye):
            heard.append(await conversation.hear())
        await conversation.say(GoodbyeSeen())
        await conversation.socket.receive()

    master.script = script
    async with master.serve(), host.running(host.link_to(master)):
        host.push(plan(c3=(0, 1)))
        await wait_for(lambda: reported(holding=(0, 1), leaving=False), 5)
        host.supervisor.shutdown = True
        host.supervisor.changed()
        await wait_for(lambda: reported(holding=(0, 1), leaving=True), 5)
        host.push(plan(6))
        await host.says("this host goes down; 2 shards are still this host's")
        host.supervisor.running[3] = INACTIVE
        host.supervisor.changed()
        await wait_for(lambda: reported(holding=(), plan_generation=6, leaving=True), 5)
        await host.says("this host goes down; it has no shards any more")
    assert isinstance(heard[-1], Goodbye)
    assert host.supervisor.calls == [("start", 3)], "systemd stopped the cluster, and nobody else"


async def test_shutdown_that_is_called_off_brings_the_clusters_back(host: Host) -> None:
    async with host.running():
        host.push(plan(c3=(0, 1)))
        await host.says("nothing to do")
        host.supervisor.shutdown = True
        host.supervisor.running[3] = INACTIVE
        host.supervisor.changed()
        await host.says("this host goes down; 2 shards are still this host's")
        assert host.supervisor.calls == [("start", 3)]
        host.supervisor.shutdown = False
        host.supervisor.changed()
        await wait_for(lambda: host.supervisor.calls == [("start", 3)] * 2, 5)


async def test_control_that_takes_its_clusters_along_stops_them_before_its_goodbye_is_answered(
    host: Host, tmp_path: Path
) -> None:
    """As with the embedded supervisor, whose clusters end with CONTROL."""
    host.supervisor.clusters_outlive_control = False
    heard: list[object] = []
    master = SmallMaster(tmp_path / "master")

    async def script(conversation: Conversation) -> None:
        heard.append(await conversation.hear())
        await conversation.say(WELCOME)
        while not isinstance(heard[-1], Goodbye):
            heard.append(await conversation.hear())
        await wait_for(lambda: ("stop", 3) in host.supervisor.calls, 5)
        await conversation.say(GoodbyeSeen())
        await conversation.socket.receive()

    master.script = script
    async with master.serve(), host.running(host.link_to(master)):
        host.push(plan(c3=(0, 1)))
        await host.says("nothing to do")
        assert not any(isinstance(m, HostReport) and m.leaving for m in heard)
    (*_, before, goodbye) = heard
    assert isinstance(before, HostReport)
    assert before.leaving
    assert isinstance(goodbye, Goodbye)
    assert host.supervisor.calls == [("start", 3), ("stop", 3)]
