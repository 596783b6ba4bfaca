# SPDX-License-Identifier: Apache-2.0
"""Packet handlers of an attacker: they run what is put into their cluster's directory as ``order``.

So a test does things as a process of a cluster, in its unit and its sandbox. Copied to a machine,
it needs nothing of this repository.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

PLACE = Path("/var/lib/discluster/clusters")


class Intruder:
    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def start(self, cluster: int, _commands: Any) -> None:
        self._task = asyncio.create_task(self._obey(PLACE / str(cluster)))

    def handle(self, event: Any) -> None:
        return None

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def summary(self) -> str:
        return ""

    async def _obey(self, place: Path) -> None:
        order = place / "order"
        while True:
            await asyncio.sleep(0.02)
            if not order.exists():
                continue
            child = await asyncio.create_subprocess_exec(
                *("/bin/sh", str(order)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=place,
            )
            said, _ = await child.communicate()
            order.unlink()
            (place / "answer.new").write_bytes(b"%d\n%s" % (child.returncode or 0, said))
            (place / "answer.new").rename(place / "answer")


class Clumsy(Intruder):
    """It cannot take a single event, and says so with all of it."""

    def handle(self, event: Any) -> None:
        raise ValueError(f"cannot take {event.type}: {bytes(event.body)!r}")
