# SPDX-License-Identifier: Apache-2.0
"""Which hosts are lost how, from a seed."""

import random
from collections import Counter

from tests.chaos.losses import FAULTS, drawn


def test_every_kind_of_fault_has_its_turn_before_one_comes_again() -> None:
    found = drawn(random.Random(3), 2 * len(FAULTS) + 1)
    assert set(found[: len(FAULTS)]) == set(FAULTS)
    assert sorted(Counter(found).values()) == [2] * (len(FAULTS) - 1) + [3]


def test_same_seed_draws_the_same_faults() -> None:
    assert drawn(random.Random(3), 20) == drawn(random.Random(3), 20)
    assert drawn(random.Random(3), 20) != drawn(random.Random(4), 20)
