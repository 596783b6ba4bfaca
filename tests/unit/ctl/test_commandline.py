# SPDX-License-Identifier: Apache-2.0
"""What the command line makes of its arguments: which order, which question, or which complaint."""

import argparse
import json
import time
from collections.abc import Iterator

import pytest
from aiohttp import web

from discluster.console import EventPage, PlanDiff, PlanHistory
from discluster.ctl.main import build_parser
from discluster.messages import Message, encode
from discluster.orders import (
    ClusterSize,
    Drain,
    Ordered,
    Rebalance,
    Reload,
    RemoveHost,
    Rollback,
    Undrain,
)
from tests.unit.ctl import fleets, ordered, servers
from tests.unit.ctl.desks import Ctl

TAKEN = Ordered(diff=PlanDiff(generation=42, summary=""), done=("It is so.",), generation=42)


@pytest.mark.parametrize(
    ("argv", "order"),
    [
        (("rebalance",), Rebalance()),
        (("reload", "--dry-run"), Reload(dry_run=True)),
        (("drain", "beta"), Drain(host="beta")),
        (
            ("drain", "beta", "--deadline", "10m", "--force"),
            Drain(host="beta", deadline=600.0, force=True),
        ),
        (("undrain", "beta", "--no-wait"), Undrain(host="beta")),
        (("host", "remove", "beta"), RemoveHost(host="beta")),
        (("host", "remove", "beta", "--lost", "--yes"), RemoveHost(host="beta", lost=True)),
        (
            ("shards-per-cluster", "beta", "24"),
            ClusterSize(host="beta", shards_per_cluster=24),
        ),
        (("shards-per-cluster", "beta", "default"), ClusterSize(host="beta")),
        (("plan", "rollback", "17"), Rollback(generation=17)),
    ],
)
async def test_command_gives_its_order(argv: tuple[str, ...], order: Message, ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/orders": servers.says(TAKEN)}) as asked:
        status, out, err = await ctl(*argv)
    assert (status, err) == (0, "")
    assert "It is so." in out
    assert asked.seen == [f"POST /v1/orders {encode(order).decode()}"]


async def test_lost_host_is_not_removed_without_being_sure(ctl: Ctl) -> None:
    status, out, err = await ctl("host", "remove", "beta", "--lost")
    assert (status, out) == (1, "")
    assert err.startswith("error: nobody can be asked here whether the machine of beta is off")


async def test_history_is_a_table_or_json(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/history": servers.says(ordered.history())}):
        table, raw = await ctl("plan", "history"), await ctl("plan", "history", "--json")
    assert table.out.count("\n") > 3
    assert json.loads(raw.out)["entries"][2]["current"] is True


async def test_history_before_the_first_plan_says_so(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/history": servers.says(PlanHistory())}):
        assert (await ctl("plan", "history")).out == "There was no plan yet.\n"


async def test_an_older_plan_is_masters_text_and_nothing_else(ctl: Ctl) -> None:
    text = 'generation: 17\nreason: "drain beta"\n'
    async with servers.master(ctl.master, {"/v1/history/17": servers.says(text)}):
        assert await ctl("plan", "show", "--generation", "17") == (0, text, "")


async def test_diff_and_hosts_as_json_can_be_read_by_a_machine(ctl: Ctl) -> None:
    routes = {
        "/v1/diff": servers.says(fleets.some_changes()),
        "/v1/status": servers.says(fleets.healthy()),
    }
    async with servers.master(ctl.master, routes):
        diff, hosts = await ctl("plan", "diff", "--json"), await ctl("hosts", "--json")
    assert len(json.loads(diff.out)["changes"]) == 10
    names = [json.loads(line)["host"] for line in hosts.out.splitlines()]
    assert names == ["alpha", "beta", "gamma"]


@pytest.mark.parametrize(
    ("argv", "query"),
    [
        ((), "after=0&last=50&since=0.0&wait=0.0"),
        (("--host", "beta", "-n", "3"), "after=0&last=3&host=beta&since=0.0&wait=0.0"),
        (("--since", "2027-01-15 08:00:00"), "after=0&since=1800000000.0&wait=0.0"),
        (("--since", "2027-01-15T08:00", "-n", "9"), "after=0&last=9&since=1800000000.0&wait=0.0"),
    ],
)
async def test_events_asks_for_what_was_said(argv: tuple[str, ...], query: str, ctl: Ctl) -> None:
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.query_string)
        return web.Response(body=encode(EventPage(events=(), upto=0, newest=0)))

    async with servers.master(ctl.master, {"/v1/events": answer}):
        assert await ctl("events", *argv) == (0, "", "")
    assert asked == [query]


def test_events_since_some_time_ago_counts_back_from_now() -> None:
    before = time.time()
    since = build_parser().parse_args(["events", "--since", "2h"]).since
    assert before - 7200 <= since <= time.time() - 7200


@pytest.mark.parametrize(
    "argv",
    [
        ("rebalance",),
        ("drain", "beta"),
        ("plan", "history"),
        ("plan", "show", "--generation", "3"),
        ("moves",),
        ("events",),
    ],
)
async def test_commands_that_need_master_end_with_69_without_it(
    argv: tuple[str, ...], ctl: Ctl
) -> None:
    status, out, err = await ctl(*argv)
    assert (status, out) == (69, "")
    assert err.startswith("error: MASTER is not running here")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("drain",), "HOST"),
        (("drain", "Beta"), "must be a host name in lower case"),
        (("drain", "beta", "--deadline", "soon"), "'soon' is no time such as"),
        (("shards-per-cluster", "beta", "0"), "'0' is neither a number from 1 to 256 nor"),
        (("shards-per-cluster", "beta", "many"), "'many' is neither"),
        (("plan", "rollback", "0"), "'0' is no whole number from 1 on"),
        (("plan", "show", "beta", "--generation", "3"), "--generation is about the whole plan"),
        (("host", "remove", "beta", "--yes"), "--yes is about --lost"),
        (("events", "--since", "2027-13-01"), "is no date such as"),
        (("events", "--since", "yesterday"), "'yesterday' is no time such as"),
    ],
)
async def test_misuse_ends_with_2_and_says_what_is_wrong(
    argv: tuple[str, ...], complaint: str, ctl: Ctl
) -> None:
    status, out, err = await ctl(*argv)
    assert (status, out) == (2, "")
    assert complaint in " ".join(err.split())


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield child
                yield from _commands(child)


def test_every_command_that_changes_something_tells_its_exit_status() -> None:
    changing = [c for c in _commands(build_parser()) if "--dry-run" in c.format_help()]
    assert len(changing) == 8
    for command in changing:
        assert "Exit status: 0 if" in " ".join(command.format_help().split()), command.prog
