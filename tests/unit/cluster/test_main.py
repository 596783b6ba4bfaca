# SPDX-License-Identifier: Apache-2.0
"""discluster-cluster as a process."""

import asyncio
from pathlib import Path

import pytest

from discluster.cluster.main import main
from tests.unit.processes import Ended, run, started

PROGRAM = "discluster.cluster.main"
TOKEN = "MTk4NjIyNDgz.Cl2FMQ.a-token-that-must-not-be-printed"


def settings(directory: Path, extra: str = "") -> Path:
    path = directory / "cluster.yaml"
    path.write_text(
        f"state_directory: {directory / 'state'}\nruntime_directory: {directory}\n{extra}"
    )
    return path


def credentials(directory: Path, token: str = TOKEN) -> dict[str, str]:
    (directory / "discluster.token").write_text(token)
    return {"CREDENTIALS_DIRECTORY": str(directory)}


def assert_told(ended: Ended, status: int, *told: str) -> None:
    assert ended.status == status, ended.error
    assert ended.error.startswith("error: ")
    assert "Traceback" not in ended.error
    assert TOKEN not in ended.error
    for words in told:
        assert words in ended.error


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("handlr: a:b\n", "cluster.yaml:3: handlr: "),
        ("stall_limit: soon\n", "cluster.yaml:3: stall_limit: "),
        ("stall_limit: 0\n", "cluster.yaml:3: stall_limit: "),
        ("handler: a:b:c\n", "cluster.yaml:3: handler: "),
        ("stall_limit: 5\nstall_limit: 6\n", "cluster.yaml:4: "),
        ("virtual_environment: srv/venv\n", "cluster.yaml:3: virtual_environment: "),
        ("on_handler_error: ignore\n", "cluster.yaml:3: on_handler_error: "),
        ("intents: [GUILDS, NONSENSE]\n", "cluster.yaml:3: intents"),
        ("handler: [\n", "cluster.yaml:"),
    ],
)
def test_bad_settings_name_the_place(
    tmp_path: Path, extra: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--config", str(settings(tmp_path, extra)), "3"])
    assert_told(Ended(status, capsys.readouterr().err, ""), 78, told)


async def test_missing_settings_are_told(tmp_path: Path) -> None:
    ended = await run(PROGRAM, "--config", tmp_path / "none.yaml", "3")
    assert_told(ended, 78, "none.yaml: the settings file does not exist", "--config")


async def test_missing_token_is_told_with_the_place_to_put_it(tmp_path: Path) -> None:
    ended = await run(PROGRAM, "--config", settings(tmp_path), "3")
    assert_told(ended, 78, "no bot token", "/etc/credstore/discluster.token")


async def test_token_that_cannot_be_one_is_told_but_not_shown(tmp_path: Path) -> None:
    ended = await run(
        PROGRAM,
        *("--config", settings(tmp_path), "3"),
        environment=credentials(tmp_path, f"{TOKEN} {TOKEN}"),
    )
    assert_told(ended, 78, "this cannot be a bot token")


async def test_handler_that_cannot_be_imported_is_a_setting_to_mend(tmp_path: Path) -> None:
    ended = await run(
        PROGRAM,
        *("--config", settings(tmp_path, "handler: not_there:Handler\n"), "3"),
        environment=credentials(tmp_path),
    )
    assert_told(ended, 78, "handler not_there:Handler: No module named 'not_there'")


async def test_state_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    ended = await run(
        PROGRAM, "--config", settings(tmp_path), "3", environment=credentials(tmp_path)
    )
    assert_told(ended, 74, "sessions: the session file cannot be opened")


async def test_cluster_without_control_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    async with started(
        PROGRAM, "--config", settings(tmp_path), "3", environment=credentials(tmp_path)
    ) as process:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while b"no assignment yet" not in await process.stderr.readline():
                pass
            process.terminate()
            _, error = await process.communicate()
    assert process.returncode == 0, error
    assert b"Traceback" not in error
    assert (tmp_path / "state" / "clusters" / "3" / "sessions").exists()


@pytest.mark.parametrize("number", ["x", "-1", "1.5"])
async def test_number_that_is_none_is_a_usage_error(tmp_path: Path, number: str) -> None:
    ended = await run(PROGRAM, "--config", settings(tmp_path), number)
    assert ended.status == 2
    assert "usage: discluster-cluster" in ended.error
