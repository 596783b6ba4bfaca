# SPDX-License-Identifier: Apache-2.0
"""The real cluster process and its lease: stopped past its end, started without CONTROL."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discluster import places
from discluster.clock import SystemClock
from discluster.gateway import AiohttpTransport, Event, Identity, Shard
from discluster.gateway.intents import intent_bits
from discluster.lease import BOOT_ID_VARIABLE, StoredLease, boot_id, boottime, write_lease
from discluster.messages import Lease
from discluster.plan import Session
from discluster.secret import Secret
from discluster.sessions import read_sessions
from tests.chaos import recordings
from tests.chaos.recorder import DIRECTORY
from tests.faults.processes import ClusterProcess, cluster, resumed
from tests.faults.scene import Scene
from tests.unit.gateway.fakes import FakePermits, FakeSessions
from tests.waiting import wait_for

SHARDS = 4
OWN = "handler: tests.chaos.recorder:Recorder\n"


class Elsewhere:
    """The same shards on another machine, from a checkpoint of their sessions."""

    def __init__(self, scene: Scene, made: ClusterProcess, sessions: dict[int, Session]) -> None:
        self.taken: dict[int, list[int]] = {shard: [] for shard in sessions}
        self._identity = Identity(
            token=Secret(scene.token),
            intents=intent_bits(("GUILDS", "GUILD_MESSAGES", "DIRECT_MESSAGES")),
        )
        self._made = made
        self._sessions = sessions
        self.shards: list[Shard] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Elsewhere"]:
        async with AiohttpTransport() as transport, asyncio.TaskGroup() as tasks:
            self.shards = [self._shard(number, transport) for number in self._sessions]
            for shard in self.shards:
                tasks.create_task(shard.run())
            try:
                yield self
            finally:
                await asyncio.gather(*(shard.stop() for shard in self.shards))

    def ready(self) -> bool:
        return all(shard.view().state == "ready" for shard in self.shards)

    def _shard(self, number: int, transport: AiohttpTransport) -> Shard:
        return Shard(
            shard=number,
            shard_count=SHARDS,
            gateway_url=self._made.gateway_url,
            identity=self._identity,
            transport=transport,
            clock=SystemClock(),
            rng=random.Random(number),
            permits=FakePermits(),
            sessions=FakeSessions(self._sessions[number]),
            handler=self._take,
            on_change=lambda: None,
        )

    def _take(self, event: Event) -> None:
        self.taken[event.shard].append(event.seq)


class Frozen:
    """A cluster that was stopped with all events taken; its lease is over, and events are waiting
    in its sockets.
    """

    def __init__(self, made: ClusterProcess, directory: Path) -> None:
        self.made = made
        self._directory = directory
        self.sessions: dict[int, Session] = {}
        self.noted: dict[int, list[int]] = {}

    def read(self) -> tuple[dict[int, Session], dict[int, list[int]]]:
        """The sessions as on disk, and the sequences that the handler took, by shard."""
        found = recordings.read([self._directory])
        noted = {shard: [taken.seq for taken in found.of(shard)] for shard in range(SHARDS)}
        return read_sessions(self.made.sessions, SHARDS), noted

    async def freeze(self) -> None:
        made = self.made
        await made.client.stream(400)
        await wait_for(lambda: all(len(seqs) > 10 for seqs in self.read()[1].values()), 30)
        await made.client.stream(0)
        await wait_for(self._all_taken, 30)
        lease = Lease(until=boottime() + 0.5)
        made.control.say(lease)
        made.control.say(made.assignment(2))
        await wait_for(lambda: made.control.reports[-1].generation == 2, 5)
        made.signal(signal.SIGSTOP)
        await wait_for(lambda: "State:\tT" in Path(f"/proc/{made.pid}/status").read_text(), 5)
        self.sessions, self.noted = self.read()
        sent = (await made.client.summary()).sent
        await made.client.stream(400)
        await made.client.wait_for_summary(lambda summary: summary.sent > sent + 200, 30)
        await made.client.stream(0)
        await wait_for(lambda: boottime() > (lease.until or 0.0), 5)

    async def thaw(self) -> None:
        """Returns when the cluster has let go of its shards."""
        self.made.signal(signal.SIGCONT)
        await wait_for(lambda: self.made.control.reports[-1].shards == (), 10)

    async def _all_taken(self) -> bool:
        stored, _ = self.read()
        shards = await self.made.client.shards()
        return all(stored[view.shard[0]].seq == view.seq for view in shards)


@asynccontextmanager
async def frozen(scene: Scene, directory: Path) -> AsyncIterator[Frozen]:
    noted = directory / "noted"
    async with (
        cluster(
            scene,
            directory,
            own=OWN,
            heartbeat_interval=30.0,
            heartbeat_tolerance=30.0,
            events_per_second=0,
        ) as made,
        made.running(**{DIRECTORY: str(noted)}),
    ):
        await made.connected()
        found = Frozen(made, noted)
        await found.freeze()
        yield found


@pytest.mark.covers("F31")
async def test_process_that_was_stopped_past_its_lease_hands_over_not_one_event(
    scene: Scene, tmp_path: Path
) -> None:
    """Its shards run elsewhere by now, where everything came that it had not taken."""
    async with (
        frozen(scene, tmp_path) as found,
        Elsewhere(scene, found.made, found.sessions).running() as elsewhere,
    ):
        await wait_for(elsewhere.ready, 20)
        await found.thaw()
        assert found.read() == (found.sessions, found.noted)
        assert "the lease ended" in (found.made.control.reports[-1].problem or "")
        for shard, session in found.sessions.items():
            taken = elsewhere.taken[shard]
            assert taken == list(range(session.seq + 1, session.seq + 1 + len(taken)))
        assert sum(map(len, elsewhere.taken.values())) > 200
        assert elsewhere.ready(), "and they stay there"


@pytest.mark.covers("F31")
async def test_process_that_was_stopped_past_its_lease_goes_on_by_resume_when_it_gets_another(
    scene: Scene, tmp_path: Path
) -> None:
    """Nobody else had its shards; what lay in its sockets comes again."""
    async with frozen(scene, tmp_path) as found:
        await found.thaw()
        assert found.read() == (found.sessions, found.noted)
        summary = await found.made.client.summary()
        assert summary.closes == {"client:4000": SHARDS}
        found.made.control.say(Lease(until=None))
        await resumed(found.made, SHARDS, 10)
        await wait_for(lambda: sum(map(len, found.read()[1].values())) > 200, 10)
        _, noted = found.read()
        for shard, seqs in noted.items():
            again = seqs[len(found.noted[shard]) :]
            first = found.sessions[shard].seq + 1
            assert again == list(range(first, first + len(again)))
        assert (await found.made.client.summary()).identifies == SHARDS


@asynccontextmanager
async def left_alone(scene: Scene, directory: Path) -> AsyncIterator[ClusterProcess]:
    """A cluster that has run, and was stopped; its CONTROL is gone."""
    async with cluster(scene, directory) as made:
        async with made.running():
            await made.connected()
            made.signal(signal.SIGTERM)
            assert await made.ended() == 0
        await made.control.vanish()
        yield made


@pytest.mark.covers("F32")
async def test_process_that_starts_without_control_runs_until_the_stored_lease_ends(
    scene: Scene, tmp_path: Path
) -> None:
    async with left_alone(scene, tmp_path) as made:
        lease = StoredLease(boot_id=boot_id(os.environ), until=boottime() + 5.0)
        write_lease(places.lease_file(tmp_path), lease)
        async with made.running():
            await resumed(made, SHARDS)
            await made.client.wait_for_summary(
                lambda summary: summary.closes == {"client:4000": 2 * SHARDS}, 20
            )
            assert boottime() >= (lease.until or 0.0), "not before its end"
            await wait_for(lambda: b"the lease ended: CONTROL is away" in made.errors, 5)
        assert (await made.client.summary()).identifies == SHARDS


@pytest.mark.parametrize(
    ("lease", "told"),
    [
        (StoredLease(boot_id="thisboot", until=1.0), b"the lease ended: CONTROL is away"),
        (StoredLease(boot_id="another", until=None), b"no lease yet: CONTROL is away"),
        (None, b"no lease yet: CONTROL is away"),
    ],
)
@pytest.mark.covers("F32")
async def test_process_that_starts_with_neither_control_nor_a_lease_waits_and_says_so(
    scene: Scene, tmp_path: Path, lease: StoredLease | None, told: bytes
) -> None:
    async with left_alone(scene, tmp_path) as made:
        if lease is not None:
            write_lease(places.lease_file(tmp_path), lease)
        before = (await made.client.summary()).connections
        async with made.running(**{BOOT_ID_VARIABLE: "this-boot"}):
            await wait_for(lambda: b"no shard runs: " + told in made.errors, 20)
            write_lease(places.lease_file(tmp_path), StoredLease(boot_id="thisboot", until=None))
            await resumed(made, SHARDS)
        assert (await made.client.summary()).connections == before + SHARDS
