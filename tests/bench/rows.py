# SPDX-License-Identifier: Apache-2.0
"""The rows of the table: which program, with which compression, on how many events."""

import fnmatch
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from tests.bench.orders import Compression
from tests.bench.processes import REPOSITORY, BenchError
from tests.brokers.servers import Kind as Broker
from tests.clients import installation

Kind = Literal["ours", "calibration", "floor", "peer"]

SHARDS: Final = 8
FAST: Final = 20_000
SLOW: Final = 5_000
_ALL: Final[tuple[Compression, ...]] = ("zstd", "zlib", "none")
_CLIENTS: Final = REPOSITORY / "tests" / "bench" / "clients"


class Fed(msgspec.Struct, frozen=True, kw_only=True):
    """The bots at a cluster's local gateway. ``compression``: of what goes to them."""

    clients: tuple[str, ...] = ("bot",)
    compression: Compression = "none"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """``events``: of each shard in one run. ``does``: with an event, in a few words. ``handler``:
    of our cluster; ``fed`` or ``broker``: who gets them there. ``command``: of any other program.
    """

    name: str
    title: str
    does: str
    kind: Kind
    compression: Compression
    events: int
    handler: str = ""
    fed: Fed | None = None
    broker: Broker | None = None
    command: tuple[str, ...] = ()

    @property
    def onward(self) -> bool:
        """Whether it passes events on to another program."""
        return self.fed is not None or self.broker is not None

    @property
    def key(self) -> str:
        """As in ``--rows``."""
        return f"{self.name}:{self.compression}"


def all_rows() -> list[Row]:
    """Every row that there is."""
    return [
        row
        for family in (_own(), _local(), _brokers(), _bounds(), _python(), _node())
        for row in family
    ]


def chosen(patterns: Sequence[str]) -> list[Row]:
    """Rows whose key fits one of ``patterns``; all without any.

    Raises:
        BenchError: a pattern fits none.
    """
    rows = all_rows()
    if not patterns:
        return rows
    for pattern in patterns:
        if not fnmatch.filter([row.key for row in rows], pattern):
            known = ", ".join(sorted({row.name for row in rows}))
            raise BenchError(
                f"no row fits {pattern!r} (NAME:COMPRESSION, patterns allowed: {known})"
            )
    return [row for row in rows if any(fnmatch.fnmatch(row.key, p) for p in patterns)]


def needs_installation(rows: Sequence[Row]) -> bool:
    """Whether programs of others are among them."""
    return any(row.kind == "peer" for row in rows)


def _own() -> list[Row]:
    variants = {
        "ours-count": ("Discluster, counting handler", "counts", "Counting"),
        "ours-parse": ("Discluster, parsing handler", "parses `d`, counts", "Parsing"),
    }
    return [
        Row(
            name=name,
            title=title,
            does=does,
            kind="ours",
            compression=compression,
            events=FAST,
            handler=f"tests.bench.handlers:{attribute}",
        )
        for name, (title, does, attribute) in variants.items()
        for compression in _ALL
    ]


def _local() -> list[Row]:
    four = tuple(f"bot{number}" for number in range(1, 5))
    variants: Mapping[str, tuple[str, str, Fed, tuple[Compression, ...]]] = {
        "local": ("one bot", "forwards it", Fed(), _ALL),
        "local-four": ("four bots", "forwards it to each", Fed(clients=four), ("zstd", "none")),
        "local-zlib": ("bot with zlib", "compresses it anew", Fed(compression="zlib"), ("zstd",)),
        "local-zstd": ("bot with zstd", "compresses it anew", Fed(compression="zstd"), ("zstd",)),
    }
    return [
        Row(
            name=name,
            title=f"Discluster, local gateway, {bots}",
            does=does,
            kind="ours",
            compression=compression,
            events=FAST,
            handler="gateway",
            fed=fed,
        )
        for name, (bots, does, fed, compressions) in variants.items()
        for compression in compressions
    ]


def _brokers() -> list[Row]:
    brokers: Mapping[Broker, str] = {"nats": "NATS JetStream", "redis": "Redis Streams"}
    return [
        Row(
            name=broker,
            title=f"Discluster, {title}",
            does="publishes it",
            kind="ours",
            compression="zstd",
            events=SLOW,
            handler=broker,
            broker=broker,
        )
        for broker, title in brokers.items()
    ]


def _bounds() -> list[Row]:
    floor = [
        Row(
            name="floor",
            title="*floor: socket and decompressor alone*",
            does="nothing",
            kind="floor",
            compression=compression,
            events=FAST,
            command=(sys.executable, "-m", "tests.bench.clients.floor"),
        )
        for compression in _ALL
    ]
    calibration = Row(
        name="calibration",
        title="*calibration: aiohttp `async for` + json*",
        does="parses all",
        kind="calibration",
        compression="zlib",
        events=SLOW,
        command=(sys.executable, "-m", "tests.bench.clients.aiohttp_json"),
    )
    return [*floor, calibration]


def _python() -> list[Row]:
    modules = {
        "hikari": ("hikari", "typed event", "hikari_bot"),
        "discord.py": ("discord.py", "Message object", "discord_py"),
    }
    return [
        _peer(name, title, does, compression, (str(installation.PYTHON), "-m", _module(module)))
        for name, (title, does, module) in modules.items()
        for compression in _ALL
    ]


def _node() -> list[Row]:
    scripts: Mapping[str, tuple[str, str, str, tuple[Compression, ...]]] = {
        "discordjs-ws": (
            "@discordjs/ws, simple strategy",
            "parses all",
            "discordjs_ws.mjs",
            ("zlib", "none"),
        ),
        "discord.js": ("discord.js", "raw event", "discord_js.mjs", ("none",)),
        "eris": ("eris", "Message object", "eris_bot.mjs", ("none",)),
    }
    return [
        _peer(name, title, does, compression, ("node", str(_CLIENTS / script)))
        for name, (title, does, script, compressions) in scripts.items()
        for compression in compressions
    ]


def _peer(
    name: str, title: str, does: str, compression: Compression, command: tuple[str, ...]
) -> Row:
    return Row(
        name=name,
        title=title,
        does=does,
        kind="peer",
        compression=compression,
        events=FAST if compression == "none" and command[0] == "node" else SLOW,
        command=command,
    )


def _module(name: str) -> str:
    return f"tests.bench.clients.{name}"


def modules() -> Path:
    """Where Node finds the clients."""
    return installation.MODULES.parent
