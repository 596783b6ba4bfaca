# SPDX-License-Identifier: Apache-2.0
"""status --watch, with the clock in the test's hands."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from discluster.console import FleetStatus
from discluster.ctl.client import Master
from discluster.ctl.commands import Context, watch
from discluster.ctl.screen import Screen
from discluster.errors import RefusedError
from discluster.messages import Rejected
from tests.unit.ctl import fleets, servers
from tests.unit.ctl.terminal import Terminal


class Between:
    """A clock whose n-th sleep runs the n-th step, and whose last one is Ctrl-C."""

    def __init__(self, *steps: Callable[[], Awaitable[object]]) -> None:
        self._steps = list(steps)
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 1_000_000.0 + sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self._steps:
            raise asyncio.CancelledError
        await self._steps.pop(0)()


async def nothing() -> None:
    pass


async def watched(
    directory: Path, clock: Between, out: io.StringIO, err: io.StringIO, *, json: bool = False
) -> None:
    context = Context(
        master=Master(directory / "master.sock"),
        control_socket=directory / "control.sock",
        screen=Screen(out=out, err=err, width=80),
        clock=clock,
    )
    with pytest.raises(asyncio.CancelledError):
        await watch(context, json=json, everything=False, interval=2.0)


async def test_watch_in_a_pipe_prints_again_below(tmp_path: Path) -> None:
    out, clock = io.StringIO(), Between(nothing, nothing)
    routes = {"/v1/status": servers.says(fleets.healthy())}
    async with servers.master(tmp_path / "master.sock", routes) as asked:
        await watched(tmp_path, clock, out, io.StringIO())
    assert len(asked.seen) == 3
    assert clock.slept == [2.0, 2.0, 2.0]
    assert out.getvalue().count("24 of 24 shards ready") == 3
    assert out.getvalue().count("every 2s; Ctrl-C ends\n") == 3
    assert "\x1b" not in out.getvalue()


async def test_watch_on_a_terminal_uses_the_other_screen_and_leaves_it(tmp_path: Path) -> None:
    out = Terminal()
    routes = {"/v1/status": servers.says(fleets.healthy())}
    async with servers.master(tmp_path / "master.sock", routes):
        await watched(tmp_path, Between(nothing), out, io.StringIO())
    assert out.getvalue().startswith("\x1b[?1049h")
    assert out.getvalue().index("\x1b[?1049l") > out.getvalue().rindex("24 of 24 shards ready")


async def test_watch_goes_on_when_master_goes_away_and_comes_back(tmp_path: Path) -> None:
    out, socket = io.StringIO(), tmp_path / "master.sock"
    routes = {"/v1/status": servers.says(fleets.healthy())}
    server = servers.master(socket, routes)

    async def start() -> None:
        await server.__aenter__()

    await watched(tmp_path, Between(nothing, start), out, io.StringIO())
    await server.__aexit__(None, None, None)
    text = out.getvalue()
    assert text.count("error: MASTER is not running here") == 2
    assert text.count("24 of 24 shards ready") == 1


async def test_watch_as_json_prints_one_object_a_line(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    routes = {"/v1/status": servers.says(fleets.many_shards())}
    async with servers.master(tmp_path / "master.sock", routes):
        await watched(tmp_path, Between(nothing), out, err, json=True)
    lines = out.getvalue().splitlines()
    assert [msgspec.json.decode(line, type=FleetStatus) for line in lines] == (
        [fleets.many_shards()] * 2
    )
    await watched(tmp_path, Between(), out, err, json=True)
    assert err.getvalue().startswith("error: MASTER is not running here")


async def test_watch_ends_when_it_is_refused(tmp_path: Path) -> None:
    answer = msgspec.json.encode(Rejected(code="refused", reason="not yours")) + b"\n"
    context = Context(
        master=Master(tmp_path / "master.sock"),
        control_socket=tmp_path / "control.sock",
        screen=Screen(out=io.StringIO(), err=io.StringIO(), width=80),
        clock=Between(),
    )
    async with servers.control(context.control_socket, answer):
        with pytest.raises(RefusedError, match="not yours"):
            await watch(context, json=False, everything=False, interval=2.0)
