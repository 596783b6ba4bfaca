# SPDX-License-Identifier: Apache-2.0
"""A bot made with a library of others, as a subject: real processes on loopback."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from discluster.cluster.settings import ClusterSettings
from discluster.gateway.intents import intent_bits
from discluster.simulator.client import SimulatorClient
from discluster.simulator.views import ShardView
from tests.chaos.observer import newest
from tests.chaos.ours import SIMULATOR
from tests.chaos.peers.libraries import PROCESSES, Library
from tests.chaos.peers.units import Unit
from tests.ports import free_port
from tests.scenario.processes import REPOSITORY, Service
from tests.waiting import wait_for

# hikari reads the application's id out of the token's first part.
TOKEN: Final = "MTAw.simulated.token"
IDENTIFY_INTERVAL: Final = 0.5
"""As for our fleet: a tenth of Discord's. Whatever a library does every 5 s because of that is set
to the same tenth, where it can be set.
"""
_MAX_CONCURRENCY: Final = 16
BACK: Final = 60.0
"""Seconds for shards to come back."""


class Peer:
    """See tests.chaos.observer.Subject."""

    def __init__(self, library: Library, *, shards: int, directory: Path) -> None:
        self.title = library.title
        self.shards = shards
        self.library = library
        self._directory = directory
        config = directory / "bot.json"
        self._control = f"unix:{directory / 'simulator.sock'}"
        self.simulator = SimulatorClient(self._control)
        self._service = Service(
            "discluster.simulator",
            ("--config", str(directory / "simulator.yaml")),
            log=directory / "simulator.log",
            extra={},
        )
        self.units = {
            name: Unit(command, log=directory / f"{name}.log")
            for name, command in library.commands(str(config)).items()
        }

    def recordings(self) -> tuple[Path, ...]:
        return (self._directory / "recordings",)

    async def start(self, seed: int) -> None:
        """Returns when all shards are connected.

        Raises:
            RuntimeError: they are not; with what the programs printed.
        """
        self.recordings()[0].mkdir()
        http, gateway = free_port(), free_port()
        (self._directory / "simulator.yaml").write_text(
            yaml.safe_dump(self._simulated(http, gateway, seed))
        )
        (self._directory / "bot.json").write_text(json.dumps(self._told(http, gateway)))
        await self._service.start()
        for unit in self.units.values():
            await unit.start()
        try:
            await self.simulator.wait_for_connected(self.shards, BACK)
        except TimeoutError:
            raise RuntimeError(f"{self.title} does not start:\n{self.log()}") from None

    async def stop(self) -> None:
        await self.simulator.close()
        for unit in self.units.values():
            await unit.stop()
        await self._service.stop()

    def log(self) -> str:
        """The ends of what the programs printed."""
        return "\n".join(f"=== {name}\n{unit.log()[-3000:]}" for name, unit in self.units.items())

    def workers(self) -> dict[int, int]:
        """The processes with shards that live: first shard -> process id."""
        groups = {unit.pid for unit in self.units.values()}
        names = [path.stem.split("-") for path in self.recordings()[0].glob("*.events")]
        # One that was killed may still be there as a zombie: only the newest counts.
        latest = {
            int(first): int(pid) for first, pid, _ in sorted(names, key=lambda name: int(name[2]))
        }
        return {first: pid for first, pid in latest.items() if _group(pid) in groups}

    async def kill(self, first: int) -> None:
        """SIGKILL for the worker whose first shard that is, as soon as it has a process."""
        await wait_for(lambda: first in self.workers(), BACK, what=f"worker {first} lives")
        os.kill(self.workers()[first], signal.SIGKILL)

    async def restart(self, first: int) -> None:
        """What its library has for an orderly restart."""
        await wait_for(lambda: first in self.workers(), BACK, what=f"worker {first} lives")
        if self.library.respawn:
            assert self.library.manager is not None
            self.units[self.library.manager[0]].tell(f"respawn {first}")
        else:
            await self._interrupt(self.workers()[first])

    async def _interrupt(self, pid: int) -> None:
        """Raises RuntimeError if it does not mind: no row may tell of a restart that was none."""
        os.kill(pid, signal.SIGINT)
        try:
            await wait_for(lambda: pid not in self.workers().values(), BACK, what="it ends")
        except TimeoutError:
            raise RuntimeError(f"process {pid} of {self.title} ignores SIGINT") from None

    def kill_manager(self) -> None:
        """SIGKILL."""
        assert self.library.manager is not None
        os.kill(self.units[self.library.manager[0]].pid, signal.SIGKILL)

    def shards_of(self, first: int) -> range:
        """Those of the worker whose first shard that is."""
        return range(first, first + self.library.share(self.shards))

    @asynccontextmanager
    async def replaced(self, shards: Collection[int]) -> AsyncIterator[None]:
        """Waits at the end until all are connected, each of these by another connection and with
        events on it; but not for ever: who is not back shows in the row.
        """
        before = {view.connection for view in newest(await self.simulator.shards()).values()}
        yield

        def back(views: list[ShardView]) -> bool:
            now = newest(views)
            connected = sum(view.state == "connected" for view in now.values())
            return connected == self.shards and all(
                now[shard].connection not in before and now[shard].seq > now[shard].guilds + 1
                for shard in shards
            )

        with contextlib.suppress(TimeoutError):
            await self.simulator.wait_for_shards(back, BACK)

    def _simulated(self, http: int, gateway: int, seed: int) -> dict[str, Any]:
        return {
            **SIMULATOR,
            "shards": self.shards,
            "guilds": 20 * self.shards,
            "max_concurrency": _MAX_CONCURRENCY,
            "identify_interval": IDENTIFY_INTERVAL,
            "gateway_bot_limit": 20,  # in 5 s: ten times as fast, like identifies
            "tokens": [TOKEN],
            "http_port": http,
            "gateway_ports": [gateway],
            "control": self._control,
            "seed": seed,
        }

    def _told(self, http: int, gateway: int) -> dict[str, Any]:
        return {
            "api": f"http://127.0.0.1:{http}/api/v10",
            "gateway": f"ws://127.0.0.1:{gateway}",
            "token": TOKEN,
            "shards": self.shards,
            "processes": min(PROCESSES, self.shards),
            "intents": intent_bits(ClusterSettings().intents),
            "recordings": str(self.recordings()[0]),
            "identify_interval": IDENTIFY_INTERVAL,
            "ipc_port": free_port(),
        }


def _group(pid: int) -> int | None:
    """The process group of a process, None if there is no such process."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@asynccontextmanager
async def peer(library: Library, *, shards: int, seed: int) -> AsyncIterator[Peer]:
    """A bot with all shards connected; nothing of it is left afterwards, however this ends."""
    # Not pytest's tmp_path: a UNIX socket's path has at most 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="discluster-"))
    guardian = subprocess.Popen(
        [sys.executable, "-m", "tests.scenario.guardian", str(directory)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert guardian.stdin is not None
    bot = Peer(library, shards=shards, directory=directory)
    try:
        await bot.start(seed)
        yield bot
    finally:
        try:
            await bot.stop()
        finally:
            guardian.stdin.close()
            await asyncio.to_thread(guardian.wait)
