# SPDX-License-Identifier: Apache-2.0
"""Whoever fails again and again is slowed down, in a memory that does not grow."""

import pytest

from discluster.master.access.throttle import FORGOTTEN_AFTER, FREE, KEPT, LONGEST, Throttle, source


def test_first_failures_cost_nothing_then_the_pause_doubles_to_its_bound() -> None:
    throttle, now, pauses = Throttle(), 0.0, []
    for _ in range(FREE + 9):
        throttle.failed("a", now)
        pauses.append(throttle.pause("a", now))
        now += pauses[-1]
        assert throttle.pause("a", now) == 0, "it is over when it said"
    assert pauses[:FREE] == [0.0] * FREE
    assert pauses[FREE:] == [1, 2, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST]


def test_others_do_not_wait_for_it() -> None:
    throttle = Throttle()
    for _ in range(FREE + 3):
        throttle.failed("a", 0.0)
    assert throttle.pause("a", 0.0) > 0
    assert throttle.pause("b", 0.0) == 0


def test_failures_of_long_ago_are_forgotten() -> None:
    throttle = Throttle()
    for _ in range(FREE + 3):
        throttle.failed("a", 0.0)
    assert throttle.failed("a", FORGOTTEN_AFTER + 1) == 1


def test_memory_is_bounded_and_the_quietest_goes_first() -> None:
    throttle = Throttle()
    for _ in range(FREE + 3):
        throttle.failed("busy", 0.0)
    for number in range(3 * KEPT):
        throttle.failed(f"{number}", 0.0)
        if number % 100 == 0:
            throttle.failed("busy", 0.0)
    assert len(throttle) == KEPT
    assert throttle.pause("busy", 0.0) > 0


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, ""),
    ],
)
def test_one_machine_counts_as_one(address: str | None, counts_as: str) -> None:
    assert source(address) == counts_as
