# SPDX-License-Identifier: Apache-2.0
"""A client of somebody else's as a process of a test."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from tests.clients import installation
from tests.scenario.processes import environment
from tests.waiting import wait_for

Library = Literal["discord_py", "hikari_bot", "discordjs_ws", "discord_js", "eris"]
Compression = Literal["none", "payload", "zlib", "zstd"]

_PYTHON: tuple[Library, ...] = ("discord_py", "hikari_bot")
_PATIENCE = 30.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver is told. `intents`: bit field. `paced` False removes discord.py's hook."""

    api: str
    gateway: str
    token: str
    shards: int
    intents: int
    compress: Compression = "zlib"
    paced: bool = True


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a client handed to its user: `counts` by guild, in order of arrival.

    `arrived`: ids of GUILD_CREATEs. `messages`: MESSAGE_CREATEs that were `sent` to it, and objects
    that it `made` of them. `guilds`: how many its cache holds, if it has one.
    """

    messages: dict[str, int]
    arrived: list[str]
    counts: dict[str, list[int]]
    guilds: int | None = None


class ForeignClient:
    """Starts with `async with`, and has ended when that is left."""

    def __init__(
        self, library: Library, wanted: Wanted, *, directory: Path, trusted: Path | None = None
    ) -> None:
        """`trusted`: a certificate to believe, beside those of the system."""
        self._library = library
        self._trusted = trusted
        directory.mkdir()
        self._directory = directory
        self._config = directory / f"{library}.json"
        self._config.write_bytes(msgspec.json.encode(wanted))
        self._log = directory / f"{library}.log"
        self._said: list[dict[str, Any]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._guardian: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> "ForeignClient":
        # It would also end with its standard input, unless it hangs.
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "tests.scenario.guardian", str(self._directory)],
            cwd=installation.REPOSITORY,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_command(self._library),
                *("--config", str(self._config)),
                env=loopback_environment(self._trusted),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=1 << 26,
            )
        self._listening = asyncio.create_task(self._listen(self._process))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
        if self._listening is not None:
            await self._listening
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            await asyncio.to_thread(self._guardian.wait)

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.returncode is not None

    def log(self) -> str:
        """Its standard error, and what it said to the test without reports."""
        said = "\n".join(str(line) for line in self._said if line.get("event") != "report")
        return f"{self._log.read_text(errors='replace')[-20_000:]}\n--- said:\n{said}"

    def heard(self, event: str) -> list[int]:
        """Shards of which it said `ready` or `resumed`, in that order."""
        return [line["shard"] for line in self._said if line.get("event") == event]

    async def until(self, condition: Callable[[], object], *, what: str) -> None:
        """Wait for something that it says.

        Raises:
            RuntimeError: it ended before that.
            TimeoutError: it did not say so.
        """
        await wait_for(lambda: condition() or self.ended, _PATIENCE, what=what)
        if not condition():
            raise RuntimeError(f"{self._library} ended before {what}")

    async def report(self) -> Report:
        """What it has seen until now."""
        reports = self._lines("report")
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"report\n")
        await self.until(lambda: len(self._lines("report")) > len(reports), what="its report")
        return msgspec.convert(self._lines("report")[-1], Report)

    async def stop(self) -> int:
        """End it as its own documentation says to; returns the exit status."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(_PATIENCE):
            return await self._process.wait()

    def _lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self._said if line.get("event") == event]

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            with suppress(json.JSONDecodeError):  # a library that prints
                self._said.append(json.loads(line))


def _command(library: Library) -> list[str]:
    if library in _PYTHON:
        return [str(installation.PYTHON), "-m", f"tests.clients.drivers.{library}"]
    driver = installation.PINS / "drivers" / f"{library}.mjs"
    return [installation.node() or "node", str(driver)]


def loopback_environment(trusted: Path | None = None) -> dict[str, str]:
    """Without the proxies of this machine: everything is on loopback. ``trusted``: a certificate
    to believe, beside those of the system.
    """
    ours = environment({} if trusted is None else _believe(trusted))
    kept = {name: value for name, value in ours.items() if not name.lower().endswith("_proxy")}
    return {**kept, "NO_PROXY": "*", "no_proxy": "*"}


def _believe(certificate: Path) -> dict[str, str]:
    return {"SSL_CERT_FILE": str(certificate), "NODE_EXTRA_CA_CERTS": str(certificate)}
