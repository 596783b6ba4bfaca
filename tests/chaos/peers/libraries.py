# SPDX-License-Identifier: Apache-2.0
"""The libraries of others: how each is run, ended and restarted, as its documentation says."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from tests.clients import installation

_DRIVERS: Final = Path(__file__).with_name("drivers")
Commands = Mapping[str, tuple[str, ...]]
"""By the unit's name, the command line."""


class Library(msgspec.Struct, frozen=True, kw_only=True):
    """``worker``: what a process with shards is called; ``share``: shards in each of them, out of
    so many. ``restarted``: how one is restarted in an orderly way; by a line to the manager, if
    there is ``respawn``, else by SIGINT. ``manager``: the unit that starts the workers, and what it
    is called; none where the service manager does. ``packages``: what it consists of; ``pins``: the
    file in tests/clients with their versions.
    """

    title: str
    worker: str
    share: Callable[[int], int]
    restarted: str
    commands: Callable[[str], Commands]
    packages: tuple[str, ...]
    pins: str
    respawn: bool = False
    manager: tuple[str, str] | None = None
    obstacle: Callable[[], str | None] = installation.reason_to_skip


PROCESSES: Final = 4
"""Into how many processes the shards are divided where the library lets one choose."""


def _discord_py(config: str) -> Commands:
    module = "tests.chaos.peers.drivers.discord_py"
    return {"bot": (str(installation.PYTHON), "-m", module, "--config", config)}


def _sharding_manager(config: str) -> Commands:
    program = str(_DRIVERS / "sharding_manager.mjs")
    return {"manager": (installation.node() or "node", program, "--config", config)}


def _hikari_clusters(config: str) -> Commands:
    module = "tests.chaos.peers.drivers.hikari_clusters_bot"
    command = (str(installation.HIKARI_CLUSTERS), "-m", module, "--config", config)
    return {"brain": (*command, "brain"), "server": (*command, "server")}


def _all(shards: int) -> int:
    return shards


def _one(shards: int) -> int:
    return 1


def _divided(shards: int) -> int:
    return max(1, shards // PROCESSES)


def _no_hikari_clusters() -> str | None:
    return installation.reason_to_skip() or installation.no_hikari_clusters()


DISCORD_PY: Final = Library(
    title="discord.py AutoShardedClient",
    worker="the process",
    share=_all,
    restarted="SIGINT, on which Client.run() closes",
    commands=_discord_py,
    packages=("discord.py", "aiohttp", "zstandard"),
    pins="requirements.txt",
)
SHARDING_MANAGER: Final = Library(
    title="discord.js ShardingManager",
    worker="a random child process",
    share=_one,
    restarted="Shard.respawn()",
    respawn=True,
    commands=_sharding_manager,
    manager=("manager", "the manager"),
    packages=("discord.js",),
    pins="package.json",
)
HIKARI_CLUSTERS: Final = Library(
    title="hikari-clusters",
    worker="a random cluster process",
    share=_divided,
    restarted="SIGINT, on which it closes",
    commands=_hikari_clusters,
    manager=("brain", "the Brain"),
    packages=("hikari-clusters", "hikari"),
    pins="requirements-hikari-clusters.txt",
    obstacle=_no_hikari_clusters,
)
LIBRARIES: Final = (DISCORD_PY, SHARDING_MANAGER, HIKARI_CLUSTERS)


def versions(library: Library) -> str:
    """What is pinned, as in "discord.js 14.28.1"."""
    text = (installation.PINS / library.pins).read_text()
    if library.pins.endswith(".json"):
        pinned: dict[str, str] = json.loads(text)["dependencies"]
    else:
        pinned = dict(re.findall(r"^(\S+)==(\S+)", text, re.MULTILINE))
    # Requirements have a dash in a name where it has a dot.
    found = {name.replace(".", "-"): number for name, number in pinned.items()}
    return ", ".join(f"{name} {found[name.replace('.', '-')]}" for name in library.packages)
