# SPDX-License-Identifier: Apache-2.0
"""discluster-control as a process."""

import asyncio
from pathlib import Path

import pytest

from discluster.control.main import main
from tests.unit.control.masters import SmallMaster
from tests.unit.processes import Ended, run, started

PROGRAM = "discluster.control.main"


def settings(directory: Path, extra: str = "supervisor: embedded\n") -> Path:
    path = directory / "control.yaml"
    path.write_text(
        "host: alpha\n"
        f"state_directory: {directory / 'state'}\n"
        f"runtime_directory: {directory / 'run'}\n{extra}"
    )
    return path


def assert_told(ended: Ended, status: int, *told: str) -> None:
    assert ended.status == status, ended.error
    assert "error: " in ended.error
    assert "Traceback" not in ended.error
    for words in told:
        assert words in ended.error


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("hots: alpha\n", "control.yaml:4: hots: "),
        ("supervisor: upstart\n", "control.yaml:4: supervisor: "),
        ("connect_timeout: 0\n", "control.yaml:4: connect_timeout: "),
        ("master: http://m:8443\n", "control.yaml:4: master: "),
        ("host: beta\n", "control.yaml:4: "),
        ("log_level: {\n", "control.yaml:"),
    ],
)
def test_bad_settings_name_the_place(
    tmp_path: Path, extra: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--config", str(settings(tmp_path, extra))])
    assert_told(Ended(status, capsys.readouterr().err, ""), 78, told)


async def test_missing_settings_are_told(tmp_path: Path) -> None:
    ended = await run(PROGRAM, "--config", tmp_path / "none.yaml")
    assert_told(ended, 78, "none.yaml: the settings file does not exist", "--config")


async def test_machine_without_systemd_is_told_of_the_other_supervisor(tmp_path: Path) -> None:
    ended = await run(
        PROGRAM,
        *("--config", settings(tmp_path, "supervisor: systemd\n")),
        environment={"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path / 'none'}"},
    )
    assert_told(ended, 69, "the system bus cannot be reached", "supervisor: embedded")


async def test_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    ended = await run(PROGRAM, "--config", settings(tmp_path))
    assert_told(ended, 69, "control.sock: the socket cannot be made")


async def test_control_that_did_not_join_waits_says_how_and_stops_when_told(
    tmp_path: Path,
) -> None:
    async with started(PROGRAM, "--config", settings(tmp_path)) as process:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while b"disclusterctl token create --host alpha" not in (
                line := await process.stderr.readline()
            ):
                assert line, "it ended"
            process.terminate()
            _, error = await process.communicate()
    assert process.returncode == 0, error
    assert b"Traceback" not in error
    assert not (tmp_path / "run" / "control.sock").exists()


async def join(directory: Path, master: SmallMaster, *, url: str = "", host: str = "") -> Ended:
    return await run(
        PROGRAM,
        *("--config", settings(directory), "join", url or master.url),
        *("--token", "the-token", "--ca-fingerprint", master.authority.fingerprint),
        *(("--host", host) if host else ()),
    )


async def test_machine_joins_and_is_told_what_is_next(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    async with master.serve():
        ended = await join(tmp_path, master, host="beta")
    assert ended.status == 0, ended.error
    assert f"beta joined the fleet of {master.url}" in ended.output
    assert "systemctl start discluster-control" in ended.output
    assert (tmp_path / "state" / "control" / "identity" / "host.pem").exists()


@pytest.mark.parametrize("way", ["-", "file"])
async def test_token_need_not_stand_in_the_list_of_processes(tmp_path: Path, way: str) -> None:
    master = SmallMaster(tmp_path / "master")
    (tmp_path / "token").write_text("the-token\n")
    given = ("--token", "-") if way == "-" else ("--token-file", tmp_path / "token")
    async with master.serve():
        ended = await run(
            PROGRAM,
            *("--config", settings(tmp_path), "join", master.url, *given),
            *("--ca-fingerprint", master.authority.fingerprint),
            standard_input=(tmp_path / "token").read_bytes(),
        )
    assert ended.status == 0, ended.error
    assert [asked.token for asked in master.joined] == ["the-token"]


async def test_token_that_is_not_there_is_told(tmp_path: Path) -> None:
    ended = await run(
        PROGRAM,
        *("--config", settings(tmp_path), "join", "https://127.0.0.1:1"),
        *("--token-file", tmp_path / "none", "--ca-fingerprint", "sha256:00"),
    )
    assert_told(ended, 78, "none: there is no join token", "disclusterctl token create")


async def test_token_never_goes_over_plain_http(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    ended = await join(tmp_path, master, url="http://127.0.0.1:1")
    assert_told(ended, 78, "https://HOST:PORT")


async def test_name_that_is_no_host_name_is_told(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    ended = await join(tmp_path, master, url="https://127.0.0.1:1", host="Not A Host")
    assert_told(ended, 78, "host name")


async def test_absent_master_is_told_when_joining(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    async with master.serve():
        pass
    assert_told(await join(tmp_path, master), 69, "MASTER cannot be reached at")


async def test_damaged_certificate_is_told(tmp_path: Path) -> None:
    identity = tmp_path / "state" / "control" / "identity"
    identity.mkdir(parents=True)
    (identity / "host.pem").write_text("damaged")
    ended = await run(PROGRAM, "--config", settings(tmp_path))
    assert_told(ended, 74, "host.pem: not this host's certificate")
