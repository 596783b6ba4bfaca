# SPDX-License-Identifier: Apache-2.0
"""disclusterctl as its user meets it: what is printed where, and the exit status."""

import json
from pathlib import Path

import msgspec
import pytest

from discluster import __version__
from discluster.console import Failure, FleetStatus, HostStatus, JoinToken
from discluster.ctl.main import bug_report, build_parser
from discluster.messages import Message
from tests.unit.ctl import fleets, servers
from tests.unit.ctl.desks import Ctl

TOKEN = JoinToken(
    command="discluster-control join https://m:7443 --token T --ca-fingerprint sha256:00",
    token="T",
    ca_fingerprint="sha256:00",
    host=None,
    expires_in=3600.0,
)


# --- status --------------------------------------------------------------------------------------


async def test_status_of_a_healthy_fleet_ends_with_0(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/status": servers.says(fleets.healthy())}):
        status, out, err = await ctl("status")
    assert (status, err) == (0, "")
    assert out.startswith("24 of 24 shards ready\n")


async def test_status_of_an_ill_fleet_ends_with_3_and_begins_with_what_is_wrong(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/status": servers.says(fleets.failed_cluster())}):
        status, out, err = await ctl("status")
    assert (status, err) == (3, "")
    assert out.index("cluster 3 failed") < out.index("Hosts")


@pytest.mark.parametrize(("fleet", "expected"), [(fleets.healthy(), 0), (fleets.silent_host(), 3)])
async def test_status_as_json_is_the_whole_snapshot(
    fleet: FleetStatus, expected: int, ctl: Ctl
) -> None:
    async with servers.master(ctl.master, {"/v1/status": servers.says(fleet)}):
        status, out, err = await ctl("status", "--json")
    assert (status, err) == (expected, "")
    assert msgspec.json.decode(out, type=FleetStatus) == fleet
    keys = list(json.loads(out))
    assert keys[0] == "type"
    assert keys[1:] == list(FleetStatus.__struct_fields__)
    assert out.startswith('{\n  "type": "fleet_status",\n')


async def test_without_master_status_shows_this_machine_and_ends_with_3(ctl: Ctl) -> None:
    answer = msgspec.json.encode(fleets.local()) + b"\n"
    async with servers.control(ctl.control, answer):
        status, out, err = await ctl("status")
    assert (status, err) == (3, "")
    first = " ".join(out.split("\n\n")[0].split())
    assert first.replace(" ", "") == (
        f"MASTER is not running here: {ctl.master} does not exist;"
        " this is what CONTROL on alpha knows"
    ).replace(" ", "")
    assert "alpha: 8 of 8 shards ready" in out


async def test_without_master_json_is_the_machine_and_the_reason_is_beside_it(ctl: Ctl) -> None:
    answer = msgspec.json.encode(fleets.local()) + b"\n"
    async with servers.control(ctl.control, answer):
        status, out, err = await ctl("status", "--json")
    assert status == 3
    assert msgspec.json.decode(out, type=HostStatus) == fleets.local()
    assert err.startswith("MASTER is not running here")


async def test_without_master_and_control_status_ends_with_69_and_a_hint(ctl: Ctl) -> None:
    status, out, err = await ctl("status")
    assert (status, out) == (69, "")
    assert err == (
        f"error: MASTER is not running here: {ctl.master} does not exist; CONTROL is not running"
        f" here: {ctl.control} does not exist (systemctl status discluster-master;"
        " run disclusterctl on MASTER's machine, or log in to it: disclusterctl login --help)\n"
    )


async def test_master_that_refuses_is_not_taken_for_one_that_is_away(ctl: Ctl) -> None:
    failure = Failure(code="refused", message="only operators may ask")
    answer = msgspec.json.encode(fleets.local()) + b"\n"
    async with (
        servers.master(ctl.master, {"/v1/status": servers.says(failure, status=403)}),
        servers.control(ctl.control, answer) as asked,
    ):
        assert await ctl("status") == (77, "", "error: only operators may ask\n")
    assert asked.seen == []


async def test_shards_switch_lists_every_shard(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/status": servers.says(fleets.many_shards())}):
        _, few, _ = await ctl("status")
        _, every, _ = await ctl("status", "--shards")
    assert few.count("\n") < 60
    assert every.count("\n") > 300


# --- the other commands --------------------------------------------------------------------------


async def test_hosts_prints_a_line_for_each_host(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/status": servers.says(fleets.failed_cluster())}):
        status, out, err = await ctl("hosts")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["HOST", "alpha", "beta", "gamma"]


async def test_plan_show_prints_masters_text_and_nothing_else(ctl: Ctl) -> None:
    fleet, host = "generation: 42\nhosts: {}\n", "generation: 42\nhost: alpha\n"
    routes = {"/v1/plan": servers.says(fleet), "/v1/plan/alpha": servers.says(host)}
    async with servers.master(ctl.master, routes):
        assert await ctl("plan", "show") == (0, fleet, "")
        assert await ctl("plan", "show", "alpha") == (0, host, "")


async def test_plan_show_of_an_unknown_host_tells_masters_reason(ctl: Ctl) -> None:
    failure = Failure(code="unknown_host", message="no host delta", hint="see disclusterctl hosts")
    async with servers.master(ctl.master, {"/v1/plan/delta": servers.says(failure, status=404)}):
        outcome = await ctl("plan", "show", "delta")
    assert outcome == (1, "", "error: no host delta (see disclusterctl hosts)\n")


@pytest.mark.parametrize(
    ("diff", "words"),
    [(fleets.nothing_to_do(), "Nothing would change"), (fleets.some_changes(), "8-11 ")],
)
async def test_plan_diff_ends_with_0_whatever_it_finds(diff: Message, words: str, ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/diff": servers.says(diff)}):
        status, out, err = await ctl("plan", "diff")
    assert (status, err) == (0, "")
    assert words in out


async def test_token_create_prints_only_the_command_on_stdout(ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/tokens": servers.says(TOKEN)}) as asked:
        status, out, err = await ctl("token", "create")
    assert (status, out) == (0, TOKEN.command + "\n")
    assert "as root" in err
    assert "within the next 1h" in err
    assert asked.seen == ['POST /v1/tokens {"type":"token_request","host":null,"ttl":3600.0}']


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("90", 90), ("90s", 90), ("30min", 1800), ("30m", 1800), ("2d", 172_800)]
)
async def test_token_time_is_sent_in_seconds(ttl: str, seconds: int, ctl: Ctl) -> None:
    async with servers.master(ctl.master, {"/v1/tokens": servers.says(TOKEN)}) as asked:
        await ctl("token", "create", "--host", "alpha", "--ttl", ttl)
    assert asked.seen[0].endswith(f'"host":"alpha","ttl":{seconds}.0}}')


@pytest.mark.parametrize(
    "argv", [("hosts",), ("plan", "show"), ("plan", "diff"), ("token", "create")]
)
async def test_commands_that_need_master_end_with_69_without_it(
    argv: tuple[str, ...], ctl: Ctl
) -> None:
    status, out, err = await ctl(*argv)
    assert (status, out) == (69, "")
    assert err.startswith("error: MASTER is not running here")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("configuration", 78),
        ("credential", 78),
        ("unavailable", 69),
        ("refused", 77),
        ("protocol", 76),
        ("state", 74),
        ("discord", 70),
        ("anything", 1),
    ],
)
async def test_exit_status_is_that_of_the_error_class(code: str, status: int, ctl: Ctl) -> None:
    failure = Failure(code=code, message="it broke", hint="mend it")
    async with servers.master(ctl.master, {"/v1/diff": servers.says(failure, status=500)}):
        assert await ctl("plan", "diff") == (status, "", "error: it broke (mend it)\n")


async def test_errors_cannot_steer_the_terminal(ctl: Ctl) -> None:
    failure = Failure(code="state", message="a\x1b[2Jb")
    async with servers.master(ctl.master, {"/v1/plan": servers.says(failure, status=500)}):
        _, _, err = await ctl("plan", "show")
    assert err == "error: a?[2Jb\n"


# --- the command line ----------------------------------------------------------------------------


async def test_sockets_can_be_named_before_and_after_the_command(ctl: Ctl, tmp_path: Path) -> None:
    other = tmp_path / "other.sock"
    async with servers.master(other, {"/v1/status": servers.says(fleets.healthy())}):
        assert (await ctl("--socket", str(other), "hosts")).status == 0
        assert (await ctl("hosts", "--socket", str(other))).status == 0
    answer = msgspec.json.encode(fleets.local()) + b"\n"
    async with servers.control(other, answer):
        assert (await ctl("--control-socket", str(other), "status")).status == 3


async def test_version_goes_to_stdout(ctl: Ctl) -> None:
    assert await ctl("--version") == (0, f"disclusterctl {__version__}\n", "")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ((), "COMMAND"),
        (("stauts",), "invalid choice"),
        (("token", "create", "--ttl", "soon"), "'soon' is no time such as"),
        (("token", "create", "--ttl", "0h"), "'0h' is no time such as"),
        (("token", "create", "--host", "Alpha"), "must be a host name in lower case"),
        (("plan", "show", "../status"), "must be a host name"),
        (("status", "--watch", "0"), "'0' is not a number of seconds"),
        (("status", "--watch", "nan"), "'nan' is not a number of seconds"),
    ],
)
async def test_misuse_ends_with_2_and_says_what_is_wrong(
    argv: tuple[str, ...], complaint: str, ctl: Ctl
) -> None:
    status, out, err = await ctl(*argv)
    assert (status, out) == (2, "")
    assert complaint in err


async def test_help_of_status_documents_its_exit_status(ctl: Ctl) -> None:
    status, out, _ = await ctl("status", "--help")
    assert status == 0
    assert "3 if there is an error or a warning" in " ".join(out.split())


def test_bug_is_told_with_its_place_instead_of_a_traceback() -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    text = bug_report(caught.value)
    assert text.startswith("ValueError at test_main.py:")
    assert "please report it" in text


def test_parser_is_complete_without_a_terminal() -> None:
    options = build_parser().parse_args(["status"])
    assert (options.socket, options.control_socket, options.no_color) == (None, None, False)
