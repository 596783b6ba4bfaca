# SPDX-License-Identifier: Apache-2.0
"""disclusterctl as a process: signals, broken pipes, full disks, and what it costs to start."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest
from aiohttp import web

from tests.unit.ctl import fleets, servers

ROOT = Path(__file__).parents[3]
PROGRAM = (sys.executable, "-m", "discluster.ctl.main")


async def start(
    *argv: str, stdin: int | None = None, stdout: int | None = PIPE, **environment: str
) -> Process:
    # Buffered, as it is for everybody whose environment does not say otherwise.
    env = {**os.environ, "PYTHONUNBUFFERED": "", **environment}
    return await asyncio.create_subprocess_exec(
        *PROGRAM, *argv, stdin=stdin, stdout=stdout, stderr=PIPE, cwd=ROOT, env=env
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "master.sock"


async def test_ctrl_c_ends_a_watch_with_0(path: Path) -> None:
    async with servers.master(path, {"/v1/status": servers.says(fleets.healthy())}):
        process = await start("status", "--watch", "0.1", "--socket", str(path))
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_ctrl_c_ends_a_command_quietly_with_130(path: Path) -> None:
    asked = asyncio.Event()

    async def hang(request: object) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        return web.Response()

    async with servers.master(path, {"/v1/status": hang}):
        process = await start("status", "--socket", str(path))
        async with asyncio.timeout(20):
            await asked.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_reader_that_stops_reading_is_no_error(path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    async with servers.master(path, {"/v1/plan": servers.says("hosts: {}\n")}):
        process = await start("plan", "show", "--socket", str(path), stdout=writing)
        os.close(writing)
        _, err = await process.communicate()
    assert (process.returncode, err) == (141, b"")


async def test_reader_of_the_help_that_stops_reading_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await start("--help", stdout=writing)
    os.close(writing)
    _, err = await process.communicate()
    assert (process.returncode, err) == (141, b"")


async def test_full_disk_is_an_error_in_words(path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    async with servers.master(path, {"/v1/plan": servers.says("hosts: {}\n")}):
        process = await start("plan", "show", "--socket", str(path), stdout=full)
        os.close(full)
        _, err = await process.communicate()
    assert process.returncode == 74
    assert err == b"error: the answer cannot be written: No space left on device\n"


async def test_character_that_the_terminal_lacks_is_no_error(path: Path) -> None:
    async with servers.master(path, {"/v1/plan": servers.says('reason: "größer ≥ 3"\n')}):
        process = await start("plan", "show", "--socket", str(path), PYTHONIOENCODING="ascii")
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b'reason: "gr??er ? 3"\n', b"")


async def test_version_does_not_load_what_it_does_not_need() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "importtime",
        *PROGRAM[1:],
        "--version",
        stdout=PIPE,
        stderr=PIPE,
        cwd=ROOT,
    )
    out, err = await process.communicate()
    assert out.startswith(b"disclusterctl ")
    loaded = {line.rsplit(b"|", 1)[-1].strip() for line in err.splitlines()}
    assert b"argparse" in loaded
    assert not loaded & {b"rich", b"aiohttp", b"asyncio", b"yaml"}
