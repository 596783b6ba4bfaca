# SPDX-License-Identifier: Apache-2.0
"""Delays between attempts."""

import random
from collections.abc import Callable

import pytest

from discluster.gateway.backoff import (
    AT_ONCE,
    DIAL_CAP,
    IDENTIFY_CAP,
    RESUME_CAP,
    Delay,
    before_dial,
    before_identify,
    before_resume,
)


@pytest.mark.parametrize(
    ("delay", "cap"),
    [(before_resume, RESUME_CAP), (before_dial, DIAL_CAP), (before_identify, IDENTIFY_CAP)],
)
def test_delays_grow_up_to_their_cap(delay: Callable[[int], Delay], cap: float) -> None:
    highs = [delay(n).high for n in range(60)]
    assert highs == sorted(highs)
    assert highs[-1] == cap
    assert all(0 <= delay(n).low < delay(n).high for n in range(2000))


def test_first_resume_is_immediate() -> None:
    assert before_resume(0) == AT_ONCE


@pytest.mark.covers("O-08")
@pytest.mark.parametrize("delay", [before_resume, before_dial])
def test_o08_at_most_ten_dials_a_minute(delay: Callable[[int], Delay]) -> None:
    dials, passed = 0, 0.0
    while passed <= 60.0:
        passed += delay(dials).low
        dials += 1
    assert dials <= 10


@pytest.mark.covers("T-06")
def test_t06_identify_that_fails_for_ever_is_cheap() -> None:
    rng = random.Random(5)
    identifies, passed = 0, 0.0
    while passed < 86_400:
        passed += before_identify(identifies).draw(rng)
        identifies += 1
    assert identifies < 210


def test_draw_is_spread_over_the_bounds() -> None:
    rng = random.Random(2)
    drawn = [Delay(2.0, 4.0).draw(rng) for _ in range(200)]
    assert 2.0 <= min(drawn) < 2.1
    assert 3.9 < max(drawn) <= 4.0


@pytest.mark.covers("T-57", "F26")
@pytest.mark.parametrize("delay", [before_resume(0), before_resume(3), before_dial(3)])
def test_thousand_shards_that_lose_their_connection_at_once_do_not_dial_in_step(
    delay: Delay,
) -> None:
    times = [delay.draw(random.Random(shard)) for shard in range(1000)]
    width = (delay.high - delay.low) / 20
    for step in range(20):
        inside = [t for t in times if step * width <= t - delay.low < (step + 1) * width]
        assert 25 <= len(inside) <= 85
