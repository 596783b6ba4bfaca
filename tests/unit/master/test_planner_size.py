# SPDX-License-Identifier: Apache-2.0
"""The largest fleet: 1,000 hosts and 65,536 shards are planned within a second of one core."""

from collections.abc import Mapping

import pytest

from tests.bench.planner import Plan, cases, cpu_seconds
from tests.slowness import slowness
from tests.unit.master.targets import homes

WORDS = [words for words, _ in cases(2)]


@pytest.fixture(scope="module")
def largest() -> Mapping[str, Plan]:
    return dict(cases(1000))


@pytest.mark.parametrize("words", WORDS)
def test_the_largest_fleet_is_planned_within_a_second(
    largest: Mapping[str, Plan], words: str
) -> None:
    plan = largest[words]
    taken = cpu_seconds(plan, repeats=2)
    print(f"\n{words}: {taken:.3f} s of CPU time")
    assert sorted(homes(plan().hosts)) == list(range(65_536))
    assert taken < 1 * slowness()
