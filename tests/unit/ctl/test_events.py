# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl events``: a page, many pages, and what comes while one looks."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from discluster import messages
from discluster.console import Event, EventPage, EventQuery
from discluster.ctl import events
from discluster.ctl.client import Master
from discluster.ctl.commands import Context
from discluster.ctl.screen import Screen
from discluster.errors import UnavailableError
from tests.unit.ctl import servers
from tests.unit.ctl.terminal import Terminal


class Restless:
    """A clock whose n-th sleep runs the n-th step, and whose last one is Ctrl-C."""

    def __init__(self, *steps: Callable[[], Awaitable[object]]) -> None:
        self._steps = list(steps)

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        if not self._steps:
            raise asyncio.CancelledError
        await self._steps.pop(0)()


def event(number: int, sentence: str, **more: Any) -> Event:
    return Event(number=number, at=1_800_000_000.0 + number, kind="host", sentence=sentence, **more)


def context(
    directory: Path, out: io.StringIO, *, err: io.StringIO | None = None, clock: Restless | None
) -> Context:
    return Context(
        master=Master(directory / "master.sock"),
        control_socket=directory / "control.sock",
        screen=Screen(out=out, err=err or io.StringIO(), width=60),
        clock=clock or Restless(),
    )


def pages(*answers: EventPage) -> tuple[servers.Answer, list[dict[str, str]]]:
    """One after the other; the last one holds until the client hangs up. With what was asked."""
    left, asked = list(answers), []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        if not left:
            request.transport.abort()  # type: ignore[union-attr]
            raise web.HTTPServiceUnavailable
        return web.Response(body=messages.encode(left.pop(0)))

    return handler, asked


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


async def test_events_in_a_pipe_are_one_line_each(tmp_path: Path) -> None:
    long = "beta is lost: nothing was heard of it for 32 s; its 12 shards go to alpha and gamma"
    page = EventPage(
        events=(event(1, long, severity="warning"), event(2, "beta\x1b[31m is\nback")),
        upto=2,
        newest=2,
    )
    answer, asked = pages(page)
    out = io.StringIO()
    async with servers.master(tmp_path / "master.sock", {"/v1/events": answer}):
        status = await events.show(
            context(tmp_path, out, clock=None),
            EventQuery(last=50, host="beta"),
            follow=False,
            json=False,
        )
    assert status == 0
    assert out.getvalue() == (
        f"2027-01-15 08:00:01  warning: {long}\n2027-01-15 08:00:02  beta?[31m is back\n"
    )
    assert asked[0]["host"] == "beta"
    assert asked[0]["last"] == "50"


async def test_long_sentence_is_wrapped_beside_its_time_on_a_terminal(tmp_path: Path) -> None:
    answer, _ = pages(EventPage(events=(event(1, "word " * 20),), upto=1, newest=1))
    out = Terminal()
    async with servers.master(tmp_path / "master.sock", {"/v1/events": answer}):
        await events.show(
            context(tmp_path, out, clock=None), EventQuery(), follow=False, json=False
        )
    lines = out.getvalue().splitlines()
    assert len(lines) > 1
    assert all(line.startswith(" " * 21 + "word") for line in lines[1:])


async def test_all_pages_are_fetched_and_json_is_an_object_a_line(tmp_path: Path) -> None:
    answer, asked = pages(
        EventPage(events=(event(1, "one"),), upto=1, newest=2),
        EventPage(events=(event(2, "two"),), upto=2, newest=2),
    )
    out = io.StringIO()
    async with servers.master(tmp_path / "master.sock", {"/v1/events": answer}):
        await events.show(
            context(tmp_path, out, clock=None), EventQuery(last=2000), follow=False, json=True
        )
    lines = [msgspec.json.decode(line, type=Event) for line in out.getvalue().splitlines()]
    assert [line.sentence for line in lines] == ["one", "two"]
    assert (asked[1]["after"], asked[1].get("last")) == ("1", None)


async def test_follow_outlives_master_and_goes_on_after_the_last_number(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    before, _ = pages(EventPage(events=(event(7, "one"),), upto=7, newest=7))
    after, asked = pages(
        EventPage(events=(event(8, "two"),), upto=8, newest=8),
        EventPage(events=(event(1, "anew"),), upto=1, newest=1),
    )
    first = servers.master(tmp_path / "master.sock", {"/v1/events": before})
    second = servers.master(tmp_path / "master.sock", {"/v1/events": after})

    async def restart() -> None:
        await first.__aexit__(None, None, None)
        await second.__aenter__()

    await first.__aenter__()
    clock = Restless(restart)
    try:
        with pytest.raises(asyncio.CancelledError):
            await events.show(
                context(tmp_path, out, err=err, clock=clock),
                EventQuery(last=1),
                follow=True,
                json=False,
            )
    finally:
        await second.__aexit__(None, None, None)
    assert [line.split("  ")[1] for line in out.getvalue().splitlines()] == ["one", "two", "anew"]
    assert asked[0]["after"] == "7"
    assert float(asked[0]["wait"]) > 0
    assert "MASTER lost its events and began anew" in err.getvalue()
    # Once for each time that MASTER is away, not at each attempt.
    assert err.getvalue().count("error:") == 2


async def test_without_master_and_without_follow_it_is_an_error(tmp_path: Path) -> None:
    looked = context(tmp_path, io.StringIO(), clock=None)
    with pytest.raises(UnavailableError):
        await events.show(looked, EventQuery(), follow=False, json=False)
