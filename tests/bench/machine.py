# SPDX-License-Identifier: Apache-2.0
"""What the figures were measured on."""

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.processes import REPOSITORY
from tests.clients import installation

_OURS: Final = ("aiohttp", "msgspec", "uvloop", "zstandard", "cryptography")
_PYTHON_PEERS: Final = (
    *("discord.py", "hikari", "aiohttp", "uvloop", "orjson", "zstandard", "backports.zstd"),
)
_NODE_PEERS: Final = ("@discordjs/ws", "discord.js", "eris", "ws")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """``ours``, ``python_peers``, ``node_peers``: versions of libraries, by name."""

    date: str
    commit: str
    cpu: str
    cores: int
    kernel: str
    python: str
    node: str
    ours: dict[str, str]
    python_peers: dict[str, str]
    node_peers: dict[str, str]


def this_machine(*, with_peers: bool) -> Machine:
    """As it is now; the peers' versions where they are measured."""
    return Machine(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        cpu=_cpu(),
        cores=os.cpu_count() or 0,
        kernel=platform.release(),
        python=platform.python_version(),
        node=_said(["node", "--version"]).removeprefix("v") if with_peers else "",
        ours={name: found for name in _OURS if (found := _version(name))},
        python_peers=_python_peers() if with_peers else {},
        node_peers=_node_peers() if with_peers else {},
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    commit = _said(["git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD"])
    changed = _said(["git", "-C", str(REPOSITORY), "status", "--porcelain", "discluster"])
    return f"{commit or 'unknown'}{' with changes' if changed else ''}"


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _python_peers() -> dict[str, str]:
    code = (
        "import json, sys\nfrom importlib.metadata import PackageNotFoundError, version\n"
        "found = {}\nfor name in sys.argv[1:]:\n"
        "    try:\n        found[name] = version(name)\n"
        "    except PackageNotFoundError:\n        pass\nprint(json.dumps(found))"
    )
    told = _said([str(installation.PYTHON), "-c", code, *_PYTHON_PEERS])
    found: dict[str, str] = json.loads(told or "{}")
    return found


def _node_peers() -> dict[str, str]:
    found = {}
    for name in _NODE_PEERS:
        path = installation.MODULES / name / "package.json"
        if path.exists():
            found[name] = json.loads(path.read_text())["version"]
    return found
