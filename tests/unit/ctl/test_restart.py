# SPDX-License-Identifier: Apache-2.0
"""disclusterctl restart: what is asked, what is shown meanwhile, how it ends."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from aiohttp import web

from discluster.console import (
    Failure,
    RestartAnswer,
    RestartProgress,
    RollingRequest,
    RolloutCluster,
    RolloutStatus,
)
from discluster.ctl import render, restart, rollout
from discluster.errors import DisclusterError, UnavailableError
from discluster.messages import encode
from tests.unit.ctl import fleets, servers
from tests.unit.ctl.conftest import CompareGolden
from tests.unit.ctl.desks import Desk, Ticking, in_turn
from tests.unit.ctl.terminal import Terminal, plain
from tests.unit.ctl.test_process import start

ABORTED = Failure(code="no-rollout", message="there was no rolling restart, or it was aborted")
GONE = web.Response(status=404, body=encode(ABORTED))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_pipe_gets_one_line_for_each_cluster(desk: Desk) -> None:
    one, two = fleets.rolling(restarted=0, total=2), fleets.rolling(restarted=1, total=2)
    done = fleets.rolling("done", restarted=2, total=2)
    routes = {"/v1/rolling": in_turn(one, one, two, two, done)}
    async with servers.master(desk.socket, routes) as asked:
        request = RollingRequest(hosts=("alpha",), at_a_time=2)
        assert await restart.rolling(desk.context(), request) == 0
    assert asked.seen[0] == f"POST /v1/rolling {encode(request).decode()}"
    assert desk.out.getvalue().splitlines() == [
        "restarting 2 clusters, 2 at a time",
        "cluster 0 on alpha is back after 2.4s (1 of 2)",
        "cluster 1 on beta is back after 2.5s (2 of 2)",
        "2 of 2 clusters restarted; back after 2.5s (median), 2.5s (longest); no session was lost",
    ]
    assert desk.err.getvalue() == ""


async def test_a_terminal_gets_a_bar_and_in_the_end_one_line(desk: Desk) -> None:
    desk.out = Terminal()
    done = fleets.rolling("done", restarted=40)
    async with servers.master(desk.socket, {"/v1/rolling": in_turn(fleets.rolling(), done)}):
        assert await restart.rolling(desk.context(), RollingRequest()) == 0
    shown = desk.out.getvalue()
    assert "12/40 clusters, about 36s left" in shown
    assert "cluster 13 on beta" in shown
    assert "40 of 40 clusters restarted; back after" in shown.splitlines()[-1]


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_looks_as_agreed(width: int, compare_golden: CompareGolden) -> None:
    shown = plain(rollout.bar(fleets.rolling(), width=width), width=width)
    compare_golden(f"rolling-{width}", shown)
    assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("width", [20, 40, 60])
def test_a_narrow_terminal_shows_the_counts(width: int) -> None:
    shown = plain(rollout.bar(fleets.rolling(), width=width), width=width)
    assert max(map(len, shown.splitlines())) <= width
    assert "12/40" in shown


def test_the_bar_tells_of_many_under_way_and_of_a_host_that_is_waited_for() -> None:
    many = fleets.rolling(restarted=0, total=30)
    underway = tuple(msgspec.structs.replace(c, state="underway") for c in many.clusters)
    shown = plain(rollout.bar(msgspec.structs.replace(many, clusters=underway), width=80), width=80)
    assert "  and 22 more\n" in shown
    waiting = tuple(msgspec.structs.replace(c, state="waiting") for c in many.clusters[:2])
    shown = plain(rollout.bar(msgspec.structs.replace(many, clusters=waiting), width=80), width=80)
    assert "  waits for alpha, beta\n" in shown


async def test_it_ends_with_4_where_one_did_not_come_back_and_says_what_to_do(desk: Desk) -> None:
    routes = {"/v1/rolling": in_turn(fleets.rolling(), fleets.rolling("stopped"))}
    async with servers.master(desk.socket, routes):
        assert await restart.rolling(desk.context(), RollingRequest()) == 4
    assert desk.err.getvalue() == (
        "error: cluster 12 on alpha did not come back in 120 s: its unit is failed (mend it, then:"
        " disclusterctl restart --rolling --continue)\n"
    )
    assert desk.out.getvalue().endswith("stopped: 12 of 40 clusters restarted\n")


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (fleets.rolling("paused"), "paused: 12 of 40 clusters restarted; clusters 12-13 still"),
        (GONE, "error: aborted by somebody else: 12 of 40 clusters restarted"),
    ],
)
async def test_it_ends_with_4_when_somebody_else_ends_it(
    desk: Desk, last: RolloutStatus | web.Response, said: str
) -> None:
    routes = {"/v1/rolling": in_turn(fleets.rolling(), last)}
    async with servers.master(desk.socket, routes):
        assert await restart.rolling(desk.context(), RollingRequest()) == 4
    assert said in desk.out.getvalue() + desk.err.getvalue()


async def test_shards_that_had_to_identify_are_told(desk: Desk) -> None:
    done = fleets.rolling("done", restarted=1, total=1)
    dear = msgspec.structs.replace(
        done, clusters=(msgspec.structs.replace(done.clusters[0], identified=3),)
    )
    async with servers.master(desk.socket, {"/v1/rolling": in_turn(dear)}):
        await restart.rolling(desk.context(), RollingRequest())
    assert desk.out.getvalue().splitlines()[-1] == (
        "1 of 1 cluster restarted; back after 2.4s; 3 shards had to identify"
    )


async def test_a_dry_run_prints_the_order(desk: Desk) -> None:
    planned = fleets.rolling("planned", restarted=0, total=3)
    async with servers.master(desk.socket, {"/v1/rolling": in_turn(planned)}) as asked:
        assert await restart.rolling(desk.context(), RollingRequest(dry_run=True)) == 0
    assert len(asked.seen) == 1
    assert desk.out.getvalue().splitlines() == [
        "3 clusters would be restarted, 2 at a time, in this order:",
        "  cluster 0 on alpha",
        "  cluster 1 on beta",
        "  cluster 2 on gamma",
    ]


async def test_continue_tells_only_what_comes_back_from_now_on(desk: Desk) -> None:
    done = fleets.rolling("done", restarted=13, total=13)
    routes = {
        "/v1/rolling/change": in_turn(fleets.rolling(total=13)),
        "/v1/rolling": in_turn(done),
    }
    async with servers.master(desk.socket, routes) as asked:
        assert await restart.carry_on(desk.context(), at_a_time=3, timeout=None) == 0
    assert asked.seen[0] == (
        'POST /v1/rolling/change {"type":"rolling_change","action":"continue","at_a_time":3,'
        '"timeout":null}'
    )
    head, line, _ = desk.out.getvalue().splitlines()
    assert head == "restarting 13 clusters, 2 at a time; 12 of them were restarted before"
    assert line == "cluster 12 on alpha is back after 2.6s (13 of 13)"


async def test_a_master_that_is_restarted_meanwhile_is_waited_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = servers.master(desk.socket, {"/v1/rolling": in_turn(fleets.rolling())})
    second = servers.master(
        desk.socket, {"/v1/rolling": in_turn(fleets.rolling("done", restarted=40))}
    )

    async def stop() -> None:
        await first.__aexit__(None, None, None)

    async def nothing() -> None:
        pass

    async def begin() -> None:
        await second.__aenter__()

    await first.__aenter__()
    desk.clock = Ticking(stop, nothing, nothing, begin)
    assert await restart.rolling(desk.context(), RollingRequest()) == 0
    await second.__aexit__(None, None, None)


async def test_a_master_that_stays_away_ends_it_with_the_way_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    server = servers.master(desk.socket, {"/v1/rolling": in_turn(fleets.rolling())})

    async def stop() -> None:
        await server.__aexit__(None, None, None)

    await server.__aenter__()
    desk.clock = Ticking(stop)
    with pytest.raises(UnavailableError) as caught:
        await restart.rolling(desk.context(), RollingRequest())
    assert caught.value.exit_status == 69
    assert "it goes on when MASTER is back" in caught.value.render()
    assert 60 < desk.clock.now < 62


async def test_a_refusal_is_told_as_it_is(desk: Desk) -> None:
    refusal = encode(
        Failure(code="restart-refused", message="cluster 3 is not well", hint="--force")
    )
    routes = {"/v1/rolling": in_turn(web.Response(status=409, body=refusal))}
    async with servers.master(desk.socket, routes):
        with pytest.raises(DisclusterError) as caught:
            await restart.rolling(desk.context(), RollingRequest())
    assert (caught.value.render(), caught.value.exit_status) == (
        "cluster 3 is not well (--force)",
        1,
    )


async def test_pause_and_abort_say_where_it_stands(desk: Desk) -> None:
    routes = {
        "/v1/rolling/change": in_turn(fleets.rolling("paused"), fleets.rolling("aborted")),
    }
    async with servers.master(desk.socket, routes):
        assert await restart.pause(desk.context()) == 0
        assert await restart.abort(desk.context()) == 0
    assert desk.out.getvalue() == (
        "paused: 12 of 40 clusters restarted; clusters 12-13 still coming back; continue with:"
        " disclusterctl restart --rolling --continue\naborted: 12 of 40 clusters restarted\n"
    )


def cluster_3(state: Literal["underway", "restarted", "gone"], **more: Any) -> RestartProgress:
    return RestartProgress(clusters=(RolloutCluster(cluster=3, host="beta", state=state, **more),))


async def test_clusters_are_restarted_at_once_and_waited_for(desk: Desk) -> None:
    underway = cluster_3("underway", lacks="beta has not started it anew")
    routes = {
        "/v1/restart": in_turn(RestartAnswer(runs={3: 2})),
        "/v1/restart/progress": in_turn(underway, underway, cluster_3("restarted", identified=4)),
    }
    async with servers.master(desk.socket, routes) as asked:
        assert await restart.at_once(desk.context(), [3], timeout=120.0) == 0
    assert asked.seen[:2] == [
        'POST /v1/restart {"type":"restart_request","clusters":[3]}',
        'POST /v1/restart/progress {"type":"restart_answer","runs":{"3":2}}',
    ]
    line = desk.out.getvalue().splitlines()[1]
    assert line == "cluster 3 on beta is back after 1.0s; 4 shards had to identify (1 of 1)"


async def test_a_cluster_that_is_not_back_in_time_ends_it_with_4(desk: Desk) -> None:
    failed = cluster_3("underway", lacks="unit failed: exit status 78")
    routes = {
        "/v1/restart": in_turn(RestartAnswer(runs={3: 2})),
        "/v1/restart/progress": in_turn(failed),
    }
    async with servers.master(desk.socket, routes):
        assert await restart.at_once(desk.context(), [3], timeout=30.0) == 4
    assert desk.err.getvalue() == (
        "error: cluster 3 on beta is not back after 30 s: unit failed: exit status 78\n"
    )


async def test_a_cluster_that_left_the_plan_meanwhile_is_not_waited_for(desk: Desk) -> None:
    routes = {
        "/v1/restart": in_turn(RestartAnswer(runs={3: 2})),
        "/v1/restart/progress": in_turn(cluster_3("gone")),
    }
    async with servers.master(desk.socket, routes):
        assert await restart.at_once(desk.context(), [3], timeout=30.0) == 0
    assert desk.out.getvalue().splitlines()[-1] == (
        "0 of 1 cluster restarted, 1 not in the plan any more"
    )


def test_status_shows_a_rolling_restart_that_was_paused() -> None:
    shown = plain(render.fleet(fleets.rolling_paused(), width=120), width=120)
    assert "warning  rolling restart paused: 12 of 40 clusters restarted" in shown
    assert "hint: go on with it: disclusterctl restart --rolling --continue" in shown


# --- as a process ---------------------------------------------------------------------------------


async def test_ctrl_c_pauses_it_and_ends_with_130(tmp_path: Path) -> None:
    socket = tmp_path / "master.sock"
    routes = {
        "/v1/rolling": in_turn(fleets.rolling()),
        "/v1/rolling/change": in_turn(fleets.rolling("paused")),
    }
    async with servers.master(socket, routes) as asked:
        process = await start("restart", "--rolling", "--all", "--socket", str(socket))
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")
    assert b"paused: 12 of 40 clusters restarted" in out
    assert b"continue with: disclusterctl restart --rolling --continue\n" in out
    assert '"action":"pause"' in asked.seen[-1]


async def test_ctrl_c_before_master_has_answered_pauses_it_too(tmp_path: Path) -> None:
    socket, asked_for, answer = tmp_path / "master.sock", asyncio.Event(), asyncio.Event()

    async def late(_: web.Request) -> web.StreamResponse:
        asked_for.set()
        await answer.wait()
        return web.Response(body=encode(fleets.rolling()))

    routes = {"/v1/rolling": late, "/v1/rolling/change": in_turn(fleets.rolling("paused"))}
    async with servers.master(socket, routes) as asked:
        process = await start("restart", "--rolling", "--all", "--socket", str(socket))
        async with asyncio.timeout(20):
            await asked_for.wait()
        process.send_signal(signal.SIGINT)
        answer.set()
        out, _ = await process.communicate()
    assert process.returncode == 130
    assert out.startswith(b"paused: 12 of 40")
    assert '"action":"pause"' in asked.seen[-1]


async def test_ctrl_c_that_could_not_pause_it_says_so(tmp_path: Path) -> None:
    socket = tmp_path / "master.sock"
    routes = {
        "/v1/rolling": in_turn(fleets.rolling()),
        "/v1/rolling/change": in_turn(web.Response(status=409, body=encode(ABORTED))),
    }
    async with servers.master(socket, routes):
        process = await start("restart", "--rolling", "--all", "--socket", str(socket))
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err == b"error: not paused: there was no rolling restart, or it was aborted\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
async def test_a_terminal_that_is_closed_leaves_it_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored by whoever runs the tests (nohup), and by programs")
    socket = tmp_path / "master.sock"
    async with servers.master(socket, {"/v1/rolling": in_turn(fleets.rolling())}) as asked:
        process = await start("restart", "--rolling", "--all", "--socket", str(socket))
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(number)
        await process.communicate()
    assert process.returncode == -number
    assert not [line for line in asked.seen if "change" in line]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "'restart 3 4' restarts two clusters now, 'restart --rolling --all' all"),
        (("alpha",), "'alpha' is no cluster; for a host: --rolling alpha"),
        (("--all",), "--all, --at-a-time, --force and --dry-run are for --rolling"),
        (("--pause",), "--pause is about a rolling restart: --rolling --pause"),
        (("--rolling",), "say which: HOST ... or --all"),
        (("--rolling", "--all", "alpha"), "say which: HOST ... or --all"),
        (("--rolling", "--continue", "alpha"), "--continue takes no host"),
        (("--rolling", "--all", "--at-a-time", "0"), "'0' is no whole number from 1 on"),
        (("--rolling", "--continue", "--abort"), "not allowed with argument --continue"),
    ],
)
async def test_what_does_not_go_together_is_told(arguments: tuple[str, ...], said: str) -> None:
    process = await start("restart", *arguments)
    _, err = await process.communicate()
    assert process.returncode == 2
    assert said in " ".join(err.decode().split())


async def test_in_a_real_terminal_the_bar_is_drawn_in_place(tmp_path: Path) -> None:
    socket = tmp_path / "master.sock"
    done = fleets.rolling("done", restarted=40)
    routes = {"/v1/rolling": in_turn(fleets.rolling(), fleets.rolling(), done)}
    ours, theirs = os.openpty()
    async with servers.master(socket, routes):
        process = await start(
            "restart", "--rolling", "--all", "--socket", str(socket), stdout=theirs, COLUMNS="80"
        )
        os.close(theirs)
        _, err = await process.communicate()
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert (process.returncode, err) == (0, b"")
    assert "12/40 clusters" in shown
    assert "\x1b[1A\x1b[2K" in shown, "what was drawn is wiped"
    assert shown.rstrip().endswith("no session was lost")
    assert "\x1b[?1049h" not in shown, "the other screen is not used"
