# SPDX-License-Identifier: Apache-2.0
"""Orders to MASTER: what is asked, what is shown meanwhile, how it ends."""

import asyncio
import json
import os
import signal
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from discluster.console import Failure, PlanDiff
from discluster.ctl import moves, orders
from discluster.ctl.orders import Wait
from discluster.errors import DisclusterError, UnavailableError
from discluster.messages import encode
from discluster.orders import Drain, MovesStatus, Ordered, Rebalance, Reload, RemoveHost, Route
from tests.unit.ctl import ordered, servers
from tests.unit.ctl.desks import Desk, Ticking, in_turn
from tests.unit.ctl.terminal import Terminal, plain
from tests.unit.ctl.test_process import start

TAKEN = Ordered(
    diff=PlanDiff(generation=43, summary="24 shards moved"),
    done=("beta gets no shards until 'disclusterctl undrain beta'.",),
    generation=43,
    serial=7,
)
IDLE = msgspec.structs.replace(TAKEN, serial=0)
SENTENCE = TAKEN.done[0]
NO_MOVES = web.Response(
    status=404, body=encode(Failure(code="no-moves", message="no order was given yet"))
)


def routes(
    *statuses: MovesStatus | web.Response, taken: Ordered = TAKEN
) -> dict[str, servers.Answer]:
    return {"/v1/orders": in_turn(taken), "/v1/moves": in_turn(*statuses)}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_pipe_is_told_what_is_in_force_and_now_and_then_how_far_it_is(desk: Desk) -> None:
    steps = [ordered.moving(moved=n) for n in (0, 1, 2, 3, 9, 10)]
    done = ordered.moving("done", moved=24)
    async with servers.master(desk.socket, routes(*steps, done)) as asked:
        assert await orders.give(desk.context(), Drain(host="beta"), Wait()) == 0
    assert asked.seen[0] == (
        'POST /v1/orders {"type":"drain","host":"beta","deadline":null,"force":false,'
        '"dry_run":false}'
    )
    assert desk.out.getvalue().splitlines() == [
        SENTENCE,
        "drain beta: moving 24 shards: 12 beta to alpha, 12 beta to gamma",
        "3 of 24 shards moved",
        "9 of 24 shards moved",
        "drain beta: 24 of 24 shards moved in 18s",
    ]
    assert desk.err.getvalue() == ""


async def test_a_terminal_gets_a_bar_and_in_the_end_one_line(desk: Desk) -> None:
    desk.out = Terminal()
    done = ordered.moving("done", moved=24)
    async with servers.master(desk.socket, routes(ordered.moving(), done)):
        assert await orders.give(desk.context(), Drain(host="beta"), Wait()) == 0
    shown = desk.out.getvalue()
    assert "9/24 shards, about 30s left" in shown
    assert "beta has not released shard 33 yet" in shown
    assert shown.splitlines()[-1].endswith("drain beta: 24 of 24 shards moved in 18s")


async def test_an_order_that_moves_nothing_ends_at_once(desk: Desk) -> None:
    async with servers.master(desk.socket, routes(NO_MOVES, taken=IDLE)) as asked:
        assert await orders.give(desk.context(), Drain(host="beta"), Wait()) == 0
    assert desk.out.getvalue() == SENTENCE + "\n"
    assert len(asked.seen) == 1


async def test_without_waiting_it_says_where_to_look(desk: Desk) -> None:
    async with servers.master(desk.socket, routes(NO_MOVES)) as asked:
        assert await orders.give(desk.context(), Rebalance(), Wait(wait=False)) == 0
    assert len(asked.seen) == 1
    assert desk.out.getvalue() == SENTENCE + "\n"
    assert desk.err.getvalue() == "its shards move now; look at it: disclusterctl moves\n"


async def test_a_dry_run_prints_the_moves_with_their_reasons(desk: Desk) -> None:
    async with servers.master(desk.socket, routes(NO_MOVES, taken=ordered.drained())) as asked:
        assert await orders.give(desk.context(), Drain(host="beta", dry_run=True), Wait()) == 0
    assert len(asked.seen) == 1
    assert '"dry_run":true' in asked.seen[0]
    assert "beta gets no shards any" in desk.out.getvalue()


async def test_it_ends_with_4_when_it_failed_and_says_why(desk: Desk) -> None:
    why = "the deadline is over, 12 shards are still on beta"
    failed = ordered.moving("failed", moved=12, problem=why)
    async with servers.master(desk.socket, routes(ordered.moving(), failed)):
        assert await orders.give(desk.context(), Drain(host="beta"), Wait()) == 4
    assert desk.err.getvalue() == (
        f"error: 12 of 24 shards moved; {why} (on gamma: systemctl status discluster-control)\n"
    )


async def test_it_ends_with_4_when_another_order_overtakes_it(desk: Desk) -> None:
    other = msgspec.structs.replace(ordered.moving(serial=8), order="rebalance")
    async with servers.master(desk.socket, routes(ordered.moving(), other)):
        assert await orders.give(desk.context(), Drain(host="beta"), Wait()) == 4
    assert desk.err.getvalue() == (
        "error: overtaken by another order, rebalance; look at it: disclusterctl moves\n"
    )


async def test_it_ends_with_4_when_master_lost_its_files(desk: Desk) -> None:
    async with servers.master(desk.socket, routes(ordered.moving(), NO_MOVES)):
        assert await orders.give(desk.context(), Drain(host="beta"), Wait()) == 4
    assert "MASTER does not know of this order any more" in desk.err.getvalue()


async def test_it_waits_no_longer_than_it_is_told(desk: Desk) -> None:
    async with servers.master(desk.socket, routes(ordered.stuck())):
        assert await orders.give(desk.context(), Drain(host="beta"), Wait(timeout=30.0)) == 4
    assert 29 < desk.clock.now < 31
    assert desk.err.getvalue() == (
        "error: 12 of 24 shards moved within 30s: gamma, which shall get 12 shards, is silent (on"
        " gamma: systemctl status discluster-control); it goes on, look at it: disclusterctl"
        " moves\n"
    )


async def test_a_pipe_is_told_a_problem_once_and_again_when_it_changes(desk: Desk) -> None:
    well, stuck, done = ordered.moving(), ordered.stuck(), ordered.moving("done", moved=24)
    other = msgspec.structs.replace(stuck, problem="no identify budget is left", hint=None)
    async with servers.master(desk.socket, routes(well, stuck, stuck, other, other, done)):
        assert await orders.give(desk.context(), Drain(host="beta"), Wait()) == 0
    told = [line for line in desk.out.getvalue().splitlines() if line.startswith("waits: ")]
    assert told == [
        f"waits: {stuck.problem} ({stuck.hint})",
        "waits: no identify budget is left",
    ]


async def test_a_master_that_is_restarted_meanwhile_is_waited_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = servers.master(desk.socket, routes(ordered.moving()))
    second = servers.master(desk.socket, routes(ordered.moving("done", moved=24)))

    async def stop() -> None:
        await first.__aexit__(None, None, None)

    async def nothing() -> None:
        pass

    async def begin() -> None:
        await second.__aenter__()

    await first.__aenter__()
    desk.clock = Ticking(stop, nothing, begin)
    assert await orders.give(desk.context(), Drain(host="beta"), Wait()) == 0
    await second.__aexit__(None, None, None)


async def test_a_master_that_stays_away_ends_it_with_the_way_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    server = servers.master(desk.socket, routes(ordered.moving()))

    async def stop() -> None:
        await server.__aexit__(None, None, None)

    await server.__aenter__()
    desk.clock = Ticking(stop)
    with pytest.raises(UnavailableError) as caught:
        await orders.give(desk.context(), Drain(host="beta"), Wait())
    assert (
        "it goes on when MASTER is back; look at it: disclusterctl moves" in caught.value.render()
    )


async def test_a_master_that_goes_away_right_after_it_took_the_order_leaves_the_way_back(
    desk: Desk,
) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    given: dict[str, servers.Answer] = {"/v1/orders": in_turn(TAKEN), "/v1/moves": hang_up}
    async with servers.master(desk.socket, given):
        with pytest.raises(UnavailableError) as caught:
            await orders.give(desk.context(), Drain(host="beta"), Wait())
    assert desk.out.getvalue() == SENTENCE + "\n"
    assert caught.value.hint == "it goes on when MASTER is back; look at it: disclusterctl moves"


async def test_a_refusal_is_told_as_it_is(desk: Desk) -> None:
    failure = Failure(
        code="no-such-host", message="no host 'betta'", hint="hosts of the fleet: alpha, beta"
    )
    refusal = web.Response(status=404, body=encode(failure))
    async with servers.master(desk.socket, {"/v1/orders": in_turn(refusal)}):
        with pytest.raises(DisclusterError) as caught:
            await orders.give(desk.context(), Drain(host="betta"), Wait())
    assert caught.value.render() == "no host 'betta' (hosts of the fleet: alpha, beta)"
    assert caught.value.exit_status == 1


async def test_a_reload_shows_what_differs_before_its_shards_move(desk: Desk) -> None:
    taken = msgspec.structs.replace(
        ordered.reloaded(), serial=7, done=("3 settings differ; 2 are in force now.",)
    )
    done = ordered.moving("done", moved=24)
    async with servers.master(desk.socket, routes(ordered.moving(), done, taken=taken)):
        assert await orders.give(desk.context(), Reload(), Wait()) == 0
    shown = desk.out.getvalue()
    assert "hosts.beta.weight  1.0          2.0              now" in shown
    assert shown.index("when MASTER is restarted") < shown.index("2 are in force now")
    assert shown.index("2 are in force now") < shown.index("24 of 24 shards moved")


@pytest.mark.parametrize("terminal", [True, False])
async def test_json_is_one_object_a_line_and_nothing_else(terminal: bool, desk: Desk) -> None:
    if terminal:
        desk.out = Terminal()
    done = ordered.moving("done", moved=24)
    async with servers.master(desk.socket, routes(ordered.moving(), done)):
        assert await orders.give(desk.context(), Drain(host="beta"), Wait(), json=True) == 0
    answer, end = map(json.loads, desk.out.getvalue().splitlines())
    assert (answer["type"], answer["serial"]) == ("ordered", 7)
    assert (end["type"], end["state"], end["moved"]) == ("moves_status", "done", 24)


# --- disclusterctl moves --------------------------------------------------------------------------


async def test_moves_follows_the_newest_order(desk: Desk) -> None:
    done = ordered.moving("done", moved=24)
    async with servers.master(
        desk.socket, routes(ordered.moving(), ordered.moving(), done)
    ) as asked:
        assert await orders.look(desk.context(), Wait()) == 0
    assert not [line for line in asked.seen if line.startswith("POST")]
    assert desk.out.getvalue().splitlines()[-1] == "drain beta: 24 of 24 shards moved in 18s"


async def test_moves_of_an_order_that_was_done_says_when_it_was_given(desk: Desk) -> None:
    done = msgspec.structs.replace(ordered.moving("done", moved=24), age=7_260.0)
    async with servers.master(desk.socket, routes(done)):
        assert await orders.look(desk.context(), Wait()) == 0
    assert desk.out.getvalue() == "drain beta: 24 of 24 shards moved; ordered 2h 1min ago\n"


async def test_moves_without_waiting_looks_once(desk: Desk) -> None:
    async with servers.master(desk.socket, routes(ordered.moving())) as asked:
        assert await orders.look(desk.context(), Wait(wait=False)) == 0
    assert len(asked.seen) == 1
    assert "9/24 shards" in desk.out.getvalue()


async def test_moves_of_an_order_that_failed_ends_with_4(desk: Desk) -> None:
    failed = ordered.moving("failed", moved=12, problem="the deadline is over")
    async with servers.master(desk.socket, routes(failed)):
        assert await orders.look(desk.context(), Wait(wait=False)) == 4
    assert "the deadline is over" in desk.err.getvalue()


async def test_moves_that_never_were_is_an_error(desk: Desk) -> None:
    async with servers.master(desk.socket, routes(NO_MOVES)):
        with pytest.raises(DisclusterError, match="no order was given yet"):
            await orders.look(desk.context(), Wait())


def test_many_ways_are_cut_with_a_count() -> None:
    ways = tuple(Route(source=f"h{n}", target="new", total=4, moved=0) for n in range(12))
    status = msgspec.structs.replace(ordered.moving(), routes=ways)
    assert "  and 4 more ways\n" in plain(moves.bar(status, width=80), width=80)
    assert moves.head(status).endswith("4 h7 to new and 4 more ways")


def test_shards_without_a_host_and_those_that_stay_on_theirs_are_told_apart() -> None:
    ways = [
        Route(source=None, target="alpha", total=1, moved=0),
        Route(source="alpha", target=None, total=1, moved=0),
        Route(source="alpha", target="alpha", total=1, moved=0),
    ]
    told = ["no host to alpha", "alpha to no host", "within alpha"]
    assert [moves.way(route) for route in ways] == told


# --- host remove --lost ---------------------------------------------------------------------------

LOST = RemoveHost(host="beta", lost=True)


async def test_a_host_is_not_declared_off_where_nobody_can_be_asked(desk: Desk) -> None:
    async with servers.master(desk.socket, routes(NO_MOVES)) as asked:
        with pytest.raises(DisclusterError, match="nobody can be asked here") as caught:
            await orders.give(desk.context(), LOST, Wait())
    assert "--yes" in caught.value.render()
    assert asked.seen == []


async def test_a_script_can_say_yes_beforehand(desk: Desk) -> None:
    async with servers.master(desk.socket, routes(NO_MOVES, taken=IDLE)) as asked:
        assert await orders.give(desk.context(), LOST, Wait(), assume_yes=True) == 0
    assert [line.split()[0] for line in asked.seen] == ["POST"]
    assert '"lost":true,"dry_run":false' in asked.seen[0]


async def test_a_dry_run_asks_nobody(desk: Desk) -> None:
    order = msgspec.structs.replace(LOST, dry_run=True)
    async with servers.master(desk.socket, routes(NO_MOVES, taken=ordered.drained())) as asked:
        assert await orders.give(desk.context(), order, Wait()) == 0
    assert len(asked.seen) == 1


@pytest.mark.parametrize(
    ("answer", "status", "given"), [(b"y\n", 0, True), (b"\n", 1, False), (b"nay\n", 1, False)]
)
async def test_a_person_is_asked_after_being_told_what_it_means(
    answer: bytes, status: int, given: bool, tmp_path: Path
) -> None:
    socket = tmp_path / "master.sock"
    ours, theirs = os.openpty()
    async with servers.master(socket, routes(NO_MOVES, taken=IDLE)) as asked:
        argv = ("host", "remove", "beta", "--lost", "--socket", str(socket))
        process = await start(*argv, stdin=theirs)
        os.close(theirs)
        assert process.stderr is not None
        told = await process.stderr.readuntil(b"[y/N] ")
        os.write(ours, answer)
        _, err = await process.communicate()
    os.close(ours)
    assert b"start elsewhere at once: if it still runs, they run twice" in told
    assert process.returncode == status
    assert (err == b"nothing was changed\n") is not given
    assert ['"dry_run":true' in line for line in asked.seen] == [True, False][: 1 + given]


async def test_ctrl_c_at_the_question_changes_nothing(tmp_path: Path) -> None:
    socket = tmp_path / "master.sock"
    ours, theirs = os.openpty()
    async with servers.master(socket, routes(NO_MOVES, taken=IDLE)) as asked:
        argv = ("host", "remove", "beta", "--lost", "--socket", str(socket))
        process = await start(*argv, stdin=theirs)
        os.close(theirs)
        assert process.stderr is not None
        await process.stderr.readuntil(b"[y/N] ")
        process.send_signal(signal.SIGINT)
        await process.communicate()
    os.close(ours)
    assert process.returncode == 130
    assert len(asked.seen) == 1


# --- as a process ---------------------------------------------------------------------------------


async def test_ctrl_c_leaves_it_going_and_says_so(tmp_path: Path) -> None:
    socket = tmp_path / "master.sock"
    async with servers.master(socket, routes(ordered.moving())) as asked:
        process = await start("drain", "beta", "--socket", str(socket))
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err == (
        b"it goes on without this view; look at it: disclusterctl moves; to end it: disclusterctl"
        b" undrain beta\n"
    )
    assert [line.split()[0] for line in asked.seen].count("POST") == 1


async def test_ctrl_c_before_master_has_answered_tells_whether_it_goes_on(tmp_path: Path) -> None:
    socket, asked_for, answer = tmp_path / "master.sock", asyncio.Event(), asyncio.Event()

    async def late(_: web.Request) -> web.StreamResponse:
        asked_for.set()
        await answer.wait()
        return web.Response(body=encode(TAKEN))

    async with servers.master(socket, {"/v1/orders": late}):
        process = await start("rebalance", "--socket", str(socket))
        async with asyncio.timeout(20):
            await asked_for.wait()
        process.send_signal(signal.SIGINT)
        answer.set()
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err == b"it goes on without this view; look at it: disclusterctl moves\n"
