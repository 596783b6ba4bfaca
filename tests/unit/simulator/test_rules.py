# SPDX-License-Identifier: Apache-2.0
"""The small pure rules: guilds, windows, identify lanes, the daily budget."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.simulator.guilds import guild_id, numbers_on_shard, shard_of
from discluster.simulator.identify import DailyBudget, IdentifyRule
from discluster.simulator.limits import SlidingWindow


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(1, 300))
def test_every_guild_is_on_exactly_one_shard(guilds: int, num_shards: int) -> None:
    seen: list[int] = []
    for shard_id in range(num_shards):
        for number in numbers_on_shard(shard_id, num_shards, guilds):
            assert shard_of(guild_id(number), num_shards) == shard_id
            seen.append(number)
    assert sorted(seen) == list(range(guilds))


def test_guild_ids_are_snowflakes_of_their_own() -> None:
    ids = {guild_id(number) for number in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(str(guild)) == 18 for guild in ids)


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 5))
def test_window_never_lets_more_than_the_limit_through(gaps: list[int], limit: int) -> None:
    window, now, passed = SlidingWindow(limit=limit, period=20.0), 0.0, []
    for gap in gaps:
        now += gap
        free_after = window.free_after(now)
        if window.hit(now):
            passed.append(now)
            assert free_after == 0
        else:
            assert free_after > 0
    for index, start in enumerate(passed):
        assert sum(start <= time < start + 20.0 for time in passed[index:]) <= limit


def rule(lost: Callable[[float], float] = lambda _: 0.0, **changes: float | bool) -> IdentifyRule:
    options = {"interval": 5.0, "tolerance": 0.0, "rejection_restarts": True, **changes}
    return IdentifyRule(max_concurrency=4, lost=lost, **options)  # type: ignore[arg-type]


def test_identify_lanes_are_independent() -> None:
    lanes = rule()
    assert [lanes.arrive(shard, 1.0) for shard in range(4)] == [(True, None)] * 4
    assert lanes.arrive(4, 2.0) == (False, 1.0)
    assert lanes.lane(7) == 3


def test_identify_is_not_early_for_what_the_simulator_read_late() -> None:
    asked = []

    def lost(since: float) -> float:
        asked.append(since)
        return 0.8

    lanes = rule(lost)
    assert lanes.arrive(0, 10.0) == (True, None)
    assert lanes.arrive(0, 14.25) == (True, 4.25)
    assert lanes.arrive(0, 18.0) == (False, 3.75)
    assert asked == [10.0, 14.25]


def test_rejected_identify_starts_the_interval_anew_unless_told_not_to() -> None:
    strict, lenient = rule(), rule(rejection_restarts=False)
    for judge in (strict, lenient):
        assert judge.arrive(0, 0.0)[0]
        assert not judge.arrive(0, 4.0)[0]
    assert strict.arrive(0, 5.0) == (False, 1.0)
    assert lenient.arrive(0, 5.0) == (True, 1.0)
    assert strict.arrive(0, 10.0) == (True, 5.0)


def test_identify_tolerance_forgives_a_little() -> None:
    assert rule(tolerance=0.5).arrive(0, 0.0)[0]
    forgiving = rule(tolerance=0.5)
    forgiving.arrive(0, 0.0)
    assert forgiving.arrive(0, 4.5)[0]


def budget(total: int = 3, remaining: int = 3) -> DailyBudget:
    return DailyBudget(total=total, remaining=remaining, period=86_400, reset_after=100, now=0.0)


def test_budget_refills_a_day_after_its_first_use() -> None:
    starts = budget()
    assert starts.view(50.0).reset_after == 0
    assert [starts.spend(1000.0) for _ in range(4)] == [True, True, True, False]
    view = starts.view(2000.0)
    assert (view.total, view.remaining, view.reset_after) == (3, 0, 85_400.0)
    assert not starts.spend(87_399.0)
    assert starts.spend(87_400.0)
    assert starts.view(87_400.0).remaining == 2


def test_budget_that_begins_half_used_refills_after_the_given_time() -> None:
    starts = budget(remaining=1)
    assert starts.view(0.0).reset_after == 100
    assert starts.spend(10.0)
    assert not starts.spend(99.0)
    assert starts.spend(100.0)


@pytest.mark.parametrize(("remaining", "total"), [(0, 3), (2, 3), (9, 9)])
def test_budget_can_be_overwritten(remaining: int, total: int) -> None:
    starts = budget()
    starts.set_remaining(remaining, 5.0)
    view = starts.view(5.0)
    assert (view.total, view.remaining) == (total, remaining)
    assert view.reset_after == (0 if remaining == total else 86_400)
