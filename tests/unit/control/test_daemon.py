# SPDX-License-Identifier: Apache-2.0
"""CONTROL's loop with a real socket, a real disk and a real link; the supervisor is scripted."""

import asyncio
import os
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from discluster import places
from discluster.clock import SystemClock
from discluster.control.addresses import Endpoint
from discluster.control.clusters import ClusterHub
from discluster.control.daemon import ControlDaemon
from discluster.control.lease import NO_LEASE
from discluster.control.link import MasterLink
from discluster.control.permits import PermitDesk
from discluster.control.store import ControlStore
from discluster.control.supervisor import UnitView, Usage
from discluster.control.witness import Witness
from discluster.errors import StateError, SupervisorError, UnavailableError
from discluster.lease import boottime, holds, read_lease
from discluster.master.access.authority import Authority
from discluster.messages import (
    AllowanceReport,
    Assignment,
    Clearance,
    ClearanceCase,
    ClusterReport,
    Goodbye,
    GoodbyeSeen,
    Halt,
    Held,
    Hello,
    HostReport,
    Lease,
    Message,
    Permit,
    PermitRequest,
    PermitUsed,
    PlanPush,
    PlanRefused,
    ShardView,
    control_to_cluster,
    decode,
    encode,
)
from discluster.plan import ClusterPlan, HostPlan, IdentifySlots, digest, host_plan_to_yaml
from tests.notifier import RecordingNotifier
from tests.unit.control.leases import BOOT, leasing
from tests.unit.control.masters import NOW, WELCOME, Conversation, SmallMaster, joined_identity
from tests.unit.control.purses import full_purse
from tests.waiting import wait_for


def plan(generation: int = 5, host: str = "alpha", **clusters: tuple[int, ...]) -> HostPlan:
    return HostPlan(
        generation=generation,
        shard_count=8,
        host=host,
        gateway_url="wss://gateway.example",
        clusters={int(c[1:]): ClusterPlan(shards=shards) for c, shards in clusters.items()},
        identify=IdentifySlots(slot=0, slots=1),
    )


class FakeSupervisor:
    """Starts what it is told at once, or when :attr:`gate` opens."""

    def __init__(self) -> None:
        self.running: dict[int, UnitView] = {}
        self.calls: list[tuple[str, int]] = []
        self.asked = 0
        self.trouble: SupervisorError | None = None
        self.refusal: SupervisorError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.listing = asyncio.Event()
        self.listing.set()
        self.closed = False
        self.changed: Callable[[], None] = lambda: None
        self.clusters_outlive_control = True
        self.shutdown = False

    async def open(self, on_change: Callable[[], None]) -> None:
        self.changed = on_change

    async def units(self) -> Mapping[int, UnitView]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        seen = dict(self.running)
        await self.listing.wait()
        return seen

    async def going_down(self) -> bool:
        return self.shutdown

    async def start(self, cluster: int) -> None:
        self.calls.append(("start", cluster))
        if self.refusal is not None:
            raise self.refusal
        await self.gate.wait()
        self.running[cluster] = UnitView(state="active")

    async def stop(self, cluster: int) -> None:
        self.calls.append(("stop", cluster))
        await self.gate.wait()
        self.running[cluster] = UnitView(state="inactive")

    async def runs(self, cluster: int, pid: int) -> bool:
        """One process plays all clusters here."""
        return pid == os.getpid()

    async def close(self) -> None:
        self.closed = True


class Host:
    """One CONTROL on a directory that outlives it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.supervisor = FakeSupervisor()
        self.notifier = RecordingNotifier(0.02)
        self.clock = SystemClock()
        self.store = ControlStore(directory)
        self.permits = PermitDesk(clock=self.clock, interval=0.2, purse=full_purse(self.clock))
        self.leasing = leasing(directory)
        self.daemon = ControlDaemon(
            host="alpha",
            store=self.store,
            supervisor=self.supervisor,
            permits=self.permits,
            leasing=self.leasing,
            clock=self.clock,
            notifier=self.notifier,
            checkpoint_interval=0.05,
        )
        self.path = directory / "control.sock"
        self.stop = asyncio.Event()

    def _hub(self) -> ClusterHub:
        return ClusterHub(
            path=self.path,
            user=os.getuid,
            runs=self.supervisor.runs,
            on_report=self.daemon.cluster_reported,
            on_gone=self.daemon.cluster_gone,
            on_permit=self.daemon.permit_message,
            on_call=lambda _, __: None,
        )

    def link_to(self, master: SmallMaster) -> MasterLink:
        identity = joined_identity(self.directory / "identity", master.authority)
        return MasterLink(
            url=lambda: master.url,
            ssl_context=lambda: identity.ssl_context("alpha", now=self.clock.wall()),
            hello=self.daemon.hello,
            on_connected=self.daemon.master_connected,
            on_lost=self.daemon.master_lost,
            on_message=self.daemon.master_said,
            contact=self.leasing,
            clock=self.clock,
            rng=random.Random(1),
            connect_timeout=5,
            longest_pause=0.2,
        )

    @asynccontextmanager
    async def running(
        self, link: MasterLink | None = None, *, witness: Witness | None = None
    ) -> AsyncIterator["Host"]:
        body = self.daemon.run(hub=self._hub(), link=link, stop=self.stop, witness=witness)
        task = asyncio.create_task(body)
        await wait_for(lambda: "READY" in self.notifier.told or task.done(), 5)
        try:
            yield self
        finally:
            self.stop.set()
            async with asyncio.timeout(10):
                await task

    def push(self, new: HostPlan, *, checksum: str | None = None) -> None:
        text = host_plan_to_yaml(new)
        self.daemon.master_said(
            PlanPush(generation=new.generation, sha256=checksum or digest(text), text=text)
        )

    async def says(self, text: str) -> None:
        await wait_for(lambda: any(text in told for told in self.notifier.told), 5, what=text)


class Cluster:
    """A cluster's end of the socket, by hand."""

    def __init__(self, host: Host, cluster: int) -> None:
        self.host = host
        self.cluster = cluster

    async def __aenter__(self) -> "Cluster":
        self._reader, self._writer = await asyncio.open_unix_connection(self.host.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    def report(
        self,
        generation: int,
        *shards: int,
        latency: float | None = None,
        problem: str | None = None,
    ) -> None:
        self.say(
            ClusterReport(
                cluster=self.cluster,
                pid=1,
                generation=generation,
                uptime=1,
                handler="",
                shards=tuple(ShardView(shard=s, state="ready", latency=latency) for s in shards),
                problem=problem,
            )
        )

    def say(self, message: Message) -> None:
        self._writer.write(encode(message) + b"\n")

    async def hear(self) -> Message:
        """The next message but a lease, and the word that all is well."""
        while (message := await self.hear_any()) == Halt(reason=None):
            pass
        return message

    async def hear_any(self) -> Message:
        """The next message but a lease."""
        while isinstance(message := await self._hear(), Lease):
            pass
        return message

    async def hear_lease(self) -> Lease:
        """The next lease."""
        while not isinstance(message := await self._hear(), Lease):
            pass
        return message

    async def hear_any_but_halts(self) -> Message:
        while isinstance(message := await self._hear(), Halt):
            pass
        return message

    async def _hear(self) -> Message:
        message: Message = decode(control_to_cluster, await self._line(), peer="CONTROL")
        return message

    async def _line(self) -> bytes:
        async with asyncio.timeout(5):
            return await self._reader.readline()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def stored(host: Host, cluster: int) -> Assignment:
    return host.store.load_held()[cluster].assignment


async def test_plan_is_stored_then_its_clusters_are_started(host: Host) -> None:
    async with host.running():
        host.push(plan(c3=(0, 1), c4=(2,)))
        assert host.store.load_plan() == plan(c3=(0, 1), c4=(2,))
        await host.says("nothing to do: clusters 3, 4 run generation 5")
    assert sorted(host.supervisor.calls) == [("start", 3), ("start", 4)]
    assert stored(host, 3).shards == (0, 1)
    assert host.supervisor.closed


async def test_host_starts_from_disk_without_master(host: Host, tmp_path: Path) -> None:
    async with host.running():
        host.push(plan(c3=(0, 1)))
        await host.says("nothing to do")
    again = Host(tmp_path)
    async with again.running():
        await again.says("nothing to do")
    assert again.supervisor.calls == [("start", 3)]


@pytest.mark.parametrize(
    ("push", "told"),
    [
        (lambda h: h.push(plan(6, "beta")), "the plan is for beta, this host is alpha"),
        (lambda h: h.push(plan(4)), "the plan's generation is 4, but 5 is in force here"),
        (lambda h: h.push(plan(6), checksum="0"), "does not match its checksum"),
        (
            lambda h: h.daemon.master_said(
                PlanPush(generation=6, sha256=digest("generation: x\n"), text="generation: x\n")
            ),
            "plan 6:1: generation",
        ),
    ],
    ids=["host", "generation", "checksum", "invalid"],
)
async def test_refused_plan_leaves_the_last_in_force(
    host: Host, push: Callable[[Host], None], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with host.running():
        host.push(plan(c3=(0, 1)))
        await host.says("nothing to do")
        push(host)
        assert told in caplog.text
        assert host.daemon.report().plan_generation == 5
        assert host.store.load_plan() == plan(c3=(0, 1))
    assert host.supervisor.calls == [("start", 3)]


async def test_master_hears_of_a_refused_plan_and_gets_goodbye(host: Host, tmp_path: Path) -> None:
    heard: list[object] = []
    master = SmallMaster(tmp_path / "master")

    async def script(conversation: Conversation) -> None:
        heard.append(await conversation.hear())
        await conversation.say(WELCOME)
        await conversation.say(PlanPush(generation=9, sha256="0", text=""))
        while not isinstance(heard[-1], Goodbye):
            heard.append(await conversation.hear())
        await conversation.say(GoodbyeSeen())
        await conversation.socket.receive()

    master.script = script
    async with master.serve(), host.running(host.link_to(master)):
        await wait_for(lambda: any(isinstance(m, PlanRefused) for m in heard), 5)
        await wait_for(lambda: any(isinstance(m, HostReport) for m in heard), 5)
    assert isinstance(heard[0], Hello)
    assert isinstance(heard[-1], Goodbye)
    assert host.notifier.told[-1] == "STOPPING" or "STOPPING" in host.notifier.told


async def test_control_without_master_waits_and_says_so(host: Host, tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    async with master.serve():
        pass
    async with host.running(host.link_to(master)):
        await host.says("no plan yet; MASTER: ")
        host.daemon._wake.set()
        await wait_for(lambda: "cannot be reached" in host.daemon.status().master, 5)


async def test_without_seeing_the_units_no_step_is_taken(host: Host) -> None:
    host.supervisor.trouble = SupervisorError("systemd: the bus is gone", hint="mend it")
    async with host.running():
        host.push(plan(c3=(0,)))
        await host.says("cannot see the clusters: systemd: the bus is gone (mend it)")
        assert host.supervisor.calls == []
        assert host.daemon.report().problems == ("systemd: the bus is gone (mend it)",)
        host.supervisor.trouble = None
        host.supervisor.changed()
        await host.says("nothing to do")
        assert host.daemon.report().problems == ()


async def test_refused_start_is_reported_with_its_hint(host: Host) -> None:
    host.supervisor.refusal = SupervisorError("not allowed", hint="polkit")
    async with host.running():
        host.push(plan(c3=(0,)))
        await wait_for(lambda: host.daemon.report().clusters, 5)
        await wait_for(
            lambda: host.daemon.report().clusters[0].problem == "not allowed (polkit)", 5
        )
        assert len(host.supervisor.calls) == 1, "not tried again in a tight loop"


async def test_cluster_gets_changes_while_it_runs_and_its_shard_moves_once_released(
    host: Host,
) -> None:
    async with host.running(), Cluster(host, 3) as three, Cluster(host, 4) as four:
        host.push(plan(c3=(0, 1), c4=(2,)))
        await host.says("nothing to do")
        three.report(1, 0, 1)
        four.report(1, 2)
        await wait_for(lambda: len(host.daemon._reports) == 2, 5)
        host.push(plan(6, c3=(0,), c4=(1, 2)))
        narrowed = await three.hear()
        assert isinstance(narrowed, Assignment)
        assert (narrowed.shards, narrowed.generation) == ((0,), 2)
        assert stored(host, 4).shards == (2,)
        assert 1 in host.daemon.report().holding
        three.report(2, 0)
        widened = await four.hear()
        assert isinstance(widened, Assignment)
        assert widened.shards == (1, 2)
    assert {call for call, _ in host.supervisor.calls} == {"start"}, "no restart"


async def test_cluster_with_an_older_assignment_is_told_the_newest(host: Host) -> None:
    async with host.running():
        host.push(plan(c3=(0, 1)))
        await host.says("nothing to do")
        async with Cluster(host, 3) as three:
            three.report(0)
            told = await three.hear()
            assert isinstance(told, Assignment)
            assert told.shards == (0, 1)


async def test_shards_of_a_cluster_that_just_started_are_held(host: Host) -> None:
    """Between the end of the start and the next look at the units, MASTER must not hear that the
    shards are free.
    """
    async with host.running():
        host.supervisor.gate.clear()
        host.push(plan(c3=(0, 1)))
        await wait_for(lambda: host.supervisor.calls, 5)
        host.supervisor.listing.clear()
        asked = host.supervisor.asked
        host.supervisor.changed()
        await wait_for(lambda: host.supervisor.asked > asked, 5)
        # The units were listed as of before; the start ends while the answer is under way.
        host.supervisor.gate.set()
        await wait_for(lambda: 3 in host.daemon._jobs.unsettled, 5)
        assert host.daemon.report().holding == (0, 1)
        host.supervisor.listing.set()
        await host.says("nothing to do")
        assert host.daemon.report().holding == (0, 1)
    assert host.supervisor.calls == [("start", 3)]


async def test_report_that_changes_nothing_costs_no_look_at_the_units(host: Host) -> None:
    async with host.running(), Cluster(host, 3) as three:
        host.push(plan(c3=(0,)))
        await host.says("nothing to do")
        three.report(1, 0)
        await wait_for(lambda: 3 in host.daemon._reports, 5)

        async def quiet() -> bool:
            before = host.supervisor.asked
            await asyncio.sleep(0.2)
            return host.supervisor.asked == before

        await wait_for(quiet, 5)
        before = host.supervisor.asked
        for number in range(1, 30):
            three.report(1, 0, latency=number / 1000)
        await wait_for(lambda: host.daemon._reports[3].shards[0].latency == 0.029, 5)
        assert await quiet()
        assert host.supervisor.asked == before
        assert host.daemon.report().clusters[0].shards[0].latency == 0.029


async def test_report_tells_what_a_cluster_uses_and_why_it_runs_no_shard(host: Host) -> None:
    async with host.running(), Cluster(host, 3) as three:
        host.push(plan(c3=(0,)))
        await host.says("nothing to do")
        usage = Usage(at=host.clock.monotonic(), cpu_seconds=1.0, memory=9 << 20)
        host.supervisor.running[3] = UnitView(state="active", usage=usage)
        host.supervisor.changed()
        three.report(1, problem="no lease yet")
        await wait_for(lambda: host.daemon.report().clusters[0].memory == 9 << 20, 5)
        await wait_for(lambda: host.daemon.report().clusters[0].problem == "no lease yet", 5)


async def test_permit_of_a_cluster_that_vanishes_counts_as_used(host: Host, tmp_path: Path) -> None:
    heard: list[object] = []
    master = SmallMaster(tmp_path / "master")

    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        while True:
            message = await conversation.hear()
            if not isinstance(message, HostReport):
                heard.append(message)
            if isinstance(message, PermitRequest):
                since = WELCOME.now
                await conversation.say(Permit(shard=message.shard, since=since, until=since + 10))

    master.script = script
    async with master.serve(), host.running(host.link_to(master)):
        await wait_for(lambda: host.daemon._link is not None and host.daemon._link.connected, 5)
        async with Cluster(host, 3) as three:
            three.report(0, 7)
            three.say(PermitRequest(shard=7))
            permit = await three.hear()
            assert isinstance(permit, Permit)
            assert permit.shard == 7
            assert permit.until > SystemClock().monotonic(), "by the machine's clock"
        await wait_for(lambda: any(isinstance(message, PermitUsed) for message in heard), 5)
        assert isinstance(heard[0], AllowanceReport)
        assert heard[1] == PermitRequest(shard=7)
        used = heard[2]
        assert isinstance(used, PermitUsed)
        assert used.at is not None
        assert used.at > WELCOME.now + 5, "it may use it until the permit ends"
        host.stop.set()


async def test_operator_on_the_machine_gets_its_view(host: Host) -> None:
    async with host.running():
        host.push(plan(c3=(0, 1)))
        await host.says("nothing to do")
        status = host.daemon.status()
    assert (status.host, status.state, status.plan_generation) == ("alpha", "local", 5)
    assert status.shards_planned == 2
    assert status.master.startswith("this machine has not joined a fleet; not in touch")


async def test_old_cluster_is_forgotten_after_its_sessions_are(host: Host, tmp_path: Path) -> None:

    async with host.running():
        host.push(plan(c3=(0, 1)))
        await host.says("nothing to do")
        host.push(plan(6))
        await host.says("no clusters run generation 6")
        assignment = places.assignment_file(tmp_path, 3)
        os.utime(assignment, (1, 1))
        host.supervisor.changed()
        await wait_for(lambda: not assignment.exists(), 5)
        assert not places.cluster_directory(tmp_path, 3).exists()


async def test_watchdog_is_fed_while_passes_are_made(host: Host) -> None:
    async with host.running():
        await wait_for(lambda: host.notifier.fed > 2, 5)


async def test_second_control_ends_with_words_and_leaves_the_first_alone(
    host: Host, tmp_path: Path
) -> None:
    async with host.running():
        second = Host(tmp_path)
        with pytest.raises(UnavailableError, match="another CONTROL is running"):
            await second.daemon.run(hub=second._hub(), link=None, stop=second.stop)
        assert second.supervisor.closed
        assert host.path.exists()


async def test_full_disk_ends_control_with_the_place(host: Host, tmp_path: Path) -> None:
    """The clusters run on; systemd starts CONTROL again."""
    (tmp_path / "assignments").write_text("in the way")
    task = asyncio.create_task(host.daemon.run(hub=host._hub(), link=None, stop=host.stop))
    await wait_for(lambda: "READY" in host.notifier.told, 5)
    host.push(plan(c3=(0,)))
    with pytest.raises(ExceptionGroup) as caught:
        await task
    (error,) = caught.value.exceptions
    assert isinstance(error, StateError)
    assert "assignments/3.json: cannot be written" in error.message


def test_daemon_reports_nothing_before_it_knows_anything(host: Host) -> None:
    assert host.daemon.hello().report == msgspec.structs.replace(HostReport(plan_generation=0))


@pytest.mark.covers("F12", "F29", "T-07", "O-07")
async def test_rejection_in_one_cluster_reaches_the_others_and_the_report(host: Host) -> None:
    async with host.running(), Cluster(host, 3) as three, Cluster(host, 4) as four:
        host.push(plan(c3=(0, 1), c4=(2,)))
        await host.says("nothing to do")
        three.report(1, 0, 1)
        four.report(1, 2)
        assert await four.hear_any() == Halt(reason=None)
        three.say(
            ClusterReport(
                cluster=3,
                pid=1,
                generation=1,
                uptime=1,
                handler="",
                shards=(ShardView(shard=0, state="fatal", fatal=4014, problem="no such intent"),),
            )
        )
        reason = "shard 0 was rejected: no such intent"
        assert await four.hear() == Halt(reason=reason)
        assert host.daemon.report().rejected == reason
        four.say(PermitRequest(shard=2))
        three.report(1, 0, 1)
        assert await four.hear_any() == Halt(reason=None), "and no permit before"
        assert isinstance(await four.hear(), Permit)


async def test_cluster_that_asks_for_clearance_gets_it_from_its_control(host: Host) -> None:
    async with host.running(), Cluster(host, 3) as three:
        host.push(plan(c3=(0, 1)))
        await host.says("nothing to do")
        three.report(1, 0, 1)
        three.say(ClearanceCase(shard=1, state="asks"))
        assert await three.hear() == Clearance(shard=1)


# --- the lease ---


class ScriptedMaster:
    """Welcomes, and sends ``plan`` when :attr:`may_plan` is set; answers goodbyes."""

    def __init__(self, directory: Path, new: HostPlan) -> None:
        self.small = SmallMaster(directory / "master")
        self.small.script = self._script
        self.heard: list[object] = []
        self.may_plan = asyncio.Event()
        self.may_plan.set()
        self._text = host_plan_to_yaml(new)
        self._plan = new

    async def _script(self, conversation: Conversation) -> None:
        self.heard.append(await conversation.hear())
        await conversation.say(WELCOME)
        await self.may_plan.wait()
        await conversation.say(
            PlanPush(generation=self._plan.generation, sha256=digest(self._text), text=self._text)
        )
        while not isinstance(self.heard[-1], Goodbye):
            self.heard.append(await conversation.hear())
        await conversation.say(GoodbyeSeen())
        await conversation.socket.receive()


async def test_units_are_started_without_a_lease_and_told_that_there_is_none(host: Host) -> None:
    """A unit that waits is harmless, and what is up already opens its shards the sooner."""
    async with host.running(), Cluster(host, 3) as three:
        host.push(plan(c3=(0, 1)))
        await host.says("nothing to do: cluster 3 run")
        three.report(0)
        assert isinstance(await three._hear(), Assignment)
        assert await three._hear() == NO_LEASE
    assert host.supervisor.calls == [("start", 3)]


async def test_ended_lease_comes_again_after_the_assignments_of_masters_plan(
    host: Host, tmp_path: Path
) -> None:
    """What others may run by now is taken from a cluster before it may run anything again."""
    async with host.running():
        host.push(plan(4, c3=(0, 1)))
        await host.says("nothing to do")
    again, master = Host(tmp_path), ScriptedMaster(tmp_path, plan(5, c3=(0,)))
    master.may_plan.clear()
    again.supervisor.running = {3: UnitView(state="active")}
    async with (
        master.small.serve(),
        again.running(again.link_to(master.small)),
        Cluster(again, 3) as three,
    ):
        three.report(1, 0, 1)
        assert await three._hear() == NO_LEASE
        await wait_for(lambda: again.daemon.status().master.startswith("connected"), 5)
        assert again.daemon.status().master == (
            "connected, but the clusters wait until MASTER's plan is carried out here"
        )
        assert again.leasing.lease == NO_LEASE, "MASTER answers, but its plan is not here"
        master.may_plan.set()
        narrowed = await three.hear_any_but_halts()
        assert isinstance(narrowed, Assignment)
        assert narrowed.shards == (0,)
        lease = await three.hear_any_but_halts()
        assert isinstance(lease, Lease)
        assert lease == again.leasing.lease
        assert read_lease(tmp_path / "lease.json", boot_id=BOOT) == lease
        assert lease.until is not None
        assert 0 < lease.until - boottime() <= WELCOME.lease
        assert again.daemon.status().master == "connected"


async def test_ended_lease_waits_for_a_cluster_that_a_pass_leaves_for_the_next(
    host: Host, tmp_path: Path
) -> None:
    """One pass settles what the cluster released before; only the next takes more from it."""
    assignment = Assignment(
        cluster=3,
        generation=1,
        shard_count=8,
        gateway_url="wss://gateway.example",
        shards=(0, 2),
    )
    host.store.save_plan(host_plan_to_yaml(plan(4, c3=(0, 2))))
    host.store.save_held(Held(assignment=assignment, leaving=(1,)))
    host.supervisor.running = {3: UnitView(state="active")}
    master = ScriptedMaster(tmp_path, plan(5, c3=(2,)))
    master.may_plan.clear()
    async with (
        master.small.serve(),
        host.running(host.link_to(master.small)),
        Cluster(host, 3) as three,
    ):
        three.report(1, 0, 1, 2)
        assert await three._hear() == NO_LEASE
        await wait_for(lambda: host.daemon.status().master.startswith("connected"), 5)
        host.supervisor.listing.clear()
        asked = host.supervisor.asked
        three.report(1, 0, 2)
        master.may_plan.set()
        await wait_for(lambda: host.supervisor.asked > asked, 5)
        await wait_for(lambda: host.daemon.report().plan_generation == 5, 5)
        host.supervisor.listing.set()
        narrowed = await three.hear_any_but_halts()
        assert isinstance(narrowed, Assignment)
        assert narrowed.shards == (2,)
        assert isinstance(await three.hear_any_but_halts(), Lease)


async def test_acknowledged_goodbye_leaves_a_lease_without_end(host: Host, tmp_path: Path) -> None:
    master = ScriptedMaster(tmp_path, plan(5, c3=(0,)))
    three = Cluster(host, 3)
    async with master.small.serve(), AsyncExitStack() as stack:
        async with host.running(host.link_to(master.small)):
            await stack.enter_async_context(three)
            three.report(0)
            while not holds(await three.hear_lease(), boottime()):
                pass
        assert await three.hear_lease() == Lease(until=None)
    assert read_lease(tmp_path / "lease.json", boot_id=BOOT) == Lease(until=None)


async def test_goodbye_that_nobody_acknowledges_leaves_the_lease_as_it_is(
    host: Host, tmp_path: Path
) -> None:
    master = ScriptedMaster(tmp_path, plan(5, c3=(0,)))
    async with host.running(host.link_to(master.small)):
        async with master.small.serve():
            await wait_for(lambda: holds(host.leasing.lease, boottime()), 5)
        await wait_for(lambda: host.daemon._link is None or not host.daemon._link.connected, 5)
        lease = host.leasing.lease
    assert lease.until is not None
    assert read_lease(tmp_path / "lease.json", boot_id=BOOT) == lease


async def test_master_is_told_the_witness_and_the_panel(host: Host) -> None:
    identity = joined_identity(host.directory / "w", Authority(host.directory / "ca", now=NOW))
    witness = Witness(
        listen=Endpoint(host="127.0.0.1", port=0),
        announced=None,
        ssl_context=lambda: identity.witness_context("alpha", now=host.clock.wall()),
        admits=identity.admits,
        answer=host.leasing.answer,
        on_change=host.daemon.changed,
        clock=host.clock,
    )
    async with host.running(witness=witness):
        host.push(msgspec.structs.replace(plan(c3=(0,)), witnesses={"beta": "192.0.2.2:7444"}))
        report = host.daemon.report()
        assert report.panel == ("beta",)
        assert report.witness is not None
        assert report.witness.startswith("127.0.0.1:")
    assert host.daemon.report().witness is None


async def test_witness_that_cannot_listen_is_a_problem_and_not_the_end(host: Host) -> None:
    witness = Witness(
        listen=Endpoint(host="192.0.2.77", port=7444),
        announced=None,
        ssl_context=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        admits=lambda _: True,
        answer=host.leasing.answer,
        on_change=host.daemon.changed,
        clock=host.clock,
    )
    async with host.running(witness=witness):
        host.push(plan(c3=(0,)))
        await host.says("nothing to do")
        (problem,) = host.daemon.report().problems
        assert "witness_listen 192.0.2.77:7444 cannot be used" in problem


async def test_report_that_changes_nothing_is_not_sent_on_at_once(host: Host) -> None:
    async with host.running(), Cluster(host, 3) as three:
        host.push(plan(c3=(0,)))
        await host.says("nothing to do")
        three.report(1, 0)
        await wait_for(lambda: 3 in host.daemon._reports, 5)
        due = host.daemon._report_due
        await wait_for(lambda: not due.is_set(), 5)
        three.report(1, 0, latency=0.1)
        await wait_for(lambda: host.daemon._reports[3].shards[0].latency == 0.1, 5)
        assert not due.is_set()
        three.report(2, 0)
        await wait_for(lambda: host.daemon._reports[3].generation == 2, 5)
        await wait_for(due.is_set, 5)
