# SPDX-License-Identifier: Apache-2.0
"""A program of somebody else's as a unit of a service manager, with systemd's manners.

When its main process ends, the rest of its process group is killed, as systemd does with a unit's
control group, and after a second it is started again, as our clusters are.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.clients.foreign import loopback_environment

RESTART_PAUSE: Final = 1.0
_STOP_TIMEOUT: Final = 10.0


class Unit:
    """One program."""

    def __init__(self, command: Sequence[str], *, log: Path) -> None:
        self._command = tuple(command)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts it, and from now on again whenever it ends."""
        self._process = await self._started()
        self._keeper = asyncio.create_task(self._keep())

    @property
    def pid(self) -> int:
        """Of its main process, which leads its process group."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    def tell(self, line: str) -> None:
        """Writes a line to its standard input."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    def log(self) -> str:
        """What it printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def stop(self) -> None:
        """SIGTERM for all of it, SIGKILL for what does not end; not started again."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._process is None:
            return
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT)
        self._signal_group(signal.SIGKILL)
        await self._process.wait()

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            self._signal_group(signal.SIGKILL)
            await asyncio.sleep(RESTART_PAUSE)
            self._process = await self._started()

    async def _started(self) -> asyncio.subprocess.Process:
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self._command,
                env=loopback_environment(),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
