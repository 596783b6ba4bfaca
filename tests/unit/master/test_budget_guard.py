# SPDX-License-Identifier: Apache-2.0
"""Loops that burn identifies: stopped, told, remembered, and let go by the operator alone."""

import pytest

from discluster.clock import DAY
from discluster.master.identify.guard import GuardMemory, LoopGuard
from tests.clock import ManualClock
from tests.unit.master.ledgers import MemoryStore, ledger


def guard(limit: int = 3, waste: float = 0.5, memory: GuardMemory | None = None) -> LoopGuard:
    return LoopGuard(limit=limit, waste=waste, memory=memory or GuardMemory())


def identify(made: LoopGuard, shard: int, *times: float) -> None:
    for time in times:
        made.used(shard, time)


def look(made: LoopGuard, *waiting: int, now: float, total: int = 1000) -> bool:
    return made.look(waiting, total=total, endings={7: "Discord closed with 4002"}, now=now)


@pytest.mark.covers("T-02", "T-06")
def test_a_shard_at_its_limit_is_stopped_when_it_wants_to_identify_again() -> None:
    made = guard()
    identify(made, 7, 0, 100, 200)
    assert not look(made, 8, now=300)
    assert look(made, 7, 8, now=300)
    assert made.stopped.keys() == {7}
    assert made.stopped[7].why == (
        "identified 3 times within an hour; the last time it ended with: Discord closed with 4002"
    )
    assert not look(made, 7, now=301), "told once"


def test_identifies_of_more_than_an_hour_ago_are_no_loop() -> None:
    made = guard()
    identify(made, 7, 0, 2000, 4000)
    assert not look(made, 7, now=4001)
    identify(made, 7, 4002)
    assert look(made, 7, now=4003)


def test_a_stopped_shard_stays_stopped_until_it_is_released_and_then_counts_anew() -> None:
    made = guard()
    identify(made, 7, 0, 1, 2)
    look(made, 7, now=3)
    look(made, 7, now=10 * DAY)
    assert 7 in made.stopped
    assert made.release([7, 8]) == (7,)
    assert not look(made, 7, now=10 * DAY)
    identify(made, 7, *(10 * DAY + n for n in range(3)))
    assert look(made, 7, now=10 * DAY + 4)


def test_one_identify_of_each_shard_is_a_start_and_no_waste() -> None:
    made = guard(limit=100)
    for shard in range(1000):
        identify(made, shard, 0)
    assert made.again(10) == 0
    assert not look(made, 1, now=10, total=1000)


@pytest.mark.covers("T-05", "T-06")
def test_fleet_that_spends_too_much_on_identifying_again_is_closed() -> None:
    made = guard(limit=100)
    for shard in range(10):
        identify(made, shard, *range(6))
    assert not look(made, 1, now=10, total=100), "50 again, of 50 allowed"
    identify(made, 0, 11)
    assert look(made, 1, now=12, total=100)
    assert made.closed is not None
    assert made.closed.why == (
        "shards that had identified before identified 51 times again within 24 h, of 100 session"
        " starts a day"
    )
    made.release([0])
    assert made.memory.closed is not None, "one shard's release is not the fleet's"
    made.release(None)
    assert made.again(13) == 0
    assert made.memory == GuardMemory()


def test_identifies_older_than_a_day_are_forgotten() -> None:
    made = guard()
    identify(made, 1, 0, 10)
    assert made.again(100) == 1
    assert made.again(DAY + 20) == 0
    assert made.memory.identifies == {}


def test_what_is_stopped_survives_a_restart_of_master_and_so_does_its_release() -> None:
    clock, store = ManualClock(), MemoryStore()
    first = ledger(clock, store, identify_loop_limit=2)
    for _ in range(2):
        first.granted([7])
        first.used(7, counted=True, alone=False)
    assert first.look([7], {}) == (
        "shard 7 may not identify any more: identified 2 times within an hour",
    )
    assert first.look([7], {}) == (), "told once"
    again = ledger(clock, store, identify_loop_limit=2)
    assert again.hold(7) == ("held back by the identify guard: identified 2 times within an hour")
    assert again.hold(8) is None
    assert again.release([7], reserve=False) == ("Released shard 7; identifies are counted anew.",)
    assert ledger(clock, store, identify_loop_limit=2).hold(7) is None
    assert again.release([7], reserve=False) == ()


def test_the_reserve_is_released_until_the_next_reset_also_over_a_restart() -> None:
    clock, store = ManualClock(), MemoryStore()
    made = ledger(clock, store)
    made.discord_says(total=1000, remaining=100, reset_after=7200, recommended=4)
    assert made.to_spend() == 0
    assert made.release(None, reserve=True) == (
        "The reserve, 100 identifies, may be spent until the reset in 2 h.",
    )
    assert made.to_spend() == ledger(clock, store).to_spend() == 100
    clock.jump(7200)
    assert made.to_spend() == 900


def test_a_permit_is_counted_before_it_leaves_and_put_back_if_it_was_not_used() -> None:
    clock, store = ManualClock(), MemoryStore()
    made = ledger(clock, store)
    made.discord_says(total=1000, remaining=900, reset_after=7200, recommended=4)
    made.granted([1, 2, 3])
    assert ledger(clock, store).to_spend() == 797
    made.returned(1)
    made.used(2, counted=True, alone=False)
    made.used(9, counted=False, alone=False)
    made.used(8, counted=False, alone=True)
    assert made.to_spend() == 797


def test_a_permit_of_yesterday_that_is_used_today_counts_today() -> None:
    clock = ManualClock()
    made = ledger(clock)
    made.discord_says(total=1000, remaining=900, reset_after=60, recommended=4)
    made.granted([1, 2])
    clock.jump(61)
    made.used(1, counted=True, alone=False)
    made.returned(2)
    assert made.to_spend() == 899
