# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl identify``: what it shows, asks MASTER, says and returns."""

import io
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pytest

from discluster.console import IdentifyOverview, IdentifyStatus, ResumeAnswer
from discluster.ctl import identify
from discluster.ctl.client import Master
from discluster.ctl.commands import Context
from discluster.ctl.main import build_parser
from discluster.ctl.screen import Screen
from tests.clock import ManualClock
from tests.unit.ctl import fleets, servers
from tests.unit.ctl.conftest import CompareGolden
from tests.unit.ctl.servers import says
from tests.unit.ctl.terminal import plain

SHOWN: Final = {
    "identify-held": fleets.identify_held(),
    "identify-blocked": fleets.identify_blocked(),
}


class Result(NamedTuple):
    """What a command returned and printed."""

    status: int
    out: str


async def run(socket: Path, *arguments: str) -> Result:
    """``disclusterctl`` with MASTER at ``socket``."""
    out = io.StringIO()
    options = build_parser().parse_args(arguments)
    context = Context(
        master=Master(socket),
        control_socket=socket.with_name("c"),
        screen=Screen(out=out, err=io.StringIO(), width=80),
        clock=ManualClock(),
    )
    return Result(await options.command(context, options), out.getvalue())


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", SHOWN)
def test_identify_status_looks_as_agreed(
    name: str, width: int, compare_golden: CompareGolden
) -> None:
    text = plain(identify.rendered(SHOWN[name], width=width), width=width)
    compare_golden(f"{name}-{width}", text)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (IdentifyStatus(), "No shard waits to identify"),
        (IdentifyStatus(waiting=2), "2 shards waiting for a turn to identify"),
        (
            IdentifyStatus(blocked="the identify guard has stopped all: so", closed="so"),
            "Nobody may identify: the identify guard has stopped all: so",
        ),
    ],
)
def test_first_line_says_how_it_stands(status: IdentifyStatus, sentence: str) -> None:
    overview = IdentifyOverview(identify=status, spendable=0, again=0, waste=0)
    assert plain(identify.rendered(overview, width=120), width=120).splitlines()[0] == sentence


async def test_status_returns_3_while_anybody_is_stopped(tmp_path: Path) -> None:
    calm = msgspec.structs.replace(fleets.identify_held(), identify=IdentifyStatus())
    for overview, status in (
        (fleets.identify_held(), 3),
        (fleets.identify_blocked(), 3),
        (calm, 0),
    ):
        async with servers.master(tmp_path / "m", {"/v1/identify": says(overview)}):
            result = await run(tmp_path / "m", "identify", "status", "--json")
        assert result.status == status
        assert msgspec.json.decode(result.out, type=IdentifyOverview) == overview


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ((), '"shards":null,"reserve":false'),
        (("--reserve",), '"shards":null,"reserve":true'),
        (("--shard", "3", "--shard", "7"), '"shards":[3,7],"reserve":false'),
    ],
)
async def test_resume_says_what_master_did(
    tmp_path: Path, options: tuple[str, ...], asked: str
) -> None:
    answer = says(ResumeAnswer(done=("Released shard 7; identifies are counted anew.",)))
    async with servers.master(tmp_path / "m", {"/v1/identify/resume": answer}) as requests:
        result = await run(tmp_path / "m", "identify", "resume", *options)
    assert (result.status, result.out) == (0, "Released shard 7; identifies are counted anew.\n")
    assert asked in requests.seen[0]


async def test_resume_of_nothing_says_so(tmp_path: Path) -> None:
    async with servers.master(tmp_path / "m", {"/v1/identify/resume": says(ResumeAnswer())}):
        result = await run(tmp_path / "m", "identify", "resume")
    assert result.status == 0
    assert result.out == "The guard held back nothing of that; nothing was changed.\n"


def test_help_tells_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["identify", "resume", "--help"])
    assert "69 if MASTER does not answer" in " ".join(capsys.readouterr().out.split())
