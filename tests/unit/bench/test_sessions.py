# SPDX-License-Identifier: Apache-2.0
"""The measurement of the session file's cost runs, and says what it measured."""

from pathlib import Path

import pytest

from tests.bench.sessions import Row, conclusion, main, table


def test_it_runs_and_writes_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--output", str(tmp_path / "sessions.md")]) == 0
    text = (tmp_path / "sessions.md").read_text()
    assert "| `SessionSlot.advance` |" in text
    assert "| intake, session file |" in text
    assert "the session file adds" in text
    assert capsys.readouterr().out.strip() in text


def test_ratios_are_to_the_session_files_store() -> None:
    rows = [
        Row("`SessionSlot.advance`", 10, 50.0, 40.0, 60.0),
        Row("intake, sessions kept nowhere", 10, 400.0, 390.0, 420.0),
        Row("intake, session file", 10, 475.0, 460.0, 480.0),
    ]
    assert "| intake, session file | 475 | 460–480 | 9.5 | 10 |" in table(rows)
    assert "adds 75 ns to an event's 400 ns" in conclusion(rows)
