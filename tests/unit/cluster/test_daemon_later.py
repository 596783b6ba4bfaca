# SPDX-License-Identifier: Apache-2.0
"""A cluster whose handler acknowledges later: what is stored when a shard leaves, and when."""

import asyncio
from pathlib import Path

import pytest

from discluster.gateway import LATER, Event, Later
from discluster.sessions import read_sessions
from tests.unit.cluster.test_daemon import Handler, Rig, assignment
from tests.waiting import wait_for


class Batching(Handler):
    """Acknowledges when it is flushed, once the test lets it. ``log``: what it was asked, each with
    the sequence stored for shard 5.
    """

    def __init__(self, sessions: Path) -> None:
        super().__init__()
        self.log: list[tuple[str, int]] = []
        self.let = asyncio.Event()
        self._sessions = sessions

    def handle(self, event: Event) -> Later:
        self.events.append(event)
        return LATER

    async def flush(self, shard: int) -> None:
        self.note(f"flush {shard}")
        await self.let.wait()
        self.commands.taken([event for event in self.events if event.shard == shard][-1])

    async def stop(self) -> None:
        self.note("stop")
        # Too late: the shard's next owner may have been told where to go on.
        self.commands.taken(self.events[-1])
        await super().stop()

    def note(self, what: str) -> None:
        self.log.append((what, self.stored()))

    def stored(self) -> int:
        return read_sessions(self._sessions, 8)[5].seq


class LateRig(Rig):
    def __init__(self, directory: Path, *, flush_limit: float = 5.0) -> None:
        super().__init__(
            directory, flush_limit=flush_limit, handler=Batching(directory / "sessions")
        )

    @property
    def batching(self) -> Batching:
        assert isinstance(self.handler, Batching)
        return self.handler

    async def gets_events(self, *seqs: int) -> None:
        """On shard 5, after its READY."""
        self.control.say(assignment(1, 5))
        socket = await self.identifies()
        for seq in seqs:
            socket.event(seq)
        await wait_for(lambda: len(self.handler.events) == 1 + len(seqs), 5)


async def test_shard_is_held_until_the_handler_acknowledged_what_it_has(tmp_path: Path) -> None:
    rig = LateRig(tmp_path)
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        await rig.gets_events(2, 3)
        control.say(assignment(2))
        await wait_for(lambda: rig.batching.log == [("flush 5", 1)], 5)
        control.heard.clear()
        await wait_for(lambda: len(control.reports) >= 2, 10)
        assert all([view.shard for view in r.shards] == [5] for r in control.reports)
        rig.batching.let.set()
        await wait_for(lambda: not control.reports[-1].shards, 5)
        assert rig.batching.stored() == 3, "nothing of it will be replayed elsewhere"


async def test_shard_leaves_without_a_handler_that_does_not_flush_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = LateRig(tmp_path, flush_limit=0.1)
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        await rig.gets_events(2, 3)
        rig.handler.commands.taken(rig.handler.events[1])
        control.say(assignment(2))
        await wait_for(lambda: control.reports[-1].generation == 2 and rig.shards() == [], 5)
        assert rig.batching.stored() == 2
        rig.handler.commands.taken(rig.handler.events[2])
        assert rig.batching.stored() == 2, "what is acknowledged after it left is replayed"
    assert "did not flush it within 0.1 seconds" in caplog.text


async def test_orderly_stop_flushes_before_the_handler_is_stopped(tmp_path: Path) -> None:
    rig = LateRig(tmp_path)
    rig.batching.let.set()
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        await rig.gets_events(2, 3)
    assert rig.batching.log == [("flush 5", 1), ("stop", 3)]


async def test_stop_while_a_shard_is_flushed_flushes_it_once(tmp_path: Path) -> None:
    rig = LateRig(tmp_path)
    async with rig.control as control, rig.running():
        await wait_for(lambda: control.connected, 5)
        await rig.gets_events(2)
        control.say(assignment(2))
        await wait_for(lambda: rig.batching.log, 5)
        rig.stop.set()
        await wait_for(lambda: "STOPPING" in rig.notifier.told, 5)
        rig.batching.let.set()
    assert rig.batching.log == [("flush 5", 1), ("stop", 2)]
