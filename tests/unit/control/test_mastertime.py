# SPDX-License-Identifier: Apache-2.0
"""What is known of MASTER's clock, from exchanges of which either end may stand still."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.control.mastertime import TRUST, MasterTime

DELAYS = st.floats(0, 20)


def exchange(there: float, back: float, *, ahead: float, at: float = 0.0) -> dict[str, float]:
    """``ahead``: of MASTER's clock; the two ways take ``there`` and ``back``."""
    return {"asked": at, "told": at + there + ahead, "heard": at + there + back}


def test_ways_that_take_the_same_tell_the_time_exactly() -> None:
    time = MasterTime(**exchange(0.02, 0.02, ahead=1000))
    assert time.not_before(1500) == pytest.approx(500)
    assert time.there(500) == pytest.approx(1500)
    assert time.surely_before(1500) == pytest.approx(500 - 0.02)


def test_the_quickest_of_the_newest_exchanges_counts() -> None:
    time = MasterTime(**exchange(0.001, 0.001, ahead=1000))
    time.learn(**exchange(3.0, 0.1, ahead=1000))
    assert time.not_before(1500) == pytest.approx(500)
    for n in range(8):
        time.learn(**exchange(0.02, 0.02, ahead=1000.05, at=n))
    assert time.not_before(1500.05) == pytest.approx(500), "the clocks have drifted since"


@given(st.lists(st.tuples(DELAYS, DELAYS), min_size=1, max_size=8), st.floats(-1e5, 1e5))
def test_no_standstill_makes_a_permit_last_longer_or_begin_earlier_than_is_trusted(
    ways: list[tuple[float, float]], ahead: float
) -> None:
    first, *others = ways
    time = MasterTime(**exchange(*first, ahead=ahead))
    for there, back in others:
        time.learn(**exchange(there, back, ahead=ahead))
    true = 50.0
    at_master = true + ahead
    assert time.surely_before(at_master) <= true + 1e-6
    assert time.not_before(at_master) >= true - TRUST - 1e-6
    assert time.there(true) >= at_master - TRUST - 1e-6
