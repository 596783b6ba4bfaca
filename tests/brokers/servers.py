# SPDX-License-Identifier: Apache-2.0
"""The brokers as processes of a test or a benchmark: on loopback, with all they keep in one
directory, which outlives a kill.
"""

import asyncio
import contextlib
import ctypes
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

from tests.brokers import installation
from tests.ports import free_port
from tests.waiting import wait_for

Kind = Literal["nats", "redis"]

_PR_SET_PDEATHSIG: Final = 1
_START: Final = 20.0
_GRACE: Final = 10.0
# What is said first, and how the answer of a server begins that is ready.
_GREETINGS: Final = {
    "nats": (b"", (b"INFO ",)),
    "redis": (b"PING\r\n", (b"+PONG", b"-NOAU")),  # while it reads its files it says -LOADING
}


class BrokerServer:
    """One server, started as often as one likes on the same port and with the same data."""

    def __init__(self, kind: Kind, directory: Path, *, options: Sequence[str] = ()) -> None:
        """``options``: lines of its configuration file beyond what is said here."""
        self.kind: Kind = kind
        self.port = free_port()
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._config = directory / f"{kind}.conf"
        self._config.write_text("\n".join([*self._lines(), *options]) + "\n")
        self._log = directory / f"{kind}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns when it answers. Raises TimeoutError."""
        name = f"{self.kind}-server"
        path = installation.program(name)
        assert path is not None, f"{name} is not installed"
        words = (
            [path, "-c", str(self._config)] if self.kind == "nats" else [path, str(self._config)]
        )
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
            )
        await wait_for(self._answers, _START, what=f"{name}: {self.log()[-2000:]}")

    async def kill(self) -> None:
        """SIGKILL."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM."""
        await self._end(signal.SIGTERM)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _lines(self) -> list[str]:
        if self.kind == "nats":
            return [
                f'listen: "127.0.0.1:{self.port}"',
                f'jetstream {{ store_dir: "{self._directory}" }}',
            ]
        return [
            *("bind 127.0.0.1", f"port {self.port}", f'dir "{self._directory}"'),
            # With "everysec" it acknowledges before it writes, whenever a sync takes long.
            *("appendonly yes", "appendfsync always", 'save ""'),
        ]

    async def _answers(self) -> bool:
        said, wanted = _GREETINGS[self.kind]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        with contextlib.closing(writer):
            try:
                writer.write(said)
                return (await reader.read(5)) in wanted
            except OSError:
                return False

    async def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(number)
        async with asyncio.timeout(_GRACE):
            await process.wait()


@asynccontextmanager
async def broker_server(
    kind: Kind, directory: Path, *, options: Sequence[str] = ()
) -> AsyncIterator[BrokerServer]:
    """A running one."""
    server = BrokerServer(kind, directory, options=options)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
