# SPDX-License-Identifier: Apache-2.0
"""The real ``discluster-cluster`` as a process, in real time, against the simulated Discord."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from discluster import places
from discluster.control.store import ControlStore
from discluster.messages import Assignment, Held
from discluster.sessions import read_sessions
from discluster.simulator.client import SimulatorClient
from discluster.simulator.oracles import ProcessSample, sample_process
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.faults.scene import Scene
from tests.unit.cluster.controls import FakeControl
from tests.unit.processes import started
from tests.waiting import wait_for

CLUSTER = 3


class ClusterProcess:
    """The cluster, its CONTROL, and where it keeps things."""

    def __init__(
        self,
        scene: Scene,
        directory: Path,
        simulator: Simulator,
        *,
        control: FakeControl,
        shards: int,
        settings: str,
    ) -> None:
        self.control = control
        self.shards = shards
        self.gateway_url = simulator.gateway_url
        self.errors = b""
        self.client = SimulatorClient(simulator.control_url)
        self._scene = scene
        self._directory = directory
        self._config = directory / "cluster.yaml"
        self._process: asyncio.subprocess.Process | None = None
        self._prepare(settings)

    @property
    def sessions(self) -> Path:
        """The cluster's session file."""
        return places.session_file(self._directory / "state", CLUSTER)

    def assignment(self, generation: int) -> Assignment:
        """All shards."""
        return Assignment(
            cluster=CLUSTER,
            generation=generation,
            shard_count=self.shards,
            gateway_url=self.gateway_url,
            shards=tuple(range(self.shards)),
        )

    def _prepare(self, settings: str) -> None:
        state = self._directory / "state"
        self._config.write_text(
            f"state_directory: {state}\nruntime_directory: {self._directory}\nlog_level: debug\n"
            + settings
        )
        (self._directory / "discluster.token").write_text(self._scene.token)
        ControlStore(state).save_held(Held(assignment=self.assignment(1)))

    @asynccontextmanager
    async def running(self, **variables: str) -> AsyncIterator["ClusterProcess"]:
        """While the process runs; it is killed at the end if it still does."""
        environment = {"CREDENTIALS_DIRECTORY": str(self._directory), **variables}
        async with started(
            "discluster.cluster.main",
            *("--config", self._config, str(CLUSTER)),
            environment=environment,
        ) as process:
            self._process = process
            reading = asyncio.create_task(self._read(process))
            try:
                yield self
            finally:
                if process.returncode is None:
                    process.kill()
                await reading
                await process.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while chunk := await process.stderr.read(1 << 16):
            self.errors += chunk

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def connected(self, timeout: float = 30.0) -> None:
        """Every shard has its living connection at Discord, and the cluster keeps its session.

        What Discord has sent, a process may not have read yet; a session that it was killed before
        it knew is lost.
        """
        await self.client.wait_for_connected(len(self.assignment(1).shards), timeout)
        await wait_for(self._keeps_all, timeout, what="a session is kept for each shard")

    def _keeps_all(self) -> bool:
        return read_sessions(self.sessions, self.shards).keys() == set(self.assignment(1).shards)

    def sample(self) -> ProcessSample:
        return sample_process(self.pid)


@asynccontextmanager
async def cluster(
    scene: Scene,
    directory: Path,
    *,
    shards: int = 4,
    accused: frozenset[str] = frozenset(),
    own: str = "",
    **settings: object,
) -> AsyncIterator[ClusterProcess]:
    """A simulated Discord and a cluster that is not started yet; no oracle but the ``accused``
    accuses it at the end, and nothing that it wrote holds its token. ``own``: more of the cluster's
    settings, as YAML.
    """
    asked: dict[str, object] = {
        "tokens": (scene.token,),
        "shards": shards,
        "guilds": 20,
        "identify_interval": 0,
        "heartbeat_interval": 1.0,
        "heartbeat_tolerance": 1.5,
    }
    async with (
        Simulator(SimulatorSettings(**(asked | settings))) as simulator,  # type: ignore[arg-type]
        FakeControl(places.clusters_socket(directory)) as control,
    ):
        made = ClusterProcess(
            scene, directory, simulator, control=control, shards=shards, settings=own
        )
        try:
            yield made
            verdicts = await made.client.judgement()
            assert {verdict.oracle for verdict in verdicts} == accused, verdicts
        finally:
            await made.client.close()
            print(made.errors.decode())
            scene.said.texts.append(made.errors.decode())


async def resumed(made: ClusterProcess, count: int, timeout: float = 30.0) -> None:
    """So many RESUMEDs were sent in all, and everybody is connected."""

    async def enough() -> bool:
        return (await made.client.summary()).resumed >= count

    await wait_for(enough, timeout, what=f"{count} resumed")
    await made.connected()
