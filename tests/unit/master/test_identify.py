# SPDX-License-Identifier: Apache-2.0
"""The identify lanes: Discord's limits hold whatever happens to permits."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.control import slots as host_slots
from discluster.master.identify import Budget, Lanes, Waiting
from discluster.plan import IdentifySlots

INTERVAL = 5.25


def lanes(count: int = 1, *, reserve: float = 0.1, rest_until: float = 0.0) -> Lanes:
    made = Lanes(interval=INTERVAL, reserve=reserve, rest_until=rest_until)
    made.resize(count)
    return made


@pytest.mark.covers("T-41", "O-02")
def test_one_permit_a_lane_lowest_shard_first() -> None:
    four = lanes(4)
    for shard in (9, 5, 4, 1, 3):
        four.request(shard, "a")
    given = four.grants(0, 0)
    assert sorted(w.shard for w in given) == [1, 3, 4]
    assert four.grants(0, 0) == []
    assert four.waiting == 2


@pytest.mark.covers("T-37")
def test_a_lane_rests_from_the_use_of_its_permit_not_from_the_grant() -> None:
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "b")
    assert lane.grants(0, 0) == [Waiting(0, "a")]
    lane.used(0, 3.0)
    assert lane.grants(3 + INTERVAL - 0.01, 0) == []
    assert lane.next_chance(3 + INTERVAL - 0.5, 0) == pytest.approx(0.5)
    assert lane.grants(3 + INTERVAL, 0) == [Waiting(1, "b")]


@pytest.mark.covers("T-38")
def test_a_permit_that_comes_back_frees_its_lane_at_once() -> None:
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "a")
    lane.grants(0, 0)
    lane.returned(0)
    assert lane.grants(0.1, 0) == [Waiting(1, "a")]


def test_a_permit_that_comes_back_does_not_end_the_rest_after_anothers_use() -> None:
    """Shard 0 used its permit after it had expired, while shard 1 had one."""
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "a")
    lane.request(2, "a")
    assert lane.grants(0, 0) == [Waiting(0, "a")]
    assert lane.grants(31, 0) == [Waiting(1, "a")]
    lane.used(0, 32)
    lane.returned(1)
    assert lane.grants(33, 0) == []
    assert lane.grants(32 + INTERVAL, 0) == [Waiting(2, "a")]


@pytest.mark.covers("T-38")
def test_a_permit_that_is_neither_used_nor_returned_expires() -> None:
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "a")
    lane.grants(0, 0)
    assert lane.grants(29.9, 0) == []
    assert lane.grants(30.0, 0) == [Waiting(1, "a")]


def test_a_shard_that_gives_up_waiting_gets_nothing() -> None:
    lane = lanes()
    lane.request(0, "a")
    lane.returned(0)
    assert lane.grants(0, 0) == []
    assert lane.next_chance(0, 0) is None


def test_an_identify_that_nobody_granted_counts() -> None:
    lane = lanes()
    lane.budget = Budget(total=1000, remaining=900, resets_at=1e9)
    lane.used(7, 10)
    lane.request(0, "a")
    assert lane.grants(12, 0) == []
    assert lane.budget == Budget(total=1000, remaining=899, resets_at=1e9)


def test_a_lost_host_waits_no_more_and_what_it_was_granted_may_still_be_used() -> None:
    two = lanes(2)
    two.request(0, "lost")
    two.request(1, "lost")
    two.grants(0, 0)
    two.request(2, "lost")
    two.request(4, "kept")
    two.used(1, 0)
    two.host_lost("lost", 2.0)
    assert two.waiting == 1
    assert two.grants(2.0 + INTERVAL, 0) == [], "the permit of shard 0 can be used until it expires"
    assert two.grants(30.0, 0) == [Waiting(4, "kept")]


def test_a_host_that_comes_back_and_returns_its_permit_frees_the_lane() -> None:
    lane = lanes()
    lane.request(0, "a")
    lane.grants(0, 0)
    lane.host_lost("a", 1.0)
    lane.returned(0)
    lane.request(1, "b")
    assert lane.grants(1.0 + INTERVAL, 0) == [Waiting(1, "b")]


def test_a_new_master_rests_first() -> None:
    lane = lanes(rest_until=100)
    lane.request(0, "a")
    assert lane.grants(99.9, 0) == []
    assert lane.next_chance(99.0, 0) == pytest.approx(1.0)
    assert lane.grants(100, 0) == [Waiting(0, "a")]


@pytest.mark.covers("F28")
def test_another_number_of_lanes_keeps_who_waits_and_forgets_no_rest() -> None:
    lane = lanes(1)
    lane.request(0, "a")
    lane.grants(0, 0)
    lane.used(0, 0)
    lane.request(1, "a")
    lane.request(2, "a")
    lane.resize(16)
    assert lane.grants(5.0, 0) == []
    assert lane.grants(INTERVAL, 0) == [Waiting(1, "a"), Waiting(2, "a")]


@pytest.mark.covers("F28", "T-05", "O-03")
def test_the_reserve_is_kept() -> None:
    lane = lanes(16)
    lane.budget = Budget(total=1000, remaining=103, resets_at=3600)
    for shard in range(16):
        lane.request(shard, "a")
    assert len(lane.grants(0, 0)) == 3, "those that are out count"
    assert lane.grants(1, 0) == []
    assert lane.next_chance(1, 0) == pytest.approx(0.25), "no busy loop"
    for shard in range(3):
        lane.used(shard, 2)
    assert lane.refusal(2) == (
        "the identify budget is down to its reserve: 100 of 1000 left, resets in 1.0 h"
    )
    assert len(lane.dismiss()) == 13
    assert lane.waiting == 0


def test_nobody_identifies_while_blocked() -> None:
    lane = lanes()
    lane.blocked = "Discord rejected the token"
    lane.request(0, "a")
    assert lane.grants(0, 0) == []
    assert lane.refusal(0) == "Discord rejected the token"


@pytest.mark.covers("T-39", "O-01")
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.randoms(use_true_random=False))
def test_any_course_of_events_keeps_the_gap_in_every_bucket(
    count: int, hosts: int, rng: random.Random
) -> None:
    """Permits used late, returned, lost with their host, asked for twice: the use counts."""
    made = lanes(count)
    now = 0.0
    out: dict[int, tuple[str, float]] = {}
    uses: dict[int, list[float]] = {}
    for _ in range(200):
        now += rng.choice([0.0, 0.1, 1.0, 3.0])
        shard, host = rng.randrange(8), f"h{rng.randrange(hosts)}"
        match rng.randrange(6):
            case 0 | 1:
                made.request(shard, host)
            case 2:
                made.returned(shard)
                out.pop(shard, None)
            case 3:
                made.host_lost(host, now)
                out = {s: (h, at) for s, (h, at) in out.items() if h != host}
            case _:
                out |= {w.shard: (w.host, now) for w in made.grants(now, 0)}
        for ready in [s for s, (_, at) in out.items() if now - at < 20 and rng.random() < 0.5]:
            del out[ready]
            made.used(ready, now)
            uses.setdefault(ready % count, []).append(now)
    for times in uses.values():
        assert all(b - a >= INTERVAL for a, b in pairwise(times))


@pytest.mark.covers("T-39", "O-01")
@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 5),
    st.sets(st.integers(0, 4), min_size=1),
    st.floats(0, 1e6),
    st.floats(0, 0.4),
)
def test_grants_never_come_near_what_hosts_do_that_pace_themselves(
    hosts: int, away: set[int], start: float, skew: float
) -> None:
    """``skew``: seconds by which the hosts' clocks are behind MASTER's."""
    slots = [IdentifySlots(slot=slot, slots=hosts) for slot in sorted(away) if slot < hosts]
    lane = lanes()
    lane.set_away(slots)
    granted: list[float] = []
    theirs: list[float] = []
    taken: set[tuple[int, int]] = set()
    for tick in range(4000):
        wall = start + tick * 0.05
        lane.request(0, "present")
        if lane.grants(wall, wall):
            granted.append(wall)
            lane.used(0, wall)
        for own in slots:
            window = host_slots.current_window(wall - skew, own, INTERVAL)
            if window is not None and (own.slot, window) not in taken:
                taken.add((own.slot, window))
                theirs.append(wall)
    everything = sorted(granted + theirs)
    assert all(b - a >= 5 - 0.4 for a, b in pairwise(everything))
    if len(slots) < hosts:
        assert granted, "somebody who is present gets a turn"


def test_hosts_that_pace_themselves_keep_clear_of_each_other() -> None:
    own = [IdentifySlots(slot=slot, slots=3) for slot in range(3)]
    times: list[float] = []
    taken: set[int] = set()
    for tick in range(20_000):
        wall = 1e9 + tick * 0.01
        for slots in own:
            window = host_slots.current_window(wall, slots, INTERVAL)
            if window is not None and window not in taken:
                taken.add(window)
                times.append(wall)
    assert len(times) > 10
    assert all(b - a >= 5 for a, b in pairwise(times))
