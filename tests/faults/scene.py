# SPDX-License-Identifier: Apache-2.0
"""Sets a stage for one test, and looks through all that was said for the token afterwards."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from discluster.gateway import AiohttpTransport, Compression
from discluster.simulator.client import SimulatorClient
from discluster.simulator.oracles import Verdict, secrets_are_kept
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.faults.stage import Stage

SHARDS = 4
# Simulated seconds between events. Nothing else happens for most of the time, so that a shorter
# one would make the tests as much slower.
TICK = 0.1


class Said(logging.Handler):
    """Everything that any part of the program logs, at every level, with tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{self.format(record)} {record.__dict__}")


class Scene:
    """Fixture ``scene``."""

    def __init__(self, directory: Path) -> None:
        # Shaped as Discord's: three parts, of which the last is the secret.
        self.token = ".".join(secrets.token_urlsafe(size) for size in (18, 4, 28))
        self.said = Said()
        self._directory = directory

    @asynccontextmanager
    async def set(
        self,
        *,
        shards: int = SHARDS,
        compression: Compression = "zstd-stream",
        start: bool = True,
        heals: bool = True,
        accused: frozenset[str] = frozenset(),
        duplicates: bool = False,
        conserves: bool = True,
        ending: str = "",
        gated: bool = False,
        recommended: int | None = None,
        tick: float = TICK,
        **settings: Any,
    ) -> AsyncIterator[Stage]:
        """A stage with ``shards``; ``start``: they are ready.

        At the end they are all ready again (``heals``), no oracle accuses them but those that are
        ``accused``, every event was taken (``conserves``), once (unless ``duplicates``).
        ``ending``: of the gateway's URL. ``recommended``: the shard count that Discord asks for,
        if it is another one. ``gated``: the shards decide together, as those of a cluster do.
        ``tick``: simulated seconds between events. ``settings``: of the simulator.
        """
        defaults: dict[str, Any] = {
            "tokens": (self.token,),
            "shards": recommended or shards,
            "guilds": 5 * shards,
            "max_concurrency": 16,
            "events_per_second": 5,
        }
        before = asyncio.all_tasks()
        async with (
            Simulator(
                SimulatorSettings(**(defaults | settings)),
                clock=asyncio.get_running_loop().time,
                tick=tick,
            ) as simulator,
            SimulatorClient(simulator.control_url) as client,
            AiohttpTransport() as transport,
        ):
            stage = Stage(
                simulator,
                client,
                transport,
                shards=shards,
                compression=compression,
                token=self.token,
                directory=self._directory,
                gateway_url=simulator.gateway_url + ending,
                gated=gated,
            )
            try:
                await stage.start(ready=start)
                yield stage
                await stage.conclude(
                    heals=heals,
                    accused=accused,
                    conserves=conserves,
                    duplicates=duplicates,
                )
            finally:
                await stage.close()
        await asyncio.sleep(0.1)
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        assert not left, "tasks are left"

    def leaks(self, printed: str) -> list[Verdict]:
        """O-16, on what was printed and logged."""
        texts = {"output": printed, "log": "\n".join(self.said.texts)}
        return list(secrets_are_kept(texts, {"the token": self.token}))
