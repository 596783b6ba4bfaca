# SPDX-License-Identifier: Apache-2.0
"""Simulated Discord and real clusters with the handler ``gateway``, for bots to connect to."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from discluster import places
from discluster.control.store import ControlStore
from discluster.messages import Assignment, ClusterReport, Held, ShardView
from discluster.plan import Session
from discluster.sessions import read_sessions
from discluster.simulator.client import SimulatorClient
from discluster.simulator.settings import DEFAULT_TOKEN, SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.ports import free_port
from tests.scenario.localbot import Bot
from tests.scenario.processes import Service
from tests.unit.cluster.controls import FakeControl
from tests.waiting import wait_for

TOKEN: Final = DEFAULT_TOKEN


class Host:
    """One cluster of the machine, with a CONTROL of its own."""

    def __init__(self, number: int, scene: "Scene") -> None:
        self.number = number
        self.port = scene.first_port + number
        self.shards: tuple[int, ...] = ()
        self._scene = scene
        self.runtime = scene.directory / f"r{number}"
        self.runtime.mkdir()
        self.control = FakeControl(places.clusters_socket(self.runtime))
        self._generation = 0
        self._service = Service(
            "discluster.cluster.main",
            ["--config", str(self.runtime / "cluster.yaml"), str(number)],
            log=scene.directory / f"cluster-{number}.log",
            extra={"CREDENTIALS_DIRECTORY": str(scene.directory)},
        )

    def assign(self, *shards: int, **more: Any) -> None:
        """CONTROL's word, now or at the next start."""
        self._generation += 1
        self.shards = shards
        assignment = Assignment(
            cluster=self.number,
            generation=self._generation,
            shard_count=self._scene.shard_count,
            gateway_url=self._scene.simulator.gateway_url,
            shards=shards,
            **more,
        )
        ControlStore(self._scene.directory).save_held(Held(assignment=assignment))
        if self.control.connected:
            self.control.say(assignment)

    async def start(self, **settings: Any) -> None:
        """Returns when its shards are ready. ``settings``: of the local gateway."""
        self.runtime.joinpath("cluster.yaml").write_text(
            yaml.safe_dump(
                {
                    "handler": "gateway",
                    "intents": ["GUILDS", "GUILD_MESSAGES", "DIRECT_MESSAGES"],
                    "state_directory": str(self._scene.directory),
                    "runtime_directory": str(self.runtime),
                    "local_gateway": {"first_port": self._scene.first_port, **settings},
                }
            )
        )
        self.control.heard.clear()
        await self._service.start()
        await self.until_ready()

    async def until_ready(self) -> None:
        def ready() -> bool:
            return sorted(v.shard for v in self.views() if v.state == "ready") == sorted(
                self.shards
            )

        await wait_for(ready, 30, what=f"shards {self.shards} are ready")

    def handed_over(self, shard: int) -> Session:
        """The session of a shard that left."""
        path = places.session_file(self._scene.directory, self.number)
        return read_sessions(path, self._scene.shard_count)[shard]

    def views(self) -> tuple[ShardView, ...]:
        """Of its last report."""
        reports: list[ClusterReport] = self.control.reports
        return reports[-1].shards if reports else ()

    def memory(self) -> int:
        """Bytes that it has in memory."""
        pages = Path(f"/proc/{self._service.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def stop(self) -> None:
        assert await self._service.stop() == 0, self.log()

    async def kill(self) -> None:
        await self._service.kill()

    async def end(self) -> None:
        if self._service.running:
            await self._service.kill()

    def log(self) -> str:
        return self._service.log()


class Scene:
    """``client``: what Discord can be told and asked. ``hosts``: the clusters."""

    def __init__(self, simulator: Simulator, client: SimulatorClient, directory: Path) -> None:
        self.simulator = simulator
        self.client = client
        self.directory = directory
        self.shard_count = simulator.settings.shards
        self.first_port = free_port()
        self.hosts: list[Host] = []
        self._stack = AsyncExitStack()
        (directory / "discluster.token").write_text(TOKEN)

    async def cluster(self, *shards: int, **settings: Any) -> Host:
        """One more that runs ``shards``; of none: all."""
        host = Host(len(self.hosts), self)
        self.hosts.append(host)
        await self._stack.enter_async_context(host.control)
        host.assign(*(shards or range(self.shard_count)))
        await host.start(**settings)
        return host

    def bot(self, *, client: str = "", host: int = 0, token: str = TOKEN, **more: Any) -> Bot:
        """A connection of ``client``, not yet opened."""
        return Bot(f"ws://127.0.0.1:{self.first_port + host}/{client}", token, **more)

    async def sent(self, *shards: int) -> list[tuple[int, int]]:
        """Guild and count of what Discord sent."""
        return [
            (guild, count) for shard in shards for guild, count, _ in await self.client.sent(shard)
        ]

    async def quiet(self) -> None:
        """Discord sends nothing more."""
        await self.client.stream(0)

    async def close(self) -> None:
        for host in self.hosts:
            await host.end()
        await self._stack.aclose()


@asynccontextmanager
async def scene(**simulated: Any) -> AsyncIterator[Scene]:
    """What everybody said is shown when the test fails."""
    settings = {
        "shards": 2,
        "guilds": 8,
        "events_per_second": 50,
        "max_concurrency": 4,
        "identify_interval": 0.2,
        "guild_create_rate": 1000,
    }
    directory = Path(tempfile.mkdtemp(prefix="dl-"))  # a UNIX socket's path is short
    try:
        async with (
            Simulator(msgspec.convert({**settings, **simulated}, SimulatorSettings)) as simulator,
            SimulatorClient(simulator.control_url) as client,
        ):
            made = Scene(simulator, client, directory)
            try:
                yield made
            except BaseException:
                for host in made.hosts:
                    print(f"=== cluster {host.number}\n{host.log()[-8000:]}")
                raise
            finally:
                await made.close()
    finally:
        shutil.rmtree(directory)
