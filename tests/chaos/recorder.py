# SPDX-License-Identifier: Apache-2.0
"""A packet handler that notes every counted event where SIGKILL cannot take it back.

One write(2) for each event, before the event counts as taken: what the kernel has is kept when the
process dies. It needs nothing of this repository but the handler's contract, so that it can be
copied to a machine of its own.
"""

import asyncio
import os
import struct
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from discluster.cluster.handlers import Commands
from discluster.gateway.events import LATER, Event, Later

DIRECTORY: Final = "DISCLUSTER_RECORDINGS"
"""Environment variable: where the files go."""
ON_A_MACHINE: Final = Path("/var/lib/discluster-recordings")
"""Where they go without it, if a drop-in lets the unit write there."""
BATCH: Final = 50
RECORD: Final = struct.Struct("<QQQQI4x32s")
"""Guild, count, sequence, nanoseconds of CLOCK_MONOTONIC, shard, session id (cut or padded)."""


class _Counted(msgspec.Struct):
    """What the simulator puts into the events that it counts."""

    guild_id: str | None = None
    count: int | None = msgspec.field(default=None, name="_count")


class Recorder:
    """Makes one file for each process: CLUSTER-PID-NANOSECONDS.events."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(_Counted).decode
        self._file = -1
        self._noted = 0
        self._heard = 0
        self.calls = {"behave": self._behave, "ask": self._ask, "heard": lambda _: self._heard}

    async def start(self, cluster: int, commands: Commands) -> None:
        self._cluster, self._commands = cluster, commands
        directory = Path(os.environ.get(DIRECTORY, ON_A_MACHINE))
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{cluster}-{os.getpid()}-{time.monotonic_ns()}.events"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)

    def handle(self, event: Event) -> Later | None:
        self._note(event)
        return None

    def _note(self, event: Event) -> None:
        body = self._decode(event.body)
        if body.count is None or body.guild_id is None:
            return
        os.write(
            self._file,
            RECORD.pack(
                int(body.guild_id),
                body.count,
                event.seq,
                time.monotonic_ns(),
                event.shard,
                event.session_id.encode(),
            ),
        )
        self._noted += 1

    async def _behave(self, badly: dict[str, list[int]]) -> int:
        """A call that hangs, or raises, in the clusters that ``badly`` names for it."""
        self._heard += 1
        if self._cluster in badly.get("hang", ()):
            await asyncio.Event().wait()
        if self._cluster in badly.get("raise", ()):
            raise RuntimeError(f"cluster {self._cluster} was told to raise")
        return self._cluster

    async def _ask(self, badly: dict[str, list[int]]) -> dict[str, Any]:
        """Calls all clusters of the fleet, and tells what came of it."""
        found = await self._commands.call("behave", badly, timeout=20.0)
        return {
            "values": found.values,
            "faults": {cluster: fault.code for cluster, fault in found.faults.items()},
            "hosts": {answer.cluster: answer.host for answer in found.answers},
            "unasked": found.unasked,
        }

    async def stop(self) -> None:
        os.close(self._file)

    def summary(self) -> str:
        return f"{self._noted} events noted"


class BatchingRecorder(Recorder):
    """Notes every event at once as well, but acknowledges BATCH events of a shard together: after
    a SIGKILL, up to so many of each shard come again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[int, int] = {}
        self._last: dict[int, Event] = {}

    async def start(self, cluster: int, commands: Commands) -> None:
        await super().start(cluster, commands)
        self._taken = commands.taken

    def handle(self, event: Event) -> Later:
        self._note(event)
        shard = event.shard
        self._open[shard] = self._open.get(shard, 0) + 1
        self._last[shard] = event
        if self._open[shard] >= BATCH:
            self._acknowledge(shard)
        return LATER

    async def flush(self, shard: int) -> None:
        self._acknowledge(shard)

    def _acknowledge(self, shard: int) -> None:
        self._open[shard] = 0
        if (last := self._last.pop(shard, None)) is not None:
            self._taken(last)
