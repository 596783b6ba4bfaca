# SPDX-License-Identifier: Apache-2.0
"""MASTER's section: its table, and that no other benchmark takes it away."""

import pytest

from discluster.console import Event
from tests.bench.machine import Machine
from tests.bench.master import Sample, fleet_of, noticed, section, table
from tests.bench.master_fleet import Span
from tests.bench.processes import BenchError
from tests.bench.sections import master_section, with_master_section

SPAN = Span(seconds=2.0, cpu=0.5, stall=0.25, pushes=100, bytes=72_000, generations=2)
SAMPLE = Sample(
    fleet=fleet_of(100),
    start=SPAN,
    push=SPAN,
    rest=SPAN,
    join=SPAN,
    lost=SPAN,
    noticed=32.5,
    dials=0,
    rss=80_123,
)
MACHINE = Machine(
    date="2026-01-01",
    commit="abc",
    cpu="a processor",
    cores=2,
    kernel="6",
    python="3.13",
    node="",
    ours={},
    python_peers={},
    node_peers={},
)


def event(at: float, sentence: str) -> Event:
    return Event(number=1, at=at, kind="host", sentence=sentence)


def test_table_has_a_column_for_each_size() -> None:
    lines = table([SAMPLE, SAMPLE]).splitlines()
    assert lines[0] == "| | 100 hosts | 100 hosts |"
    assert "| shards | 6,554 | 6,554 |" in lines
    assert any(line.startswith("| **At rest**") and "| 25.0 |" in line for line in lines)
    assert any("until MASTER says so" in line and "| 32.5 |" in line for line in lines)


def test_lost_hosts_are_noticed_when_the_last_is_told() -> None:
    told = [event(5.0, "a is lost"), event(7.0, "b is lost"), event(9.0, "c connected")]
    assert noticed(told) == 7.0
    with pytest.raises(BenchError):
        noticed([event(9.0, "c connected")])


def test_section_replaces_the_one_before_and_nothing_else() -> None:
    page = "# Page\n\nbefore\n\n<!-- master: begin -->\nold\n<!-- master: end -->\n\nafter\n"
    text = section([SAMPLE], MACHINE)
    fresh = with_master_section(page, text)
    assert fresh.startswith("# Page\n\nbefore\n\n<!-- master: begin -->\n## MASTER at size")
    assert fresh.endswith("<!-- master: end -->\n\nafter\n")
    assert "old" not in fresh
    assert "$" not in text
    assert master_section(fresh) in fresh
    assert with_master_section(fresh, text) == fresh


def test_page_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(BenchError, match="master: begin"):
        with_master_section("# Page\n", "text")
    assert master_section("# Page\n") == "<!-- master: begin -->\n<!-- master: end -->"
