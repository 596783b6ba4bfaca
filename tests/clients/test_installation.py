# SPDX-License-Identifier: Apache-2.0
"""The clients of others are pinned, come from nowhere in particular, and leave nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients import installation
from tests.scenario.guardian import processes_of, programs_of
from tests.scenario.processes import environment
from tests.waiting import wait_for

HOST = """
import asyncio, sys
from pathlib import Path
from tests.clients.foreign import ForeignClient, Wanted

async def main():
    wanted = Wanted(api=sys.argv[2], gateway="ws://unused", token="MTAw.a.b", shards=1, intents=1)
    async with ForeignClient("discord_py", wanted, directory=Path(sys.argv[1])):
        print("started", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "pinned", sorted(installation.PINS.glob("requirements*.txt")), ids=lambda path: path.stem
)
def test_python_pins_are_exact_and_hashed_and_name_no_index(pinned: Path) -> None:
    text = pinned.read_text()
    pin = r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==\S+ .*\\\n +--hash=sha256:[0-9a-f]{64}"
    pins = re.findall(pin, text, re.MULTILINE)
    named = [line for line in text.splitlines() if line and line[0] not in "# "]
    assert len(pins) == len(named) > 10
    assert "://" not in text
    assert "index" not in "".join(line for line in text.splitlines() if not line.startswith("#"))


def test_npm_pins_are_exact_and_sealed_and_name_no_registry() -> None:
    wanted = json.loads((installation.PINS / "package.json").read_text())["dependencies"]
    lock = json.loads((installation.PINS / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == wanted
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    for package in lock.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


@pytest.mark.usefixtures("installed")
async def test_hung_client_does_not_outlive_a_killed_test(tmp_path: Path) -> None:
    directory = tmp_path / "client"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = f"http://127.0.0.1:{silent.getsockname()[1]}/api/v10"
        host = subprocess.Popen(
            [sys.executable, "-c", HOST, str(directory), api],
            cwd=installation.REPOSITORY,
            env=environment({}),
            stdout=subprocess.PIPE,
        )
        with host:
            assert host.stdout is not None
            assert host.stdout.readline() == b"started\n"
            (client,) = programs_of(directory)
            os.kill(client, signal.SIGSTOP)
            host.kill()
        await wait_for(lambda: not processes_of(directory), 20, what="nothing left behind")
    assert not directory.exists()
