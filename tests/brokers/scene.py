# SPDX-License-Identifier: Apache-2.0
"""A simulated Discord, a real discluster-cluster that publishes, and a real broker."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from discluster import places
from discluster.control.store import ControlStore
from discluster.messages import Assignment, Held
from discluster.sessions import read_sessions
from discluster.simulator.client import SimulatorClient
from discluster.simulator.settings import DEFAULT_TOKEN, SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.bench.cluster import GrantingControl
from tests.brokers import installation
from tests.brokers.servers import BrokerServer, Kind
from tests.scenario.processes import Service, environment
from tests.waiting import wait_for

SHARDS: Final = 4
STREAM: Final = "EVENTS"
PATIENCE: Final = 40.0
_DRIVERS: Final = Path(__file__).resolve().parent / "drivers"


class Published(msgspec.Struct, frozen=True):
    """What a consumer sees of an event. ``place``: subject, or key of the stream; ``guild`` and
    ``count``: the simulator's name for it, where it has one.
    """

    place: str
    id: str
    shard: int
    seq: int
    type: str
    left_out: str | None
    guild: str | None
    count: int | None


class Scene:
    """All of it, as processes, but for the simulator."""

    def __init__(
        self, kind: Kind, simulator: SimulatorClient, server: BrokerServer, directory: Path
    ) -> None:
        self.simulator = simulator
        self.server = server
        self.control = GrantingControl()
        self._kind = kind
        self._directory = directory
        self.cluster = Service(
            "discluster.cluster.main",
            ["--config", str(directory / "cluster.yaml"), "0"],
            log=directory / "cluster.log",
            extra={"CREDENTIALS_DIRECTORY": str(directory)},
        )

    def configure(self, gateway: str, settings: Mapping[str, object], extra: object) -> None:
        """Writes the cluster's files. ``settings``: of the handler; ``extra``: of the cluster."""
        (self._directory / "discluster.token").write_text(DEFAULT_TOKEN)
        port = self.server.port
        usual: dict[str, object] = (
            {"servers": [f"nats://127.0.0.1:{port}"], "stream": {"create": STREAM}}
            if self._kind == "nats"
            else {"server": f"redis://127.0.0.1:{port}", "length": 0}
        )
        written = {
            "handler": self._kind,
            self._kind: {**usual, **settings},
            "state_directory": str(self._directory),
            "runtime_directory": str(self._directory),
            **msgspec.convert(extra, dict[str, object]),
        }
        (self._directory / "cluster.yaml").write_text(yaml.safe_dump(written))
        assignment = Assignment(
            cluster=0,
            generation=1,
            shard_count=SHARDS,
            gateway_url=gateway,
            shards=tuple(range(SHARDS)),
        )
        ControlStore(self._directory).save_held(Held(assignment=assignment))

    async def ready(self) -> None:
        """All shards are connected."""
        await self.control.wait_for_ready(SHARDS, PATIENCE)

    async def says(self, words: str) -> None:
        """Status says so of all shards."""

        def said() -> bool:
            report = self.control.report
            return report is not None and all(
                words in (shard.problem or "") for shard in report.shards
            )

        await wait_for(said, PATIENCE, what=f"{words!r} in status")

    async def acknowledged(self) -> None:
        """Everything that the simulator sent is acknowledged: as it stands on disk."""
        path = places.session_file(self._directory, 0)

        async def all_of_it() -> bool:
            sent = {view.shard[0]: view.seq for view in await self.simulator.shards()}
            kept = {shard: session.seq for shard, session in read_sessions(path, SHARDS).items()}
            return sent == kept

        await wait_for(all_of_it, PATIENCE, what="all is acknowledged")

    async def published(self) -> list[Published]:
        """What consumers find, oldest first (of each key, with Redis)."""
        name = STREAM if self._kind == "nats" else "discord"
        process = await asyncio.create_subprocess_exec(
            str(installation.PYTHON),
            str(_DRIVERS / f"{self._kind}_dump.py"),
            *(str(self.server.port), name),
            env=environment({}),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return [msgspec.json.decode(line, type=Published) for line in out.splitlines()]

    async def sent(self) -> set[tuple[str, int]]:
        """Guild and count of each event that the simulator sent."""
        return {
            (str(guild), count)
            for shard in range(SHARDS)
            for guild, count, _ in await self.simulator.sent(shard)
        }

    def log(self) -> str:
        return self.cluster.log()


@asynccontextmanager
async def scene(
    kind: Kind,
    directory: Path,
    *,
    rate: float = 0.0,
    broker: bool = True,
    settings: Mapping[str, object] | None = None,
    cluster: Mapping[str, object] | None = None,
    options: Sequence[str] = (),
    **simulator: Any,
) -> AsyncIterator[Scene]:
    """Everything runs and is ready, the broker only if ``broker``. ``rate``: events in a second of
    each shard. ``settings``: of the handler; ``cluster``: others of cluster.yaml; ``options``: of
    the broker's configuration, lines; ``simulator``: its settings.
    """
    async with AsyncExitStack() as stack:
        wanted: dict[str, Any] = {
            "gateway_ports": (0, 0, 0),
            "shards": SHARDS,
            "guilds": 64,
            "identify_interval": 0.0,
            "events_per_second": rate,
            "events_without_session": True,
            "sent_log": 1_000_000,
            **simulator,
        }
        running = await stack.enter_async_context(Simulator(SimulatorSettings(**wanted)))
        client = await stack.enter_async_context(SimulatorClient(running.control_url))
        server = BrokerServer(kind, directory / kind, options=options)
        stack.push_async_callback(server.kill)
        if broker:
            await server.start()
        made = Scene(kind, client, server, directory)
        made.configure(running.gateway_url, settings or {}, cluster or {})
        socket = places.clusters_socket(directory)
        socket.parent.mkdir(exist_ok=True)
        listening = await asyncio.start_unix_server(made.control.serve, socket, limit=1 << 24)
        await stack.enter_async_context(listening)
        stack.push_async_callback(made.cluster.kill)
        try:
            await made.cluster.start()
            await made.ready()
            yield made
        except BaseException:
            print(f"--- the cluster:\n{made.log()[-20_000:]}\n--- {kind}:\n{server.log()[-5_000:]}")
            raise
