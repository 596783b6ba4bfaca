# SPDX-License-Identifier: Apache-2.0
"""What the cluster's loop does when its lease ends, comes again, or was never there."""

import asyncio
from pathlib import Path

import pytest

from discluster.lease import boottime
from discluster.messages import Held, Lease
from discluster.sessions import SessionFile, read_sessions
from tests.unit.cluster.controls import ENDLESS
from tests.unit.cluster.test_daemon import Rig, assignment, session
from tests.waiting import wait_for


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Its shard 5 has a session, and there is no lease."""
    file = SessionFile(tmp_path / "sessions")
    file.slot(5, 8).save(session("own", 7))
    file.close()
    made = Rig(tmp_path)
    made.store(Held(assignment=assignment(4, 5)))
    (tmp_path / "lease.json").unlink()
    made.control.lease = None
    return made


async def resumed(rig: Rig, number: int, seq: int) -> None:
    """The ``number``-th connection resumes the session, after ``seq``."""
    socket = await rig.socket(number)
    socket.hello()
    await wait_for(socket.authentications, 5)
    (told,) = socket.authentications()
    assert (told["op"], told["d"]["session_id"], told["d"]["seq"]) == (6, "own", seq)
    socket.event(seq + 1, "RESUMED", {})
    await wait_for(lambda: rig.ready() == 1, 5)


async def says(rig: Rig, text: str) -> None:
    await wait_for(lambda: any(text in told for told in rig.notifier.told), 5, what=text)


async def test_without_a_lease_no_shard_is_opened_and_the_status_says_why(rig: Rig) -> None:
    async with rig.running():
        await says(rig, "no lease yet: CONTROL is away; the sessions are kept")
        assert rig.transport.dials == []
        assert rig.daemon.report().problem == (
            "no lease yet: CONTROL is away; the sessions are kept"
        )
        assert rig.daemon.report().generation == 4, "but it knows what it shall run"


async def test_control_without_a_lease_is_waited_for(rig: Rig) -> None:
    rig.control.lease = Lease(until=0.0)
    async with rig.control as control, rig.running():
        await says(rig, "no lease yet: this machine is out of touch with MASTER")
        assert rig.transport.dials == []
        control.say(Lease(until=boottime() + 60))
        await resumed(rig, 0, 7)
        await wait_for(lambda: control.reports[-1].problem is None, 5)


async def test_lease_that_ends_closes_every_shard_with_its_session_kept(
    rig: Rig, tmp_path: Path
) -> None:
    rig.control.lease = Lease(until=boottime() + 60)
    async with rig.control as control, rig.running():
        await resumed(rig, 0, 7)
        control.say(Lease(until=boottime() + 0.3))
        await wait_for(lambda: rig.transport.sockets[0].close_codes == [4000], 5)
        await wait_for(lambda: control.reports[-1].shards == (), 5)
        assert control.reports[-1].problem == (
            "the lease ended: this machine is out of touch with MASTER; the sessions are kept"
        )
        await says(rig, "the lease ended")
        assert read_sessions(tmp_path / "sessions", 8)[5].seq == 8
        assert len(rig.transport.dials) == 1


async def test_lease_that_comes_again_opens_the_shards_by_resume(rig: Rig) -> None:
    rig.control.lease = Lease(until=boottime() + 60)
    async with rig.control as control, rig.running():
        await resumed(rig, 0, 7)
        control.say(Lease(until=1.0))
        await wait_for(lambda: control.reports[-1].shards == (), 5)
        control.say(Lease(until=boottime() + 60))
        await resumed(rig, 1, 8)


async def test_assignment_that_changed_meanwhile_is_what_comes_with_the_lease(rig: Rig) -> None:
    rig.control.lease = Lease(until=boottime() + 60)
    async with rig.control as control, rig.running():
        await resumed(rig, 0, 7)
        control.say(Lease(until=1.0))
        await wait_for(lambda: control.reports[-1].shards == (), 5)
        control.say(assignment(5, 6))
        control.say(Lease(until=boottime() + 60))
        await wait_for(lambda: rig.shards() == [6], 5)
        assert len(rig.transport.dials) <= 2


async def test_what_was_read_after_the_machine_slept_past_the_lease_is_not_handed_over(
    rig: Rig, tmp_path: Path
) -> None:
    rig.control.lease = Lease(until=boottime() + 60)
    async with rig.control as control, rig.running():
        await resumed(rig, 0, 7)
        rig.asleep = 61.0
        rig.transport.sockets[0].event(9)
        await wait_for(lambda: rig.transport.sockets[0].close_codes == [4000], 5)
        assert [event.seq for event in rig.handler.events] == [8]
        assert read_sessions(tmp_path / "sessions", 8)[5].seq == 8
        control.say(Lease(until=boottime() + 100))
        await resumed(rig, 1, 8)


async def test_cluster_that_starts_without_control_runs_until_the_stored_lease_ends(
    rig: Rig,
) -> None:
    rig.store_lease(Lease(until=boottime() + 60))
    async with rig.running():
        await resumed(rig, 0, 7)
        rig.asleep = 61.0
        await wait_for(lambda: rig.shards() == [], 5)
        await says(rig, "the lease ended: CONTROL is away")
        passes = rig.looks
        await wait_for(lambda: rig.looks > passes, 5)
        assert rig.looks <= passes + 2, "what it finds there again and again wakes nobody"


async def test_endless_lease_that_came_while_the_socket_was_broken_is_found_on_disk(
    rig: Rig,
) -> None:
    rig.control.lease = Lease(until=boottime() + 0.5)
    async with rig.running():
        async with rig.control:
            await resumed(rig, 0, 7)
        rig.store_lease(ENDLESS)
        rig.asleep = 3600.0
        rig.transport.sockets[0].event(9)
        await wait_for(lambda: rig.daemon._lease.left == float("inf"), 5)
        await wait_for(lambda: rig.ready() == 1 or len(rig.transport.sockets) == 2, 5)


async def test_newer_assignment_on_disk_is_followed_with_the_lease_that_stands_there(
    rig: Rig,
) -> None:
    async with rig.running():
        await says(rig, "no lease yet")
        rig.store(Held(assignment=assignment(5, 6)))
        rig.store_lease(ENDLESS)
        await wait_for(lambda: rig.shards() == [6], 5)


async def test_what_is_on_disk_is_not_looked_at_while_control_is_there(rig: Rig) -> None:
    rig.control.lease = Lease(until=0.0)
    async with rig.control as control, rig.running():
        await says(rig, "out of touch with MASTER")
        rig.store_lease(ENDLESS)
        rig.daemon._wake.set()
        await wait_for(lambda: not rig.daemon._wake.is_set(), 5)
        assert rig.transport.dials == []
        assert control.connected


async def test_endless_lease_that_becomes_bounded_ends(rig: Rig) -> None:
    rig.control.lease = ENDLESS
    async with rig.control as control, rig.running():
        await resumed(rig, 0, 7)
        control.say(Lease(until=boottime() + 0.2))
        await wait_for(lambda: rig.shards() == [], 5)


async def test_lease_that_says_keep_is_kept_without_control(rig: Rig) -> None:
    rig.control.lease = Lease(until=boottime() + 60, then="keep")
    async with rig.running():
        async with rig.control:
            await resumed(rig, 0, 7)
        rig.asleep = 3600.0
        rig.transport.sockets[0].event(9)
        await wait_for(lambda: len(rig.handler.events) == 2, 5)
        assert rig.ready() == 1


async def test_shard_that_discord_rejected_is_not_asked_for_again_when_a_lease_comes(
    rig: Rig,
) -> None:
    rig.control.lease = Lease(until=boottime() + 60)
    async with rig.control as control, rig.running():
        socket = await rig.socket()
        socket.hello()
        await wait_for(socket.authentications, 5)
        socket.end(4004)
        await wait_for(lambda: rig.daemon.report().shards[0].state == "fatal", 5)
        control.say(Lease(until=1.0))
        await says(rig, "the lease ended")
        control.say(Lease(until=boottime() + 60))
        await wait_for(lambda: rig.daemon.report().problem is None, 5)
        assert [view.state for view in rig.daemon.report().shards] == ["fatal"]
        assert len(rig.transport.dials) == 1


async def test_stop_while_the_lease_closes_the_shards_is_orderly(rig: Rig) -> None:
    async def hang(code: int) -> None:
        await asyncio.get_running_loop().create_future()

    rig.control.lease = Lease(until=boottime() + 60)
    async with rig.control as control, rig.running():
        await resumed(rig, 0, 7)
        rig.transport.sockets[0].close = hang  # type: ignore[method-assign]
        control.say(Lease(until=1.0))
        await wait_for(lambda: rig.daemon._hosted[5].running.state == "closing", 5)
        view = rig.daemon.report().shards[0]
        assert (view.state, view.problem) == ("closing", rig.daemon.report().problem)
        rig.stop.set()
    assert rig.handler.stopped
