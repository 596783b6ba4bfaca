# SPDX-License-Identifier: Apache-2.0
"""What the golden files cannot show: colour, cropping, hostile text, the switch for everything."""

import io

import msgspec
from rich.console import Console

from discluster.console import FleetStatus, IdentifyStatus, PlanDiff, Trouble
from discluster.ctl import changes, render
from discluster.ctl.screen import Cropped, Screen
from discluster.messages import Rejected
from tests.unit.ctl import fleets
from tests.unit.ctl.terminal import on_terminal, plain


def shown(status: FleetStatus, *, everything: bool = False) -> str:
    return plain(render.fleet(status, width=80, everything=everything), width=80)


def test_output_that_is_no_terminal_has_neither_escapes_nor_trailing_blanks() -> None:
    text = shown(fleets.failed_cluster())
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert text.endswith("\n")


def test_every_shard_is_listed_only_on_demand_when_there_are_many() -> None:
    few, all_of_them = shown(fleets.many_shards()), shown(fleets.many_shards(), everything=True)
    assert "297 shards ready, latency 41ms (median), 44ms (highest); --shards lists them" in few
    assert "297 shards ready, " not in all_of_them
    assert all_of_them.count("metal-1  ready") == 297
    assert few.count("metal-1  ready") == 0


def test_many_clusters_are_listed_only_where_something_is_odd() -> None:
    views = [fleets.cluster(n, (fleets.ready(n),)) for n in range(70)]
    views[33] = msgspec.structs.replace(views[33], unit="activating", connected=False)
    text = shown(fleets.fleet(fleets.host("alpha", *views)))
    assert text.count("activating") == 1
    assert "69 clusters well; --shards lists them" in text


def test_cluster_that_runs_but_does_not_report_is_told_apart() -> None:
    view = msgspec.structs.replace(fleets.cluster(0, ()), connected=False)
    assert "alpha  no report" in shown(fleets.fleet(fleets.host("alpha", view)))


def test_hostile_text_reaches_the_terminal_as_text() -> None:
    trouble = Trouble(severity="error", text="[red]x[/red] \x1b[2J\x07", host="al\x1bpha")
    view = msgspec.structs.replace(fleets.cluster(0, ()), handler="\x1b]0;x\x07", detail="\x1b[1m")
    status = msgspec.structs.replace(
        fleets.fleet(fleets.host("b\x1b[31m", view), troubles=(trouble,)), state="a\x1b[2Jb"
    )
    text = plain(render.fleet(status, width=160), width=160)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x[/red]" in text


def test_hostile_text_steers_no_terminal_in_json_either() -> None:
    """JSON escapes the control characters of ASCII only, and not those that turn text round."""
    told = "a\x9b2J\u202eb\x7f\U000e0001é"
    out = io.StringIO()
    screen = Screen(out=out, err=io.StringIO(), width=80, no_color=False)
    message = Rejected(code="x", reason=told)
    screen.json(message)
    screen.json_line(message)
    whole, line = out.getvalue().rsplit("\n", 2)[:2]
    for shown in (whole, line):
        assert all(part.isprintable() for part in shown.split("\n"))
        assert msgspec.json.decode(shown, type=Rejected) == message
    assert "é" in line


def test_terminal_has_colours_for_what_is_wrong() -> None:
    text = on_terminal(render.fleet(fleets.failed_cluster(), width=80))
    assert "\x1b[31mfailed" in text


def test_no_color_takes_the_colours_away() -> None:
    text = on_terminal(render.fleet(fleets.failed_cluster(), width=80), no_color=True)
    assert "failed" in text
    assert "\x1b[31m" not in text


def test_machine_that_is_asked_itself_tells_how_long_its_certificate_lives() -> None:
    told = "valid for 20 d, renewed in 10 d"
    status = msgspec.structs.replace(fleets.local(), certificate=told)
    assert told in plain(render.host(status, width=80), width=80)
    assert "Certificate" not in plain(render.host(fleets.local(), width=80), width=80)


def test_problem_names_its_place_once() -> None:
    troubles = (
        Trouble(severity="error", text="crash loop", host="beta", cluster=3),
        Trouble(severity="error", text="cluster 4 is lost", host="beta", cluster=4),
        Trouble(severity="error", text="gamma said no", host="gamma"),
    )
    text = shown(fleets.fleet(*fleets.three_hosts(), troubles=troubles))
    assert "error  beta: cluster 3: crash loop\n" in text
    assert "error  beta: cluster 4 is lost\n" in text
    assert "error  gamma said no\n" in text


def test_shard_that_two_clusters_report_mid_move_has_its_guilds_counted_once() -> None:
    old, new = fleets.cluster(0, (fleets.ready(0),)), fleets.cluster(1, (fleets.ready(0),))
    text = shown(fleets.fleet(fleets.host("alpha", old), fleets.host("beta", new)))
    assert " 990 guilds\n" in text


def test_masters_sentence_is_shown_unless_it_is_about_the_shards_too() -> None:
    waiting = msgspec.structs.replace(fleets.healthy(), state="waits 20s for beta to come back")
    assert shown(waiting).splitlines()[1] == "waits 20s for beta to come back"
    assert shown(fleets.healthy()).splitlines()[1] == ""


def test_reason_for_stopped_identifies_is_told_once() -> None:
    blocked = IdentifyStatus(blocked="the daily budget is spent")
    status = msgspec.structs.replace(fleets.healthy(), identify=blocked)
    assert "Identify  stopped: the daily budget is spent\n" in shown(status)
    told = Trouble(severity="warning", text="identifies wait: the daily budget is spent")
    status = msgspec.structs.replace(status, troubles=(told,))
    assert shown(status).count("the daily budget is spent") == 1


def test_hosts_without_a_host_say_so() -> None:
    text = plain(render.hosts(fleets.no_hosts(), width=80), width=80)
    assert text == "No host has joined the fleet yet.\n"


def test_diff_without_changes_says_that_nothing_would_change() -> None:
    text = plain(changes.diff(PlanDiff(generation=3, summary=""), width=80), width=80)
    assert text.splitlines()[0] == "Nothing would change."
    other = PlanDiff(generation=3, summary="the settings are those in force")
    assert plain(changes.diff(other, width=80), width=80).splitlines()[:2] == [
        "Nothing would change.",
        "the settings are those in force",
    ]


def test_view_higher_than_the_terminal_is_cut_with_a_count() -> None:
    console = Console(file=io.StringIO(), width=60, height=5)
    lines = "\n".join(f"line {n}" for n in range(12))
    with console.capture() as capture:
        console.print(Cropped(lines))
    shown_lines = capture.get().splitlines()
    assert shown_lines[:4] == ["line 0", "line 1", "line 2", "line 3"]
    assert shown_lines[4].startswith("8 more lines")
    assert len(shown_lines) == 5


def test_view_that_fits_is_not_cut() -> None:
    console = Console(file=io.StringIO(), width=60, height=5)
    with console.capture() as capture:
        console.print(Cropped("a\nb\nc\nd\ne"))
    assert capture.get().splitlines() == ["a", "b", "c", "d", "e"]
