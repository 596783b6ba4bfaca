# SPDX-License-Identifier: Apache-2.0
"""A real cluster with the local gateway, on a simulated Discord under load."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from discluster import places
from discluster.messages import Assignment
from discluster.simulator import ledger
from discluster.simulator.client import SimulatorClient
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.clients import installation
from tests.clients.pairing.bot import Addresses, Bot, Library
from tests.faults.processes import CLUSTER, ClusterProcess
from tests.faults.scene import Scene
from tests.ports import free_port
from tests.unit.cluster.controls import FakeControl

# hikari reads the application's id out of the token's first part.
TOKEN: Final = "MTAw.simulated.token"
SHARD_COUNT: Final = 6
SHARDS: Final = (1, 2, 5)
"""Of the cluster: not the first ones, and not in a row."""
GUILDS: Final = 24
_INTENTS: Final = ("GUILDS", "GUILD_MESSAGES", "MESSAGE_CONTENT")


class PairedCluster(ClusterProcess):
    """Runs some of the shards, and serves them to bots."""

    def assignment(self, generation: int) -> Assignment:
        return msgspec.structs.replace(super().assignment(generation), shards=SHARDS)


class Pairing:
    """The cluster and the bots beside it."""

    def __init__(
        self, cluster: ClusterProcess, simulator: Simulator, port: int, directory: Path
    ) -> None:
        self.cluster = cluster
        self.simulator: SimulatorClient = cluster.client
        self._api = simulator.api
        self._port = port
        self._directory = directory
        self._bots: list[Bot] = []

    def bot(self, library: Library, *, client: str = "", **options: Any) -> Bot:
        """The documented program of a library. ``client``: its declared name, if not the first."""
        gateway = f"http://127.0.0.1:{self._port}" + (client and f"/{client}")
        addresses = Addresses(gateway=gateway, api=self._api, token=TOKEN)
        self._bots.append(Bot(library, addresses, self._directory / library, **options))
        return self._bots[-1]

    def give(self, shards: Sequence[int]) -> None:
        """CONTROL assigns these to the cluster."""
        assigned = self.cluster.assignment(2)
        self.cluster.control.say(msgspec.structs.replace(assigned, shards=tuple(shards)))

    async def records(self, *kinds: str) -> list[ledger.AnyRecord]:
        """What arrived at Discord, of these kinds."""
        return await self.simulator.ledger(kinds=kinds)

    async def commands(self) -> list[ledger.Command]:
        """Those that arrived at Discord."""
        records = await self.records("command")
        return [record for record in records if isinstance(record, ledger.Command)]

    async def requests(self) -> list[str]:
        """Paths of Discord's API that were asked for."""
        return [r.path for r in await self.records("http") if isinstance(r, ledger.Http)]

    async def sent(self, shards: Sequence[int]) -> set[tuple[int, int]]:
        """Guild and count of all events that Discord sent to these."""
        return {
            (guild, count)
            for shard in shards
            for guild, count, _ in await self.simulator.sent(shard)
        }

    async def nothing_but_its_own_start(self) -> None:
        """No bot has caused an IDENTIFY, a RESUME, a connection or the end of one, and no oracle
        accuses the cluster.
        """
        identifies = await self.records("identify")
        assert sorted(record.shard or () for record in identifies) == [
            (shard, SHARD_COUNT) for shard in SHARDS
        ]
        assert len(await self.records("open")) == len(SHARDS)
        assert await self.records("resume", "close", "invalid_session") == []
        verdicts = await self.simulator.judgement()
        assert verdicts == [], "\n".join(f"{v.oracle} {v.text}" for v in verdicts)

    def show(self) -> None:
        """What everybody said."""
        for bot in self._bots:
            print(f"--- {bot.library}:\n{bot.log()}")
        print(f"--- the cluster:\n{self.cluster.errors.decode()[-20_000:]}")


@asynccontextmanager
async def paired(
    directory: Path, *, clients: Sequence[str] = ("bot",), events_per_second: float = 20.0
) -> AsyncIterator[Pairing]:
    """With the cluster's shards ready, and no bot yet; ``directory`` is made, and removed."""
    directory.mkdir()
    port = free_port()
    settings = {
        "handler": "gateway",
        "intents": list(_INTENTS),
        "local_gateway": {"first_port": port - CLUSTER, "clients": list(clients)},
    }
    scene = Scene(directory)
    scene.token = TOKEN
    with _guarded(directory):
        async with (
            Simulator(_simulated(events_per_second)) as simulator,
            FakeControl(places.clusters_socket(directory)) as control,
        ):
            cluster = PairedCluster(
                scene,
                directory,
                simulator,
                control=control,
                shards=SHARD_COUNT,
                settings=yaml.safe_dump(settings),
            )
            async with cluster.client, cluster.running():
                await cluster.connected()
                yield Pairing(cluster, simulator, port, directory)


@contextmanager
def _guarded(directory: Path) -> Iterator[None]:
    """Nothing of what runs there outlives a test that is killed."""
    guardian = subprocess.Popen(
        [sys.executable, "-m", "tests.scenario.guardian", str(directory)],
        cwd=installation.REPOSITORY,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    with guardian:
        yield


def _simulated(events_per_second: float) -> SimulatorSettings:
    return SimulatorSettings(
        tokens=(TOKEN,),
        shards=SHARD_COUNT,
        guilds=GUILDS,
        members=5,
        identify_interval=0.0,
        heartbeat_interval=2.0,
        events_per_second=events_per_second,
    )
