# SPDX-License-Identifier: Apache-2.0
"""The real ``discluster-cluster``, with an assignment on disk and a CONTROL that grants at once."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import yaml

from discluster import places
from discluster.clock import SystemClock
from discluster.control.store import ControlStore
from discluster.messages import (
    PERMIT_LIFE,
    Assignment,
    ClusterReport,
    Halt,
    Held,
    Lease,
    Permit,
    PermitRequest,
    cluster_to_control,
    decode,
    encode,
)
from discluster.plan import MAXIMUM_SHARDS_PER_CLUSTER
from discluster.sessions import read_sessions
from tests.bench.orders import Compression
from tests.bench.processes import Program, program

DEFAULT_HANDLER: Final = "discluster.cluster.handlers.count:CountingHandler"
_LINE_LIMIT: Final = 16 * 1024 * 1024
_COMPRESSION: Final = {"none": "none", "zlib": "zlib-stream", "zstd": "zstd-stream"}


class GrantingControl:
    """CONTROL's end of the UNIX socket: grants every permit at once, keeps the last report."""

    def __init__(self) -> None:
        self.report: ClusterReport | None = None
        self._heard = asyncio.Event()

    async def wait_for_ready(self, shards: int, patience: float) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(patience):
            while self._ready() < shards:
                self._heard.clear()
                await self._heard.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        # What CONTROL says first: nothing keeps the cluster from dialling.
        writer.write(encode(Lease(until=None)) + b"\n" + encode(Halt(reason=None)) + b"\n")
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                message = decode(cluster_to_control, line, peer="the cluster")
                if isinstance(message, PermitRequest):
                    writer.write(encode(_permit(message.shard)) + b"\n")
                elif isinstance(message, ClusterReport):
                    self.report = message
                    self._heard.set()
        writer.close()

    def _ready(self) -> int:
        if self.report is None:
            return 0
        return sum(shard.state == "ready" for shard in self.report.shards)


def _permit(shard: int) -> Permit:
    now = SystemClock().monotonic()
    return Permit(shard=shard, since=now, until=now + PERMIT_LIFE)


class ClusterSetting(msgspec.Struct, frozen=True, kw_only=True):
    """What the measured cluster runs. ``settings``: what else its cluster.yaml says."""

    number: int = 0
    gateway: str
    token: str
    shard_count: int
    shards: tuple[int, ...]
    compression: Compression = "zstd"
    handler: str = DEFAULT_HANDLER
    settings: Mapping[str, object] = {}


class Cluster:
    """The running cluster."""

    def __init__(
        self, process: Program, control: GrantingControl, setting: ClusterSetting, sessions: Path
    ) -> None:
        self.process = process
        self._control = control
        self._setting = setting
        self._sessions = sessions

    async def wait_for_ready(self, patience: float) -> None:
        """Raises BenchError."""
        try:
            await self._control.wait_for_ready(len(self._setting.shards), patience)
        except TimeoutError:
            raise self.process.failure(f"is not ready within {patience:g} s") from None

    def sequences(self) -> int:
        """Sum of the last sequence of each shard, as it stands on disk."""
        stored = read_sessions(self._sessions, self._setting.shard_count)
        return sum(session.seq for session in stored.values())


@asynccontextmanager
async def cluster(
    setting: ClusterSetting, directory: Path, *, core: int, extra: dict[str, str]
) -> AsyncIterator[Cluster]:
    """Starts it, with its files below ``directory`` (a short name: it holds a socket)."""
    control = GrantingControl()
    directory = directory / str(setting.number)
    directory.mkdir()
    config = _write_files(setting, directory)
    socket = places.clusters_socket(directory)
    socket.parent.mkdir(exist_ok=True)
    server = await asyncio.start_unix_server(control.serve, socket, limit=_LINE_LIMIT)
    command = [
        sys.executable,
        "-m",
        "discluster.cluster.main",
        "--config",
        str(config),
        str(setting.number),
    ]
    told = {"CREDENTIALS_DIRECTORY": str(directory), **extra}
    async with server:
        started = program(command, name="cluster", directory=directory, core=core, extra=told)
        async with started as process:
            yield Cluster(process, control, setting, places.session_file(directory, setting.number))


def split(shards: int, *, most: int = MAXIMUM_SHARDS_PER_CLUSTER) -> list[tuple[int, ...]]:
    """The shards of each cluster: as few clusters as can be, all of about the same size."""
    clusters = -(-shards // most)
    bounds = [shards * number // clusters for number in range(clusters + 1)]
    return [tuple(range(first, last)) for first, last in pairwise(bounds)]


def _write_files(setting: ClusterSetting, directory: Path) -> Path:
    (directory / "discluster.token").write_text(setting.token)
    settings = {
        "handler": setting.handler,
        "intents": ["GUILDS", "GUILD_MESSAGES", "MESSAGE_CONTENT"],
        "compression": _COMPRESSION[setting.compression],
        "state_directory": str(directory),
        "runtime_directory": str(directory),
        **setting.settings,
    }
    config = directory / "cluster.yaml"
    config.write_text(yaml.safe_dump(settings))
    assignment = Assignment(
        cluster=setting.number,
        generation=1,
        shard_count=setting.shard_count,
        gateway_url=setting.gateway,
        shards=setting.shards,
    )
    store = ControlStore(directory)
    store.save_held(Held(assignment=assignment))
    return config
