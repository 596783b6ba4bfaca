# SPDX-License-Identifier: Apache-2.0
"""The cluster's loop with a scripted Discord, a real session file and a CONTROL played by hand."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discluster.clock import SystemClock
from discluster.cluster.daemon import ClusterDaemon
from discluster.cluster.handlers import Commands
from discluster.cluster.lease import ClusterLease
from discluster.cluster.stored import Stored
from discluster.errors import CommandError, HandlerError, NotSentError
from discluster.gateway import LATER, Event, Later
from discluster.gateway.commands import UpdateVoiceState
from discluster.gateway.failing import HandlerFailures
from discluster.lease import StoredLease, boottime, read_lease, write_lease
from discluster.messages import Assignment, Halt, Held, Lease, PermitDenied
from discluster.plan import Session
from discluster.sessions import SessionFile, read_sessions
from tests.notifier import RecordingNotifier
from tests.unit.cluster.controls import ENDLESS, FakeControl
from tests.unit.gateway.fakes import FakeSocket, FakeTransport, plain_identity
from tests.waiting import wait_for

GATEWAY = "wss://gateway.example"


def assignment(generation: int, *shards: int, count: int = 8, **more: Any) -> Assignment:
    return Assignment(
        cluster=3,
        generation=generation,
        shard_count=count,
        gateway_url=GATEWAY,
        shards=shards,
        **more,
    )


def session(name: str, seq: int) -> Session:
    return Session(session_id=name, resume_url="wss://edge.example", seq=seq)


class Handler:
    """Keeps the events; raises or waits where the test says so."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.started: list[int] = []
        self.stopped = False
        self.raises = False

    async def start(self, cluster: int, commands: Commands) -> None:
        self.started.append(cluster)
        self.commands = commands

    def handle(self, event: Event) -> Awaitable[None] | Later | None:
        if self.raises:
            raise RuntimeError("the handler has a fault")
        self.events.append(event)
        return None

    async def stop(self) -> None:
        self.stopped = True

    def summary(self) -> str:
        return f"{len(self.events)} events"


class Rig:
    """One cluster 3 on a directory that outlives it."""

    def __init__(
        self,
        directory: Path,
        *,
        stall_limit: float = 60.0,
        flush_limit: float = 5.0,
        unacknowledged: int = 100,
        handler: Handler | None = None,
        failures: HandlerFailures | None = None,
    ) -> None:
        self.directory = directory
        self.control = FakeControl(directory / "control.sock")
        self.clock = SystemClock()
        self.transport = FakeTransport(self.clock)  # type: ignore[arg-type]  # asks it the time only
        self.handler = handler or Handler()
        self.notifier = RecordingNotifier(0.02)
        self.stop = asyncio.Event()
        self.asleep = 0.0
        self.looks = 0
        self.store_lease(ENDLESS)
        self.daemon = ClusterDaemon(
            cluster=3,
            stored=Stored(
                assignment=directory / "assignment.json",
                lease=self._look,
            ),
            lease=ClusterLease(boottime=self.boottime),
            control_socket=directory / "control.sock",
            identity=plain_identity(),
            handler=self.handler,
            failures=failures or HandlerFailures(clock=self.clock),
            handler_name="tests:Handler",
            sessions=SessionFile(directory / "sessions"),
            transport=self.transport,
            clock=self.clock,
            rng=random.Random(1),
            notifier=self.notifier,
            stall_limit=stall_limit,
            unacknowledged=unacknowledged,
            flush_limit=flush_limit,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        task = asyncio.create_task(self.daemon.run(self.stop))
        await wait_for(lambda: "READY" in self.notifier.told or task.done(), 5)
        try:
            yield self
        finally:
            self.stop.set()
            async with asyncio.timeout(10):
                await task

    def boottime(self) -> float:
        """``asleep``: seconds for which the machine slept since."""
        return boottime() + self.asleep

    def _look(self) -> Lease | None:
        self.looks += 1
        return read_lease(self.directory / "lease.json", boot_id="boot")

    def store_lease(self, lease: Lease) -> None:
        stored = StoredLease(boot_id="boot", until=lease.until, then=lease.then)
        write_lease(self.directory / "lease.json", stored)

    def store(self, held: Held) -> None:
        (self.directory / "assignment.json").write_bytes(msgspec.json.encode(held))

    async def socket(self, number: int = 0) -> FakeSocket:
        """The ``number``-th connection to Discord, once it is made."""
        await wait_for(lambda: len(self.transport.sockets) > number, 5)
        return self.transport.sockets[number]

    async def identifies(self, number: int = 0, name: str = "session-1") -> FakeSocket:
        socket = await self.socket(number)
        socket.hello()
        await wait_for(lambda: 2 in socket.ops(), 5)
        ready = self.ready()
        socket.ready(name)
        await wait_for(lambda: self.ready() > ready, 5)
        return socket

    def ready(self) -> int:
        return sum(view.state == "ready" for view in self.daemon.report().shards)

    def shards(self) -> list[int]:
        return [view.shard for view in self.daemon.report().shards]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_cluster_waits_for_an_assignment_and_says_so(rig: Rig) -> None:
    async with rig.running():
        await wait_for(
            lambda: (
                "no assignment: CONTROL does not plan this cluster; CONTROL is away; 0 events"
                in rig.notifier.told
            ),
            5,
        )
    assert rig.handler.started == [3]
    assert rig.handler.stopped


async def test_assigned_shard_identifies_with_a_permit_and_is_reported_ready(rig: Rig) -> None:
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5))
        await rig.identifies()
        await wait_for(
            lambda: (
                control.reports[-1].generation == 1
                and [(v.shard, v.state) for v in control.reports[-1].shards] == [(5, "ready")]
            ),
            5,
        )
        assert rig.handler.events[0].type == "READY"


async def test_report_tells_what_the_process_uses(rig: Rig) -> None:
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.reports, 5)
        told = control.reports[-1]
        assert told.memory is not None
        assert told.memory > 1 << 20
        assert told.cpu_seconds is not None
        assert told.cpu_seconds > 0


async def test_shard_that_is_taken_away_is_closed_resumable_before_it_leaves_the_report(
    rig: Rig, tmp_path: Path
) -> None:
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5))
        socket = await rig.identifies()
        socket.event(2)
        await wait_for(lambda: len(rig.handler.events) == 2, 5)
        control.heard.clear()
        control.say(assignment(2))
        await wait_for(lambda: control.reports and not control.reports[-1].shards, 5)
        assert socket.close_codes, "closed before it left the report"
        assert socket.close_codes[0] not in (1000, 1001)
    kept = read_sessions(tmp_path / "sessions", 8)
    assert (kept[5].session_id, kept[5].seq) == ("session-1", 2)


async def test_session_that_was_handed_over_is_resumed(rig: Rig) -> None:
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5, handover={5: session("elsewhere", 40)}))
        socket = await rig.socket()
        socket.hello()
        await wait_for(socket.authentications, 5)
        assert socket.authentications()[0]["op"] == 6
        assert socket.authentications()[0]["d"]["session_id"] == "elsewhere"
        assert socket.authentications()[0]["d"]["seq"] == 40
        assert control.permits == [], "a RESUME needs no permit"


@pytest.mark.parametrize("url", ["wss://gateway.elsewhere", "ws://edge.example"])
async def test_session_that_was_handed_over_does_not_say_who_gets_the_token(
    rig: Rig, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes from another machine, which may have no token, and want one."""
    brought = Session(session_id="brought", resume_url=url, seq=40)
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5, handover={5: brought}))
        socket = await rig.socket()
        assert socket.url.startswith(f"{GATEWAY}/?")
        socket.hello()
        await wait_for(socket.authentications, 5)
        assert socket.authentications()[0]["op"] == 6
        assert socket.authentications()[0]["d"]["session_id"] == "brought"
    assert f"shard 5: {url} is not where Discord's gateway is" in caplog.text


async def test_own_session_wins_over_what_was_handed_over_before_it(
    rig: Rig, tmp_path: Path
) -> None:
    file = SessionFile(tmp_path / "sessions")
    file.slot(5, 8).save(session("own", 7))
    file.close()
    rig.store(Held(assignment=assignment(4, 5, handover={5: session("old", 90)})))
    async with rig.running():
        socket = await rig.socket()
        socket.hello()
        await wait_for(socket.authentications, 5)
        assert socket.authentications()[0]["d"]["session_id"] == "own"


async def test_cluster_starts_from_disk_without_control(rig: Rig, tmp_path: Path) -> None:
    file = SessionFile(tmp_path / "sessions")
    file.slot(5, 8).save(session("own", 7))
    file.close()
    rig.store(Held(assignment=assignment(4, 5)))
    async with rig.running():
        socket = await rig.socket()
        socket.hello()
        await wait_for(lambda: 6 in socket.ops(), 5)
        socket.event(8, "RESUMED", {})
        await wait_for(
            lambda: (
                "1 of 1 shards ready; CONTROL is away; 1 events" in rig.notifier.told
                or rig.ready() == 1
            ),
            5,
        )
        assert rig.daemon.report().generation == 4


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
async def test_damaged_assignment_is_told_and_waited_for(
    rig: Rig, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (rig.directory / "assignment.json").write_bytes(content)
    async with rig.running():
        assert "assignment.json cannot be used, waiting for CONTROL" in caplog.text
        assert rig.shards() == []


async def test_older_assignment_is_not_followed(rig: Rig) -> None:
    rig.store(Held(assignment=assignment(4, 5)))
    async with rig.running():
        await rig.socket()
        rig.daemon.assign(assignment(3, 6))
        assert rig.daemon.report().generation == 4
        rig.daemon.assign(assignment(5, 5, 6))
        await wait_for(lambda: rig.shards() == [5, 6], 5)


@pytest.mark.covers("F32", "T-22")
async def test_orderly_stop_keeps_every_session(rig: Rig, tmp_path: Path) -> None:
    async with rig.control as control:
        async with rig.running():
            await wait_for(lambda: control.connected, 5)
            control.say(assignment(1, 5, 6))
            first = await rig.identifies(0, "session-a")
            second = await rig.identifies(1, "session-b")
            rig.stop.set()
            await wait_for(lambda: rig.handler.stopped, 5)
        await wait_for(lambda: not control.reports[-1].shards, 5)
    for socket in (first, second):
        assert socket.close_codes
        assert socket.close_codes[0] not in (1000, 1001)
    names = {kept.session_id for kept in read_sessions(tmp_path / "sessions", 8).values()}
    assert names == {"session-a", "session-b"}
    assert "STOPPING" in rig.notifier.told


async def test_stop_while_a_shard_is_being_closed_is_orderly(rig: Rig) -> None:
    async def hang(code: int) -> None:
        await asyncio.get_running_loop().create_future()

    rig.store(Held(assignment=assignment(1, 5, 6)))
    async with rig.running():
        await rig.socket(1)
        for socket in rig.transport.sockets:
            socket.close = hang  # type: ignore[method-assign]  # Discord does not answer the close
        rig.daemon.assign(assignment(2, 6))
        await wait_for(lambda: rig.daemon._hosted[5].running.state == "closing", 5)
        rig.stop.set()
    assert rig.handler.stopped
    assert rig.shards() == []


async def test_changed_shard_count_closes_and_opens_anew(rig: Rig, tmp_path: Path) -> None:
    file = SessionFile(tmp_path / "sessions")
    file.slot(5, 8).save(session("own", 7))
    file.close()
    rig.store(Held(assignment=assignment(1, 5)))
    async with rig.control, rig.running():
        first = await rig.socket()
        rig.daemon.assign(assignment(2, 5, count=16))
        second = await rig.socket(1)
        assert first.aborted
        second.hello()
        await wait_for(lambda: 2 in second.ops(), 5)
        assert second.authentications()[0]["d"]["shard"] == [5, 16]


async def test_records_of_an_older_shard_count_do_not_fill_the_file(tmp_path: Path) -> None:
    """As after a reshard of a cluster with as many shards as a cluster can have."""
    file = SessionFile(tmp_path / "sessions")
    for shard in range(256):
        file.slot(shard, 256).save(session(f"s{shard}", 1))
    file.close()
    rig = Rig(tmp_path)
    rig.store(Held(assignment=assignment(2, *range(256), count=512)))
    rig.transport.script.extend(["hang"] * 256)
    async with rig.running():
        await wait_for(lambda: len(rig.shards()) == 256, 10)


@pytest.mark.covers("T-56")
async def test_denied_permit_is_the_shards_problem(rig: Rig) -> None:
    rig.control.grants = False
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5))
        socket = await rig.socket()
        socket.hello()
        await wait_for(lambda: control.permits, 5)
        control.say(PermitDenied(shard=5, reason="the budget is spent", retry_after=60))
        await wait_for(lambda: rig.daemon.report().shards[0].problem == "the budget is spent", 5)


@pytest.mark.covers("T-56")
async def test_rejected_token_is_told_in_the_status(rig: Rig) -> None:
    rig.store(Held(assignment=assignment(1, 5)))
    async with rig.running():
        socket = await rig.socket()
        socket.hello()
        socket.end(4004, "Authentication failed.")
        await wait_for(lambda: rig.daemon.report().shards[0].fatal == 4004, 5)
        rig.daemon._wake.set()
        await wait_for(lambda: any("token" in told for told in rig.notifier.told), 5)


@pytest.mark.covers("T-56")
async def test_watchdog_is_fed_only_while_shards_progress(tmp_path: Path) -> None:
    rig = Rig(tmp_path, stall_limit=0.15)
    rig.store(Held(assignment=assignment(1, 5)))
    rig.transport.script.append("hang")
    async with rig.running():
        await wait_for(lambda: rig.notifier.fed > 1, 5)

        async def starved() -> bool:
            before = rig.notifier.fed
            await asyncio.sleep(0.1)
            return rig.notifier.fed == before

        await wait_for(starved, 5)
        rig.daemon.assign(assignment(2))
        await wait_for(lambda: rig.shards() == [], 5)
        before = rig.notifier.fed
        await wait_for(lambda: rig.notifier.fed > before, 5)


async def test_raising_handler_costs_its_event_and_nothing_else(rig: Rig) -> None:
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5))
        socket = await rig.identifies()
        rig.handler.raises = True
        socket.event(2)
        await wait_for(lambda: rig.daemon._hosted[5].shard.failures == 1, 5)
        rig.handler.raises = False
        socket.event(3)
        await wait_for(lambda: rig.handler.events[-1].seq == 3, 5)
        assert rig.ready() == 1


async def test_failures_of_the_handler_are_in_the_clusters_status(rig: Rig) -> None:
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5))
        socket = await rig.identifies()
        rig.handler.raises = True
        socket.event(2)
        told = "the handler failed 1 times (MESSAGE_CREATE 1); 1 events skipped; 1 events"
        await wait_for(lambda: any(told in status for status in rig.notifier.told), 5)


class Stuck(Handler):
    """Fails once more when it is stopped."""

    async def stop(self) -> None:
        await super().stop()
        raise OSError("no database")


class Troubled(Handler):
    """Says of shard 5 what is wrong with it. ``later``: and acknowledges nothing."""

    later = False

    def handle(self, event: Event) -> Awaitable[None] | Later | None:
        return LATER if self.later else super().handle(event)

    def problem(self, shard: int) -> str | None:
        return "the handler has lost 7 events" if shard == 5 else None


async def test_what_a_handler_tells_comes_before_what_its_shard_sees_of_it(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, handler=Troubled(), unacknowledged=1)
    rig.handler.later = True  # type: ignore[attr-defined]
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5))
        socket = await rig.identifies()
        socket.event(2)
        told = "the handler has lost 7 events; the handler has not acknowledged what it has"
        await wait_for(lambda: (control.reports[-1].shards[0].problem or "").startswith(told), 5)


async def test_what_a_handler_tells_of_a_shard_is_the_shards_problem(tmp_path: Path) -> None:
    rig = Rig(tmp_path, handler=Troubled())
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5, 6))
        for number in (0, 1):
            await rig.identifies(number)
        problems = {5: "the handler has lost 7 events", 6: None}
        await wait_for(
            lambda: (
                {v.shard: v.problem for v in control.reports[-1].shards if v.state == "ready"}
                == problems
            ),
            5,
        )


@pytest.mark.parametrize("handler", [Handler, Stuck])
async def test_fatal_failure_stops_the_cluster_in_order_with_its_words(
    tmp_path: Path, handler: type[Handler]
) -> None:
    rig = Rig(
        tmp_path, handler=handler(), failures=HandlerFailures(clock=SystemClock(), reaction="fatal")
    )
    async with rig.control as control:
        running = asyncio.create_task(rig.daemon.run(rig.stop))
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5))
        socket = await rig.identifies()
        socket.event(2)
        await wait_for(lambda: rig.handler.events[-1].seq == 2, 5)
        rig.handler.raises = True
        socket.event(3)
        with pytest.raises(HandlerError, match="RuntimeError at a MESSAGE_CREATE event"):
            await running
    assert rig.handler.stopped
    assert socket.close_codes == [4000]
    assert read_sessions(tmp_path / "sessions", 8)[5].seq == 2


async def test_handler_sends_commands_through_the_shard_of_a_guild(rig: Rig) -> None:
    command = UpdateVoiceState(guild_id=5 << 22, channel_id=9)
    async with rig.control as control, rig.running():
        before = rig.handler.commands.shard_count
        assert before is None
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5))
        socket = await rig.identifies()
        assert rig.handler.commands.shard_count == 8
        await rig.handler.commands.send(5, command)
        assert [frame["d"]["channel_id"] for frame in socket.sent if frame["op"] == 4] == ["9"]
        with pytest.raises(NotSentError, match="shard 6 is not on this cluster"):
            await rig.handler.commands.send(6, command)
        with pytest.raises(CommandError, match="belongs to shard 6"):
            await rig.daemon._hosted[5].shard.send(UpdateVoiceState(guild_id=6 << 22))


async def test_handler_learns_its_shards_and_can_have_one_renewed(rig: Rig) -> None:
    async with rig.control as control, rig.running():
        assert list(rig.handler.commands.shards) == []
        await wait_for(lambda: control.connected, 5)
        control.say(assignment(1, 5))
        socket = await rig.identifies()
        assert list(rig.handler.commands.shards) == [5]
        rig.handler.commands.renew(6, "it is not here")
        rig.handler.commands.renew(5, "its guilds are not known")
        await wait_for(lambda: socket.close_codes == [1000], 5)
        problem = rig.daemon._hosted[5].shard.view().problem or ""
        assert problem.endswith("for a new one: its guilds are not known")


@pytest.mark.covers("T-07", "O-07")
async def test_handler_learns_what_is_asked_of_discord_and_where_it_may_write(
    rig: Rig, tmp_path: Path
) -> None:
    async with rig.running():
        assert rig.handler.commands.intents == plain_identity().intents
        assert rig.handler.commands.directory == tmp_path
        assert rig.handler.commands.latency(5) is None, "no such shard here"


async def test_restarted_cluster_does_not_dial_before_it_knows_that_nothing_is_rejected(
    rig: Rig,
) -> None:
    rig.control.halt = Halt(reason="shard 3 was rejected: Discord rejected the bot token (4004 …)")
    rig.store(Held(assignment=assignment(1, 5, 6)))
    async with rig.control as control, rig.running():
        await wait_for(lambda: [v.state for v in rig.daemon.report().shards] == ["held"] * 2, 5)
        assert rig.transport.dials == []
        assert rig.daemon.report().shards[0].problem == rig.control.halt.reason
        rig.daemon._wake.set()
        await wait_for(lambda: any("2 held back: shard 3" in t for t in rig.notifier.told), 5)
        control.say(Halt(reason=None))
        await wait_for(lambda: len(rig.transport.dials) == 2, 5)


async def test_rejection_ends_for_the_cluster_when_the_shard_is_taken_from_it(rig: Rig) -> None:
    rig.store(Held(assignment=assignment(1, 5, 6)))
    async with rig.running():
        for number in range(2):
            (await rig.socket(number)).hello()
        first, second = rig.transport.sockets
        first.end(4004)
        second.end(4009)
        await wait_for(
            lambda: {v.state for v in rig.daemon.report().shards} == {"fatal", "held"}, 10
        )
        fatal = next(v.shard for v in rig.daemon.report().shards if v.state == "fatal")
        rig.daemon.assign(assignment(2, 11 - fatal))
        await rig.socket(2)
