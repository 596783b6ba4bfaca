# SPDX-License-Identifier: Apache-2.0
"""A row that breaks its promise says so, in the table and in the exit status."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.__main__ import main
from tests.chaos.report import document, line
from tests.chaos.rows import CRASH, NOTHING, ORDERLY, Promise, Results, Row, save
from tests.chaos.schedule import MOST, WITHIN, strikes


def row(promise: Promise = CRASH, **changes: object) -> Row:
    fields: dict[str, object] = {
        "subject": "Discluster",
        "what": "a cluster: SIGKILL",
        "times": 3,
        "shards": 8,
        "sent": 1234,
        "lost": 0,
        "doubled": 0,
        "unasked": 0,
        "identifies": 0,
        "resumes": 6,
        "twice": 0,
        "gaps": (1.25, 1.5, 4.0),
        "verdicts": (),
        "seconds": 12.0,
        "promise": promise,
    }
    return Row(**{**fields, **changes})  # type: ignore[arg-type]


def results(*rows: Row) -> Results:
    return Results(
        rows=rows, seed=5, short=False, rate=100.0, date="today", commit="c0ffee", machine="m"
    )


@pytest.mark.parametrize(
    ("promise", "changes"),
    [
        (CRASH, {"lost": 1}),
        (CRASH, {"identifies": 1}),
        (CRASH, {"twice": 1}),
        (CRASH, {"doubled": 2, "unasked": 1}),
        (CRASH, {"verdicts": ("O-13: reordered",)}),
        (CRASH, {"times": 0}),
        (CRASH, {"sent": 0}),
        (ORDERLY, {"doubled": 1}),
    ],
)
def test_broken_promise_is_told_and_fails_the_command(
    promise: Promise, changes: dict[str, object], tmp_path: Path
) -> None:
    broken = row(promise, **changes)
    assert len(broken.broken) == 1
    assert "BROKEN" in line(broken)
    save(results(row(), broken), tmp_path / "raw.json")
    asked = ["--report", str(tmp_path / "raw.json"), "--output", str(tmp_path)]
    assert main(asked) == 1
    text = (tmp_path / "chaos.md").read_text()
    assert "## Broken promises" in text
    assert broken.broken[0] in text


def test_events_twice_after_a_crash_are_as_promised_where_a_resume_asked(tmp_path: Path) -> None:
    kept = row(doubled=7)
    assert kept.broken == []
    save(results(kept), tmp_path / "raw.json")
    asked = ["--report", str(tmp_path / "raw.json"), "--output", str(tmp_path)]
    assert main(asked) == 0


def test_who_promises_nothing_is_measured_and_not_judged() -> None:
    other = row(NOTHING, lost=100, doubled=5, unasked=5, identifies=9, twice=1)
    assert other.broken == []
    assert "Broken" not in document(results(other))


def test_table_shows_the_figures() -> None:
    text = document(results(row(doubled=2)))
    expected = "| 3 | 1,234 | 0 | 2 | 0 | 0 | 6 | 0 | 3 | 1.50 s | 4.00 s | yes |"
    assert f"| a cluster: SIGKILL {expected}" in text


@pytest.mark.parametrize("seed", range(5))
def test_schedule_strikes_as_often_as_asked_and_makes_no_crash_loop(seed: int) -> None:
    planned = strikes(random.Random(seed), range(16), count=300, pause=0.9)
    assert len(planned) == 300
    assert planned == sorted(planned)
    assert planned == strikes(random.Random(seed), range(16), count=300, pause=0.9)
    for strike in planned:
        near = [s.cluster for s in planned if strike.at <= s.at < strike.at + WITHIN]
        assert max(Counter(near).values()) <= MOST


def test_schedule_hits_some_clusters_while_they_come_back() -> None:
    planned = strikes(random.Random(1), range(16), count=300, pause=0.9)
    soon = [
        (one, other)
        for one in planned
        for other in planned
        if one.cluster == other.cluster and 0 < other.at - one.at < 2.5
    ]
    assert len(soon) >= 30
