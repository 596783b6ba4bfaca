# SPDX-License-Identifier: Apache-2.0
"""A program of docs/pairing.md as a process that is killed and started again."""

import asyncio
import signal
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec

from tests.clients import installation
from tests.clients.foreign import loopback_environment
from tests.clients.pairing import document
from tests.waiting import wait_for

Library = Literal["discord_js", "discordjs_ws", "discord_py", "hikari_bot", "eris"]
LIBRARIES: Final[tuple[Library, ...]] = (
    *("discord_js", "discordjs_ws", "discord_py", "hikari_bot", "eris"),
)
_PATIENCE: Final = 60.0


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """``gateway``: the local one, as the bot's unit names it. ``api``: instead of Discord's."""

    gateway: str
    api: str
    token: str


class Bot:
    """Runs within ``async with``, as often as one likes; keeps what each run was given."""

    def __init__(
        self,
        library: Library,
        addresses: Addresses,
        directory: Path,
        *,
        asks: bool = False,
        compress: str = "",
    ) -> None:
        """``asks``: it sends commands when it is ready. ``compress``: instead of the library's own
        choice.
        """
        directory.mkdir()
        self.library = library
        self._program = document.write(library, directory)
        self._record = directory / "record"
        self._log = directory / "log"
        self._addresses = addresses
        self._settings = directory / "settings.json"
        told = {
            "api": addresses.api,
            "record": str(self._record),
            "asks": asks,
            "compress": compress,
        }
        self._settings.write_bytes(msgspec.json.encode(told))
        self._record.touch()
        self._written = 0
        self._lines: list[tuple[str, ...]] = []
        self._begin = 0
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._read()
        self._begin = len(self._lines)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_command(self._program),
                *("--config", str(self._settings)),
                cwd=self._program.parent,
                env={**loopback_environment(), **_documented(self._addresses)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """With SIGKILL."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    def given(self, kind: str, *, ever: bool = False) -> list[tuple[str, ...]]:
        """What it wrote down of this kind (their/record.py), ``ever`` or since it was started."""
        self._read()
        lines = self._lines if ever else self._lines[self._begin :]
        return [words[1:] for words in lines if words[0] == kind]

    async def until(self, condition: Callable[[], object], *, what: str) -> None:
        """Wait for something that it writes down.

        Raises:
            RuntimeError: it ended before that.
            TimeoutError: it did not write that.
        """
        assert self._process is not None
        process = self._process
        await wait_for(
            lambda: condition() or process.returncode is not None,
            _PATIENCE,
            what=f"{self.library}: {what}",
        )
        if not condition():
            raise RuntimeError(f"{self.library} ended before {what}")

    async def ended(self) -> None:
        """Ended by itself.

        Raises:
            TimeoutError: it goes on.
        """
        assert self._process is not None
        async with asyncio.timeout(_PATIENCE):
            await self._process.wait()

    async def attached(self, shards: Collection[int]) -> None:
        """READY or RESUMED on so many shards, since it was started."""
        await self.until(
            lambda: len(self.given("ready")) + len(self.given("resumed")) >= len(shards),
            what=f"READY or RESUMED on {len(shards)} shards",
        )

    def events(self) -> set[tuple[int, int]]:
        """Guild and count of all that it was ever given."""
        return {(int(guild), int(count)) for guild, count in self.given("event", ever=True)}

    def saved(self) -> list[Any]:
        """The sessions in its sessions.json."""
        file = self._program.parent / "sessions.json"
        return list(msgspec.json.decode(file.read_bytes())) if file.exists() else []

    def has(self, events: AbstractSet[tuple[int, int]]) -> bool:
        """Whether it was given all of these."""
        return self.events() >= events

    def log(self) -> str:
        """The end of what it said."""
        return self._log.read_text(errors="replace")[-10_000:] if self._log.exists() else ""

    def _read(self) -> None:
        with self._record.open("rb") as file:
            file.seek(self._written)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._written += len(whole)
        self._lines += [tuple(line.split()) for line in whole.decode().splitlines()]


def _command(program: Path) -> list[str]:
    if program.suffix == ".py":
        start = "tests.clients.pairing.their.start"
        return [str(installation.PYTHON), "-m", start, str(program)]
    start = str(document.THEIR / "start.mjs")
    return [installation.node() or "node", "--import", start, str(program)]


def _documented(addresses: Addresses) -> Mapping[str, str]:
    """What the unit of docs/pairing.md sets."""
    return {"DISCLUSTER_GATEWAY": addresses.gateway, "BOT_TOKEN": addresses.token}
