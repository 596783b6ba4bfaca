# SPDX-License-Identifier: Apache-2.0
"""The supervisor ``embedded``: clusters as child processes, with systemd's manners.

As in discluster-cluster@.service: what ends is restarted after a second; what ends five times
within a minute is given up; exit status 70 (Discord refuses) or 78 (configuration) is final.
The processes lead their own sessions, and a file with their process id lets a CONTROL that was
killed find them again.
"""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from discluster.clock import Clock
from discluster.control.supervisor import UnitView
from discluster.errors import ConfigurationError, DiscordError, StateError, SupervisorError
from discluster.files import write_atomically
from discluster.messages import UnitState

log = logging.getLogger(__name__)

_RESTART_PAUSE: Final = 1.0
_START_LIMIT: Final = 5
_START_LIMIT_INTERVAL: Final = 60.0
_STOP_TIMEOUT: Final = 20.0
_FINAL: Final = {
    DiscordError.exit_status: "Discord refuses the bot",
    ConfigurationError.exit_status: "a configuration error",
}


class EmbeddedSupervisor:
    """Runs ``command + [N]`` for each cluster N."""

    def __init__(
        self,
        *,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        clock: Clock,
        keep_on_close: bool,
        restart_pause: float = _RESTART_PAUSE,
        stop_timeout: float = _STOP_TIMEOUT,
    ) -> None:
        """``directory``: where the files with process ids are; exists already. ``stop_timeout``:
        seconds between SIGTERM and SIGKILL.
        """
        self._command = tuple(command)
        self._directory = directory
        self._environment = dict(environment)
        self._clock = clock
        self._keep = keep_on_close
        self._restart_pause = restart_pause
        self._stop_timeout = stop_timeout
        self._units: dict[int, _Unit] = {}
        self._on_change: Callable[[], None] = lambda: None

    @property
    def clusters_outlive_control(self) -> bool:
        return self._keep

    async def open(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        for path in self._directory.glob("cluster-*.pid"):
            number = path.stem.removeprefix("cluster-")
            if number.isdigit():
                self._unit(int(number)).adopt()

    async def close(self) -> None:
        if not self._keep:
            await asyncio.gather(*(unit.stop() for unit in self._units.values()))
        for unit in self._units.values():
            await unit.abandon()

    async def units(self) -> Mapping[int, UnitView]:
        return {cluster: unit.view() for cluster, unit in self._units.items()}

    async def runs(self, cluster: int, pid: int) -> bool:
        unit = self._units.get(cluster)
        return unit is not None and unit.view().pid == pid

    async def going_down(self) -> bool:
        """Never: whoever shuts this machine down stops CONTROL, and does not tell why."""
        return False

    async def start(self, cluster: int) -> None:
        await self._unit(cluster).start()

    async def stop(self, cluster: int) -> None:
        if cluster in self._units:
            await self._units[cluster].stop()

    def _unit(self, cluster: int) -> "_Unit":
        if cluster not in self._units:
            self._units[cluster] = _Unit(
                command=(*self._command, str(cluster)),
                pid_file=self._directory / f"cluster-{cluster}.pid",
                environment=self._environment,
                clock=self._clock,
                on_change=self._changed,
                restart_pause=self._restart_pause,
                stop_timeout=self._stop_timeout,
            )
        return self._units[cluster]

    def _changed(self) -> None:
        self._on_change()


class _Unit:
    """One child process and the task that watches it."""

    def __init__(
        self,
        *,
        command: Sequence[str],
        pid_file: Path,
        environment: Mapping[str, str],
        clock: Clock,
        on_change: Callable[[], None],
        restart_pause: float,
        stop_timeout: float,
    ) -> None:
        self._restart_pause = restart_pause
        self._stop_timeout = stop_timeout
        self._command = command
        self._pid_file = pid_file
        self._environment = environment
        self._clock = clock
        self._on_change = on_change
        self._state: UnitState = "inactive"
        self._detail = ""
        self._pid: int | None = None
        self._process: int | None = None
        self._restarts = 0
        self._starts: deque[float] = deque(maxlen=_START_LIMIT)
        self._stopping = False
        self._child: subprocess.Popen[bytes] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def view(self) -> UnitView:
        return UnitView(
            state=self._state, detail=self._detail, pid=self._pid, restarts=self._restarts
        )

    def adopt(self) -> None:
        """Takes over a process that an earlier CONTROL left running."""
        found = _open_recorded(self._pid_file)
        if found is None:
            self._pid_file.unlink(missing_ok=True)
            return
        self._pid, self._process = found
        self._become("active", "running")
        self._watch(None)

    async def start(self) -> None:
        if self._watcher is not None and not self._watcher.done():
            return
        self._restarts = 0
        self._stopping = False
        self._starts.clear()
        self._watch(self._spawn())

    async def stop(self) -> None:
        watcher = self._watcher
        if watcher is None or watcher.done():
            self._become("inactive", "")
            return
        self._stopping = True
        self._become("deactivating", "stopping")
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stop_timeout):
                await asyncio.shield(watcher)
        if not watcher.done():
            self._signal(signal.SIGKILL)
            await watcher

    async def abandon(self) -> None:
        """Forgets the process without touching it."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        self._release()
        if self._child is not None and self._child.returncode is None:
            # Left running on purpose: Popen would complain about a child that nobody waited for.
            self._child.returncode = 0

    def _become(self, state: UnitState, detail: str) -> None:
        self._state, self._detail = state, detail
        self._on_change()

    def _signal(self, number: signal.Signals) -> None:
        # By descriptor: a process id may be somebody else's by now.
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)

    def _release(self) -> None:
        self._pid = None
        if self._process is not None:
            os.close(self._process)
            self._process = None

    def _watch(self, child: subprocess.Popen[bytes] | None) -> None:
        self._child = child
        self._watcher = asyncio.create_task(self._supervise(), name=f"unit-{self._pid}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        self._starts.append(self._clock.monotonic())
        try:
            # Not asyncio's subprocess: its transport kills the child when CONTROL goes away.
            child = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self._become("failed", f"{self._command[0]}: {error.strerror}")
            raise SupervisorError(f"{self._command[0]} cannot be started: {error}") from None
        self._pid, self._process = child.pid, os.pidfd_open(child.pid)
        try:
            write_atomically(self._pid_file, f"{child.pid} {_start_time(child.pid)}\n")
        except StateError as error:
            # A process that the next CONTROL could not find must not run.
            child.kill()
            child.wait()
            self._release()
            self._become("failed", error.render())
            raise SupervisorError(error.message, hint=error.hint) from None
        self._become("active", "running")
        return child

    async def _supervise(self) -> None:
        """Waits for the end of the process, again and again for as long as it is restarted."""
        while True:
            assert self._process is not None
            await _ended(self._process)
            status = self._child.wait() if self._child is not None else None
            self._release()
            self._pid_file.unlink(missing_ok=True)
            if not self._wants_restart(status):
                return
            await self._clock.sleep(self._restart_pause)
            if self._stopping:
                self._become("inactive", "")
                return
            # An orderly end was somebody's wish, as `systemctl restart` is, which systemd does not
            # count either.
            self._restarts = 0 if status == 0 else self._restarts + 1
            try:
                self._child = self._spawn()
            except SupervisorError:
                return

    def _wants_restart(self, status: int | None) -> bool:
        if self._stopping:
            self._become("inactive", "")
        elif status in _FINAL:
            self._become("failed", f"it ended with exit status {status}: {_FINAL[status]}")
        elif self._crashes_too_often():
            self._become("failed", f"it crashed too often in a row ({_told(status)})")
        else:
            self._become("activating", f"{_told(status)}; restarting")
            return True
        return False

    def _crashes_too_often(self) -> bool:
        oldest = self._starts[0] if len(self._starts) == _START_LIMIT else None
        return oldest is not None and self._clock.monotonic() - oldest < _START_LIMIT_INTERVAL


def _told(status: int | None) -> str:
    if status is None:
        return "it ended"
    if status < 0:
        return f"it was killed by {signal.Signals(-status).name}"
    return f"it ended with exit status {status}"


def _start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat: with it a process id names one process for ever."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return text.rpartition(")")[2].split()[19]


def _open_recorded(path: Path) -> tuple[int, int] | None:
    """The process named in ``path`` and a descriptor of it, None if it is gone."""
    descriptor = None
    try:
        pid, start_time = path.read_text(encoding="ascii").split()
        # Opened before its start time is compared: after that the descriptor means that process.
        descriptor = os.pidfd_open(int(pid))
        if _start_time(int(pid)) == start_time:
            return int(pid), descriptor
    except (OSError, ValueError, IndexError):
        pass
    if descriptor is not None:
        os.close(descriptor)
    return None


async def _ended(process: int) -> None:
    """Returns when the process of this descriptor ended, be it our child or not."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process)
