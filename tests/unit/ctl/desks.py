# SPDX-License-Identifier: Apache-2.0
"""A command's surroundings in memory: a clock whose sleeps are over at once, streams, answers."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

from discluster import places
from discluster.ctl.client import Master
from discluster.ctl.commands import Context
from discluster.ctl.main import main
from discluster.ctl.screen import Screen
from discluster.messages import Message, encode
from tests.unit.ctl import servers


class Ticking:
    """A clock whose sleeps are over at once; each ``step`` is done in one of them."""

    def __init__(self, *steps: Callable[[], Awaitable[object]]) -> None:
        self._steps = list(steps)
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self._steps:
            await self._steps.pop(0)()


def in_turn(*answers: Message | web.Response) -> servers.Answer:
    """A handler that gives one answer after the other, the last one for ever."""
    left = list(answers)

    async def handler(_: web.Request) -> web.StreamResponse:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, web.Response):
            return web.Response(status=found.status, body=found.body)
        return web.Response(body=encode(found), content_type="application/json")

    return handler


class Desk:
    """A context with streams in memory."""

    def __init__(self, directory: Path, *steps: Callable[[], Awaitable[object]]) -> None:
        self.out: io.StringIO = io.StringIO()
        self.err = io.StringIO()
        self.socket = directory / "master.sock"
        self.clock = Ticking(*steps)

    def context(self) -> Context:
        return Context(
            master=Master(self.socket),
            control_socket=self.socket.with_name("control.sock"),
            screen=Screen(out=self.out, err=self.err, width=80),
            clock=self.clock,
        )


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


class Ctl:
    """Runs disclusterctl in a thread, for it has an event loop of its own."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.master = places.master_socket(directory)
        self.control = places.control_socket(directory)
        for socket in (self.master, self.control):
            socket.parent.mkdir()
        self._capsys = capsys

    async def __call__(self, *argv: str) -> Outcome:
        try:
            status = await asyncio.to_thread(main, argv)
        except SystemExit as error:  # the parser's
            status = error.code if isinstance(error.code, int) else 1
        captured = self._capsys.readouterr()
        assert "Traceback" not in captured.err
        return Outcome(status, captured.out, captured.err)
