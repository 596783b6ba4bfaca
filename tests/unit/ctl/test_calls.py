# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl call``: what it asks, shows and returns."""

import json
from typing import Final

import msgspec
import pytest
from aiohttp import web

from discluster.console import CallEntry, CallReport
from discluster.messages import CallFault, CallRequest, encode
from discluster.operators import WhoAmI
from tests.unit.ctl import servers
from tests.unit.ctl.desks import Ctl
from tests.unit.ctl.servers import says

WELL: Final = CallReport(
    entries=(
        CallEntry(cluster=1, host="alpha", value=msgspec.Raw(b'{"guilds":"\\u001b[31m9"}')),
        CallEntry(cluster=12, host="beta"),
    )
)
SOME: Final = CallReport(
    entries=(
        *WELL.entries,
        CallEntry(
            cluster=13,
            host="beta",
            fault=CallFault(code="raised", text="ValueError: \x1b[2J no"),
        ),
        CallEntry(cluster=77, fault=CallFault(code="no-such-cluster", text="none")),
    )
)
LOCAL: Final = msgspec.structs.replace(WELL, unasked="MASTER is away")
HERE: Final = {"/v1/whoami": says(WhoAmI(name="root", role="admin", how="socket", expires=None))}


async def test_all_is_well_if_every_cluster_answered(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {**HERE, "/v1/calls": says(WELL)}) as asked:
        status, out, err = await ctl("call", "stats", '{ "a": 1 }', "--all")
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["Cluster", "Host", "Answer"],
        ["1", "alpha", '{"guilds":"\\u001b[31m9"}'],
        ["12", "beta", "null"],
    ]
    request = CallRequest(number=0, name="stats", args=msgspec.Raw(b'{"a":1}'), timeout=10.0)
    assert asked.seen[-1] == f"POST /v1/calls {encode(request).decode()}"


async def test_who_did_not_answer_well_is_shown_with_the_reason(ctl: Ctl) -> None:
    words = ("--cluster", "1", "--cluster", "77", "--timeout", "2.5")
    async with servers.master(ctl.master, {**HERE, "/v1/calls": says(SOME)}) as asked:
        status, out, _ = await ctl("call", "stats", *words)
    assert status == 3
    assert "raised: ValueError: ?[2J no" in out
    assert out.splitlines()[-1].split() == ["77", "-", "no-such-cluster:", "none"]
    sent = json.loads(asked.seen[-1].split(" ", 2)[2])
    assert (sent["clusters"], sent["timeout"], sent["args"]) == ([1, 77], 2.5, None)


async def test_json_is_the_report(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {**HERE, "/v1/calls": says(SOME)}):
        status, out, _ = await ctl("call", "stats", "--all", "--json")
    assert status == 3
    assert "\x1b" not in out
    assert [e["cluster"] for e in json.loads(out)["entries"]] == [1, 12, 13, 77]


async def test_without_master_control_asks_the_clusters_here(ctl: Ctl) -> None:
    async with servers.control(ctl.control, encode(LOCAL) + b"\n") as asked:
        status, out, err = await ctl("call", "stats", "--all")
    assert status == 3
    assert "MASTER is not running here" in err
    assert "Others of the fleet were not asked: MASTER is away" in out
    assert json.loads(asked.seen[0])["type"] == "call_request"


async def test_call_that_master_may_have_made_is_not_made_again(ctl: Ctl) -> None:
    async def breaks_off(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with (
        servers.master(ctl.master, {**HERE, "/v1/calls": breaks_off}),
        servers.control(ctl.control, encode(LOCAL) + b"\n") as asked,
    ):
        status, out, err = await ctl("call", "stats", "--all")
    assert (status, out) == (69, "")
    assert "MASTER closed the connection before it had answered" in err
    assert asked.seen == []


async def test_without_master_and_control_it_ends_with_69(ctl: Ctl) -> None:
    status, out, err = await ctl("call", "stats", "--all")
    assert (status, out) == (69, "")
    assert "MASTER is not running here" in err
    assert "CONTROL is not running here" in err


async def test_fleet_without_clusters_is_not_well(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {**HERE, "/v1/calls": says(CallReport(entries=()))}):
        status, out, _ = await ctl("call", "stats", "--all")
    assert (status, out) == (3, "No cluster was asked\n")


async def test_long_answer_is_cut_and_says_where_it_is_whole(ctl: Ctl) -> None:
    value = msgspec.Raw(b'"%s"' % (b"x" * 5000))
    report = CallReport(entries=(CallEntry(cluster=1, host="alpha", value=value),))
    async with servers.master(ctl.master, {**HERE, "/v1/calls": says(report)}):
        _, out, _ = await ctl("call", "stats", "--all")
    assert "… (5,002 bytes; --json shows all)" in "".join(out.split("\n")).replace("  ", "")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("stats",), "one of the arguments --all --cluster is required"),
        (("stats", "--all", "--cluster", "3"), "not allowed with argument"),
        (("no name", "--all"), "'no name' is no name of a call"),
        (("stats", "{", "--all"), "argument ARGS: no JSON"),
        (("stats", '"' + "x" * 40_000 + '"', "--all"), "40002 bytes, of at most 32768"),
        (("stats", "--cluster", "-1"), "'-1' is no cluster: 0 to 999999"),
        (("stats", "--cluster", "1000000"), "'1000000' is no cluster: 0 to 999999"),
        (("stats", "--all", "--timeout", "61"), "not a number of seconds from 0.1 to 60"),
    ],
)
async def test_misuse_ends_with_2_and_says_what_is_wrong(
    argv: tuple[str, ...], complaint: str, ctl: Ctl
) -> None:
    status, out, err = await ctl("call", *argv)
    assert (status, out) == (2, "")
    assert complaint in " ".join(err.split())
