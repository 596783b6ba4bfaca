# SPDX-License-Identifier: Apache-2.0
"""Programs that are measured: each on a core of its own, looked at from outside."""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from tests.scenario import processes as scenario

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
_PR_SET_PDEATHSIG: Final = 1
_GRACE: Final = 10.0
_TOLD: Final = 2000


class BenchError(Exception):
    """A measurement is not possible or not valid; the message says why."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Of one process, in kB: resident, and its share of what it has in common with others."""

    rss: int
    pss: int


class Program:
    """One child process; its standard output is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        assert process.stdout is not None
        self.pid = process.pid
        self._process = process
        self._lines = process.stdout
        self._log = log

    async def line(self, beginning: str, patience: float) -> str:
        """The rest of the next line that begins so.

        Raises:
            BenchError: it ended, or said nothing for ``patience`` seconds.
        """
        try:
            async with asyncio.timeout(patience):
                while raw := await self._lines.readline():
                    text = raw.decode(errors="replace").strip()
                    if text.startswith(beginning):
                        return text.removeprefix(beginning).strip()
        except TimeoutError:
            raise self.failure(f"does not say {beginning!r} within {patience:g} s") from None
        await self._process.wait()
        raise self.failure(f"ended with {self._process.returncode}")

    def say(self, line: str) -> None:
        """To its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def failure(self, what: str) -> BenchError:
        """With the end of what it logged."""
        said = self._log.read_text(errors="replace")[-_TOLD:]
        return BenchError(f"{self._log.stem} {what}\n{said}")

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far, those that have ended included."""
        return cpu_seconds(self.pid)

    def memory(self) -> Memory:
        """As it is now."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = dict(re.findall(r"^(Rss|Pss): +(\d+) kB$", text, re.MULTILINE))
        return Memory(rss=int(found["Rss"]), pss=int(found["Pss"]))

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not end."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _GRACE)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads, those that have ended included."""
    # What clock_getcpuclockid(3) gives: nanoseconds, where /proc/PID/stat has hundredths.
    return time.clock_gettime((~pid << 3) | 2)


@asynccontextmanager
async def program(
    command: Sequence[str],
    *,
    name: str,
    directory: Path,
    core: int,
    extra: Mapping[str, str],
    obeys: bool = False,
) -> AsyncIterator[Program]:
    """Runs ``command`` on ``core``; it does not outlive this context, nor this process. ``obeys``:
    it reads lines, see :meth:`Program.say`.
    """
    log = directory / f"{name}.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment(extra),
            stdin=asyncio.subprocess.PIPE if obeys else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            preexec_fn=_confine(core),
        )
    started = Program(process, log)
    try:
        yield started
    finally:
        await started.stop()


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Ours without what a service manager told us; nothing goes through a proxy."""
    return scenario.environment({"NO_PROXY": "*", "no_proxy": "*", **extra})


def _confine(core: int) -> Callable[[], None]:
    # Looked up here: between fork and exec nothing may be loaded.
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def confine() -> None:
        os.sched_setaffinity(0, {core})
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return confine


class Cores(msgspec.Struct, frozen=True, kw_only=True):
    """Who runs where. With a single core both do on that one, which only a smoke run may."""

    client: int
    simulator: int


def cores() -> Cores:
    """The last core for the clients: the first one often serves the machine's interrupts."""
    free = sorted(os.sched_getaffinity(0))
    return Cores(client=free[-1], simulator=free[0])
