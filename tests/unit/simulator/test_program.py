# SPDX-License-Identifier: Apache-2.0
"""The program discluster-simulator as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from discluster.simulator.client import SimulatorClient
from discluster.simulator.main import build_parser, main
from tests.unit.simulator.client import dialing


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    """The running program and what it said when it listened."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "discluster.simulator", *arguments, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_program_serves_until_it_is_told_to_end(
    number: signal.Signals, tmp_path: Path
) -> None:
    config = tmp_path / "simulator.yaml"
    config.write_text("guilds: 8\ntokens: [from-the-file]\nevents_per_second: 100\n")
    control = f"unix:{tmp_path}/control.sock"
    arguments = ("--config", str(config), "--set", f"control={control}", "--set", "shards=2")
    async with program(*arguments) as (process, said):
        assert said["event"] == "listening"
        assert said["control"] == control
        assert said["seed"] == 1
        async with SimulatorClient(control) as client, dialing(said["gateway"]) as dialer:
            first = await dialer.ready((0, 2), token="from-the-file")
            await first.reach(20)
            assert await client.drop(0) == 1
            assert await first.closed() is None
            again = await dialer.dial(first.resume_url)
            await again.resume(first, token="from-the-file")
            await again.event("RESUMED")
            assert len(again.dispatches) > 0
            process.send_signal(number)
            assert await again.closed() == 1001
        assert await asyncio.wait_for(process.wait(), 5) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (["--set", "event_per_second=1"], 78, "did you mean 'events_per_second'?"),
        (["--set", "shards=none"], 78, "shards: must be a whole number"),
        (["--set", "shards"], 78, "key=value"),
        (["--set", "session_ttl_minimum=900"], 78, "session_ttl_maximum"),
        (["--config", "/nonexistent.yaml"], 78, "/nonexistent.yaml"),
        (["--set", "control=unix:/nonexistent/x"], 69, "cannot listen on unix:/nonexistent/x"),
    ],
)
def test_program_says_what_is_wrong(
    arguments: list[str], status: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert part in output.err
    assert output.err.rstrip().endswith(")")


def test_parser_describes_the_exit_status() -> None:
    assert "78" in build_parser().format_help()
