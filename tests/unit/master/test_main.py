# SPDX-License-Identifier: Apache-2.0
"""The program ``discluster-master``, as systemd and a terminal meet it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from discluster import places
from discluster.console import EventPage
from tests.unit.processes import started
from tests.waiting import wait_for

PATIENCE = 20.0


class Master:
    """A MASTER that nobody talks to: it has no Discord and no host."""

    def __init__(self, directory: Path, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.settings = directory / "master.yaml"
        self.socket = places.master_socket(directory / "run")

    async def sentences(self, upto: int) -> list[str]:
        """The first ``upto`` events of the operator's orders."""
        connector = aiohttp.UnixConnector(str(self.socket))
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(connector=connector) as session:
            after, told = 0, list[str]()
            while len(told) < upto:
                address = f"http://master/v1/events?after={after}&wait=5"
                async with session.get(address) as response:
                    page = msgspec.json.decode(await response.read(), type=EventPage)
                after = page.upto
                told += [event.sentence for event in page.events if event.kind == "order"]
        return told


def written(directory: Path, more: str = "") -> str:
    return (
        "listen: 127.0.0.1:0\n"
        "discord_api: http://127.0.0.1:9/api\n"
        f"state_directory: {directory}/state\n"
        f"runtime_directory: {directory}/run\n{more}"
    )


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[Master]:
    (tmp_path / "master.yaml").write_text(written(tmp_path))
    token = tmp_path / "discluster.token"
    token.write_text("not-a-token")
    async with started(
        "discluster.master.main",
        *("--config", tmp_path / "master.yaml"),
        environment={"CREDENTIALS_DIRECTORY": str(tmp_path)},
    ) as process:
        made = Master(tmp_path, process)
        await wait_for(made.socket.exists, PATIENCE)
        yield made


async def test_sighup_takes_the_settings_or_tells_every_fault_in_them(
    tmp_path: Path, master: Master
) -> None:
    master.settings.write_text(written(tmp_path, "lease: never\nhistory: 0\n"))
    master.process.send_signal(signal.SIGHUP)
    (refused,) = await master.sentences(1)
    assert refused.startswith("the settings on disk are refused: ")
    assert "lease: must be a number" in refused
    assert "history: must be at least 1" in refused
    master.settings.write_text(written(tmp_path, "shards_per_cluster: 3\nlog_level: debug\n"))
    master.process.send_signal(signal.SIGHUP)
    _, taken = await master.sentences(2)
    assert taken == "reload, by the operator: in force: shards_per_cluster, log_level"
    assert master.process.returncode is None


async def test_sigterm_ends_it_in_order(master: Master) -> None:
    master.process.terminate()
    _, error = await asyncio.wait_for(master.process.communicate(), PATIENCE)
    assert master.process.returncode == 0, error.decode()
