# SPDX-License-Identifier: Apache-2.0
"""Parts of the tests side by side."""

import asyncio
from pathlib import Path

import pytest

from tests.streams import run_streams
from tests.waiting import wait_for

MEETS = """
import time
from pathlib import Path

def test_meets_the_other():
    Path({own!r}).touch()
    deadline = time.monotonic() + 30
    while not Path({other!r}).exists():
        assert time.monotonic() < deadline, "the other part does not run beside this one"
        time.sleep(0.01)
"""


def part(directory: Path, name: str, text: str) -> str:
    path = directory / f"test_{name}.py"
    path.write_text(text)
    return str(path)


async def test_streams_run_side_by_side(tmp_path: Path) -> None:
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    streams = [
        [part(tmp_path, "a", MEETS.format(own=one, other=other))],
        [part(tmp_path, "b", MEETS.format(own=other, other=one))],
    ]
    assert await run_streams(streams)


async def test_failure_is_shown_and_nothing_further_begins(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fails = part(tmp_path, "fails", "def test_it():\n    assert not 'the reason'\n")
    further = part(tmp_path, "further", "def test_it():\n    pass\n")
    assert not await run_streams([[fails, further]])
    said = capfd.readouterr().out
    assert "assert not 'the reason'" in said
    assert f"{fails}: FAILED after" in said
    assert f"{further}: not run, since {fails} failed" in said


async def test_interrupted_parts_end_what_they_started(tmp_path: Path) -> None:
    began, ended = tmp_path / "began", tmp_path / "ended"
    text = f"""
import time
from pathlib import Path

def test_takes_long():
    Path({str(began)!r}).touch()
    try:
        time.sleep(60)
    finally:
        Path({str(ended)!r}).touch()
"""
    running = asyncio.create_task(run_streams([[part(tmp_path, "long", text)]]))
    await wait_for(began.exists, 30)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.exists()
