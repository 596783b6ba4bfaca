# SPDX-License-Identifier: Apache-2.0
"""Checkpoints on their way from the session files to MASTER."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from discluster.control.checkpointing import Checkpointing
from discluster.messages import Checkpoint, Message
from discluster.plan import Session
from discluster.sessions import SessionFile
from discluster.stays import ShardKey, Stay
from tests.clock import ManualClock
from tests.unit.control.masters import WELCOME, Conversation, SmallMaster
from tests.unit.control.test_daemon import Host, plan
from tests.unit.control.test_reconcile import held
from tests.waiting import wait_for


def session(seq: int, name: str = "of-0") -> Session:
    return Session(session_id=name, resume_url="wss://resume.example", seq=seq)


class Connection:
    """What MASTER is sent."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[Checkpoint] = []

    def send(self, message: Message) -> None:
        assert isinstance(message, Checkpoint)
        self.sent.append(message)


class Machine:
    """Two clusters with their files; the second one is dead."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.master = Connection()
        self.shard_count = 2
        self.files: dict[int, Mapping[ShardKey, Stay]] = {
            3: {(0, 2): Stay(entered=1, session=session(5))},
            4: {(1, 2): Stay(entered=1, session=session(8, "of-1"))},
        }
        self.looked: list[int] = []
        self.checkpointing = Checkpointing(read=self.read, clock=self.clock, interval=3.0)

    def read(self, cluster: int) -> Mapping[ShardKey, Stay]:
        self.looked.append(cluster)
        return self.files[cluster]

    async def __aenter__(self) -> "Machine":
        self._task = asyncio.create_task(
            self.checkpointing.run(self.master, lambda: self.shard_count, lambda: set(self.files))
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def told(self) -> list[dict[int, int]]:
        """The sequences in what was sent within the next interval."""
        self.master.sent.clear()
        await self.clock.advance(3)
        return [{s: kept.seq for s, kept in m.sessions.items()} for m in self.master.sent]


async def test_first_all_is_told_and_then_what_changed() -> None:
    async with Machine() as machine:
        assert await machine.told() == [{0: 5, 1: 8}]
        assert await machine.told() == []
        machine.files[3] = {(0, 2): Stay(entered=1, session=session(6))}
        assert await machine.told() == [{0: 6}]
        machine.files[3] = {(0, 2): Stay(entered=1)}
        assert await machine.told() == [{}]
        assert machine.master.sent[0].ended == (0,)


async def test_new_connection_is_told_all_again() -> None:
    async with Machine() as machine:
        await machine.told()
        machine.checkpointing.begin_anew()
        assert await machine.told() == [{0: 5, 1: 8}]


@pytest.mark.parametrize("why", ["MASTER is away", "there is no plan"])
async def test_nobody_looks_into_the_files_for_nothing(why: str) -> None:
    async with Machine() as machine:
        machine.master.connected = why != "MASTER is away"
        machine.shard_count = 0 if why == "there is no plan" else 2
        assert await machine.told() == []
        assert machine.looked == []
        machine.master.connected, machine.shard_count = True, 2
        assert await machine.told() == [{0: 5, 1: 8}]


async def test_connection_made_anew_during_a_look_is_told_all() -> None:
    async with Machine() as machine:
        await machine.told()
        read = machine.read

        def reconnecting(cluster: int) -> Mapping[ShardKey, Stay]:
            machine.checkpointing.begin_anew()
            return read(cluster)

        machine.checkpointing._read = reconnecting
        assert await machine.told() == [{0: 5, 1: 8}]


async def test_master_hears_of_every_session_file_and_never_more_than_was_taken(
    tmp_path: Path,
) -> None:
    """Of cluster 4 that is dead as well, and all of it again on a second connection."""
    heard: list[list[Checkpoint]] = []
    master = SmallMaster(tmp_path / "master")
    end = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        heard.append(mine := [])
        while not (end.is_set() and len(heard) == 1):
            message = await conversation.hear()
            if isinstance(message, Checkpoint):
                mine.append(message)

    def known(connection: int) -> dict[int, int]:
        found: dict[int, int] = {}
        for message in heard[connection] if connection < len(heard) else ():
            found |= {shard: kept.seq for shard, kept in message.sessions.items()}
        return found

    host = Host(tmp_path)
    files = {}
    for cluster, shard in ((3, 0), (4, 1)):
        host.store.save_held(held(cluster, shard, generation=5, entered={shard: 5}))
        files[cluster] = SessionFile(tmp_path / "clusters" / str(cluster) / "sessions")
        files[cluster].slot(shard, 8).take_over(session(40 + shard, f"of-{shard}"), 5)
    slot = files[3].slot(0, 8)
    master.script = script
    async with master.serve(), host.running(host.link_to(master)):
        host.push(plan(c3=(0,)))
        await wait_for(lambda: known(0) == {0: 40, 1: 41}, 5)
        slot.advance(50)
        await wait_for(lambda: known(0) == {0: 50, 1: 41}, 5)
        assert [m.sessions[0].seq for m in heard[0] if 0 in m.sessions] == [40, 50]
        assert all(m.shard_count == 8 and m.entered.get(0, 5) == 5 for m in heard[0])
        assert [1 in m.sessions for m in heard[0]].count(True) == 1, "it did not change"
        end.set()
        await wait_for(lambda: known(1) == {0: 50, 1: 41}, 5)
        host.stop.set()
    for file in files.values():
        file.close()
