# SPDX-License-Identifier: Apache-2.0
"""Our programs as processes of a test, which plays their service manager."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from discluster import places

REPOSITORY = Path(__file__).resolve().parent.parent.parent


class Finished(msgspec.Struct, frozen=True):
    """A command that ended."""

    returncode: int
    stdout: str
    stderr: str


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Ours, so that the programs find this checkout, without what a service manager told us."""
    private = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM")
    kept = {k: v for k, v in os.environ.items() if k not in private}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **extra}


async def run(module: str, *arguments: str, extra: Mapping[str, str] | None = None) -> Finished:
    """Runs ``python -m module`` to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        env=environment(extra or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Finished(process.returncode or 0, out.decode(), err.decode())


class Service:
    """One long-running program; ready when it says READY=1, as under systemd."""

    def __init__(
        self, module: str, arguments: Sequence[str], *, log: Path, extra: Mapping[str, str]
    ) -> None:
        self._command = (sys.executable, "-m", module, *arguments)
        self._log = log
        self._extra = dict(extra)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    def log(self) -> str:
        """Everything that it printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    async def start(self, patience: float = 20.0) -> None:
        """Returns when it is ready.

        Raises:
            RuntimeError: it ended, or was not ready in time; with what it printed.
        """
        notify = self._log.with_suffix(".notify")
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
            listener.bind(str(notify))
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=environment({**self._extra, "NOTIFY_SOCKET": str(notify)}),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            await self._ready(listener, self._process, patience)

    async def _ready(
        self, listener: socket.socket, process: asyncio.subprocess.Process, patience: float
    ) -> None:
        ended = asyncio.create_task(process.wait())
        said = asyncio.create_task(_until_ready(listener))
        done, _ = await asyncio.wait(
            {ended, said}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (ended, said):
            task.cancel()
        await asyncio.gather(ended, said, return_exceptions=True)
        if said not in done:
            how = f"ended with {process.returncode}" if ended in done else "is not ready"
            raise RuntimeError(f"{' '.join(self._command)} {how}:\n{self.log()}")

    async def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(30):
            return await process.wait()


async def _until_ready(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while b"READY=1" not in await loop.sock_recv(listener, 65536):
        pass  # a status line


def living(directory: Path) -> list[tuple[int, int]]:
    """(Cluster, process id) of the clusters that the embedded supervisor runs there."""
    found = []
    for path in places.own_runtime(directory, "control").glob("cluster-*.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid, started = path.read_text().split()
            if lives(int(pid), started):
                found.append((int(path.stem.removeprefix("cluster-")), int(pid)))
    return found


def lives(pid: int, started: str = "") -> bool:
    """``started``: as in the pid file, so that nobody else's process is taken for it."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return words[0] != "Z" and started in ("", words[19])
