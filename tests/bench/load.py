# SPDX-License-Identifier: Apache-2.0
"""The simulated Discord in a process of its own, from which the load comes."""

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import yaml

from discluster.simulator.client import SimulatorClient
from tests.bench.processes import Program, program

# hikari wants a number in the first part.
TOKEN: Final = "MTAw.bench.token"
_START: Final = 30.0

# No pauses, no limits, no events but those that are asked for.
_QUIET: Final[Mapping[str, object]] = {
    "tokens": [TOKEN],
    "events_per_second": 0,
    "identify_interval": 0,
    "max_concurrency": 1000,
    "session_start_total": 1_000_000,
    "gateway_bot_limit": 0,
    "zlib_level": 6,
    # discord.py asks for it always, and cannot read it where transport compression is off.
    "payload_compression": False,
    "replay_events": 1000,
    "sent_log": 1000,
}


class Load:
    """The running simulator. ``api``, ``gateway``: URLs."""

    def __init__(
        self, process: Program, client: SimulatorClient, *, api: str, gateway: str
    ) -> None:
        self.process = process
        self.client = client
        self.api = api
        self.gateway = gateway


@asynccontextmanager
async def load(directory: Path, *, core: int, **settings: object) -> AsyncIterator[Load]:
    """Starts it with ``settings`` beside those that make it quiet."""
    config = directory / "simulator.yaml"
    config.write_text(yaml.safe_dump({**_QUIET, **settings}))
    command = [sys.executable, "-m", "discluster.simulator", "--config", str(config)]
    started = program(command, name="simulator", directory=directory, core=core, extra={})
    async with started as process:
        where = json.loads("{" + await process.line("{", _START))
        async with SimulatorClient(where["control"]) as client:
            yield Load(process, client, api=where["api"], gateway=where["gateway"])
