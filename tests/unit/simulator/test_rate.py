# SPDX-License-Identifier: Apache-2.0
"""The program that measures the simulator's top rate: that it measures, not how much."""

from __future__ import annotations

import os

import pytest

from tests.bench.simulator_rate import Row, measure, table


@pytest.mark.parametrize("scheme", [None, "zstd-stream"])
def test_rate_is_measured(scheme: str | None) -> None:
    row = measure(scheme, 2, 2.0, min(os.sched_getaffinity(0)))
    assert (row.scheme, row.connections) == (scheme or "none", 2)
    assert row.per_second > 1000
    assert row.per_cpu_second > 1000


def test_table_has_a_line_for_each_row() -> None:
    row = Row(scheme="none", connections=8, per_second=12_345.6, per_cpu_second=7.0, megabytes=1.25)
    lines = table([row, row]).splitlines()
    assert len(lines) == 4
    assert lines[2] == "| none | 8 | 12,346 | 7 | 1.2 |"
