# SPDX-License-Identifier: Apache-2.0
"""The identify lanes: Discord's limits hold whatever happens to permits."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.control import slots as host_slots
from discluster.master.identify.lanes import AHEAD, DRIFT, Grant, Lanes, taken_at_most
from discluster.messages import PERMIT_LIFE
from discluster.plan import IdentifySlots, SlotClaim

INTERVAL = 5.05


def lanes(count: int = 1, *, rest_until: float = 0.0) -> Lanes:
    made = Lanes(interval=INTERVAL, rest_until=rest_until)
    made.resize(count)
    return made


def granted(made: Lanes, now: float, **more: int) -> list[int]:
    """The shards that get a permit."""
    return [grant.shard for grant in made.grants(now, 0, **({"limit": 1000} | more))]


@pytest.mark.covers("T-41", "O-02")
def test_one_permit_a_lane_lowest_shard_first() -> None:
    four = lanes(4)
    for shard in (9, 5, 4, 1, 3):
        four.request(shard, "a")
    assert sorted(granted(four, 0)) == [1, 3, 4]
    assert granted(four, 0) == []
    assert four.waiting == {5: "a", 9: "a"}


def test_the_caller_says_how_many_and_up_to_which_shard() -> None:
    four = lanes(4)
    for shard in range(8):
        four.request(shard, "a")
    assert granted(four, 0, limit=0) == []
    assert granted(four, 0, below=2) == [0, 1]
    assert granted(four, 0, limit=1) == [2]


@pytest.mark.covers("T-37")
def test_a_lane_rests_from_the_use_of_its_permit_not_from_the_grant() -> None:
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "b")
    assert lane.grants(0, 0, limit=9) == [Grant(0, "a", 0, PERMIT_LIFE)]
    assert lane.used(0, "a", 3.0)
    assert granted(lane, 3 + INTERVAL - AHEAD - 0.01) == []
    assert lane.next_chance(3 + INTERVAL - AHEAD - 0.5) == pytest.approx(0.5)
    (second,) = lane.grants(3 + INTERVAL - AHEAD + 0.01, 0, limit=9)
    assert (second.shard, second.host) == (1, "b")
    assert second.since == 3 + INTERVAL, "it leaves ahead of its time, to be used at it"


@pytest.mark.covers("T-37")
def test_a_use_counts_from_when_it_was_written_not_from_when_it_was_heard() -> None:
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "b")
    lane.grants(0, 0, limit=9)
    lane.used(0, "a", 3.0, at=2.9)
    (second,) = lane.grants(8.0, 0, limit=9)
    assert second.since == pytest.approx(max(8.0, 2.9 + INTERVAL))


def test_a_use_cannot_be_before_its_permit_begins() -> None:
    """Whatever a host says: its clock is estimated."""
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "b")
    lane.grants(10, 0, limit=9)
    lane.used(0, "a", 10.1, at=3.0)
    assert granted(lane, 10 + INTERVAL - AHEAD - 0.01) == []


def test_a_permit_that_a_host_may_still_use_counts_from_its_last_instant() -> None:
    """A CONTROL that comes back tells of what is out, before it was used."""
    lane = lanes()
    lane.used(0, "a", 10.0, at=18.0)
    lane.request(1, "b")
    assert granted(lane, 18.0 + INTERVAL - AHEAD - 0.01) == []
    assert granted(lane, 18.0 + INTERVAL) == [1]


@pytest.mark.covers("T-38")
def test_a_permit_that_comes_back_frees_its_lane_at_once() -> None:
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "a")
    granted(lane, 0)
    assert lane.returned(0, "a")
    assert granted(lane, 0.1) == [1]


def test_a_permit_comes_back_only_from_the_host_that_has_it() -> None:
    """The shard moved; what its old host had to give back was not the new one's."""
    lane = lanes()
    lane.request(0, "new")
    granted(lane, 0)
    assert not lane.returned(0, "old")
    assert not lane.used(0, "old", 0.5)
    lane.request(1, "b")
    assert granted(lane, 0.5 + INTERVAL) == []


def test_a_permit_that_comes_back_does_not_end_the_rest_after_anothers_use() -> None:
    """Shard 0 told of its use after its permit had expired, while shard 1 had one."""
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "a")
    lane.request(2, "a")
    assert granted(lane, 0) == [0]
    assert granted(lane, 31) == [1]
    lane.used(0, "a", 32)
    lane.returned(1, "a")
    assert granted(lane, 33) == []
    assert granted(lane, 32 + INTERVAL) == [2]


@pytest.mark.covers("T-38")
def test_a_permit_of_which_nothing_is_heard_counts_as_used_at_its_end() -> None:
    lane = lanes()
    lane.request(0, "a")
    lane.request(1, "a")
    granted(lane, 0)
    assert granted(lane, PERMIT_LIFE + INTERVAL - AHEAD) == []
    (next_one,) = lane.grants(taken_at_most(INTERVAL), 0, limit=9)
    assert next_one.since >= PERMIT_LIFE + DRIFT + INTERVAL


def test_a_shard_that_gives_up_waiting_gets_nothing() -> None:
    lane = lanes()
    lane.request(0, "a")
    assert not lane.returned(0, "a")
    assert granted(lane, 0) == []
    assert lane.next_chance(0) is None


def test_an_identify_that_nobody_granted_counts() -> None:
    lane = lanes()
    assert not lane.used(7, "a", 10)
    lane.request(0, "a")
    assert granted(lane, 12) == []


def test_a_lost_host_waits_no_more_and_what_it_was_granted_may_still_be_used() -> None:
    two = lanes(2)
    two.request(0, "lost")
    two.request(1, "lost")
    granted(two, 0)
    two.request(2, "lost")
    two.request(4, "kept")
    two.used(1, "lost", 0)
    assert two.host_lost("lost") == 1
    assert two.waiting == {4: "kept"}
    assert granted(two, 2.0 + INTERVAL) == [], "shard 0 may still use its permit"
    assert granted(two, taken_at_most(INTERVAL)) == [4]


def test_a_permit_of_a_host_that_was_lost_does_not_come_back() -> None:
    """Its CONTROL was killed: the shard used it, nobody was told, and asks for another one."""
    lane = lanes()
    lane.request(0, "a")
    granted(lane, 0)
    lane.host_lost("a")
    lane.request(0, "a")
    assert not lane.returned(0, "a")
    lane.request(1, "b")
    assert granted(lane, 1.0) == []
    assert granted(lane, taken_at_most(INTERVAL)) == [1]


def test_a_use_that_is_told_after_its_host_was_lost_was_counted_at_the_grant() -> None:
    lane = lanes()
    lane.request(0, "a")
    granted(lane, 0)
    lane.host_lost("a")
    assert lane.used(0, "a", 9.0, at=1.0)
    assert not lane.used(0, "a", 9.0, at=1.0), "another one"


def test_a_new_master_rests_first() -> None:
    lane = lanes(rest_until=100)
    lane.request(0, "a")
    assert granted(lane, 99.5) == []
    assert lane.next_chance(99.0) == pytest.approx(1.0 - AHEAD)
    assert [grant.since for grant in lane.grants(99.9, 0, limit=1)] == [100]


@pytest.mark.covers("F28")
def test_another_number_of_lanes_keeps_who_waits_and_forgets_no_rest() -> None:
    lane = lanes(1)
    lane.request(0, "a")
    granted(lane, 0)
    lane.used(0, "a", 0)
    lane.request(1, "a")
    lane.request(2, "a")
    lane.resize(16)
    assert granted(lane, INTERVAL - AHEAD - 0.1) == []
    assert granted(lane, INTERVAL) == [1, 2]


def test_a_lane_that_is_held_up_is_looked_at_again_without_a_busy_loop() -> None:
    lane = lanes()
    lane.request(0, "a")
    assert granted(lane, 0, limit=0) == []
    assert lane.next_chance(0) == pytest.approx(0.25)


@pytest.mark.covers("T-39", "O-01")
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**32))
def test_any_course_of_events_keeps_the_gap_in_every_bucket(
    count: int, hosts: int, seed: int
) -> None:
    """Permits used late, returned, lost with their host, asked for twice: the use counts."""
    made, rng = lanes(count), random.Random(seed)
    now = 0.0
    out: list[Grant] = []
    uses: dict[int, list[float]] = {}
    silent: set[tuple[int, str]] = set()  # used, and nobody told
    for _ in range(200):
        now += rng.choice([0.0, 0.1, 1.0, 3.0])
        shard, host = rng.randrange(8), f"h{rng.randrange(hosts)}"
        match rng.randrange(6):
            case 0 | 1 if (shard, host) not in silent:
                made.request(shard, host)
            case 2 if (shard, host) not in silent:
                held = [grant for grant in out if (grant.shard, grant.host) == (shard, host)]
                out = [grant for grant in out if grant not in held]
                made.returned(shard, host)
            case 3:
                made.host_lost(host)
                silent = {(s, h) for s, h in silent if h != host}
                out = [grant for grant in out if grant.host != host or rng.random() < 0.5]
            case _:
                out += made.grants(now, 0, limit=9)
        out = [grant for grant in out if now <= grant.until]
        for grant in [g for g in out if g.since <= now and rng.random() < 0.5]:
            out.remove(grant)
            uses.setdefault(grant.shard % count, []).append(now)
            if rng.random() < 0.8:
                made.used(grant.shard, grant.host, now)
            else:
                silent.add((grant.shard, grant.host))
    for times in uses.values():
        assert all(b - a >= INTERVAL - 1e-9 for a, b in pairwise(times))


@pytest.mark.covers("T-39", "O-01")
@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.sets(st.integers(0, 3), min_size=1),
    st.floats(0, 1e6),
    st.floats(-INTERVAL / 2, INTERVAL / 2),
    st.integers(0, 2**32),
)
def test_grants_never_come_near_what_hosts_do_that_pace_themselves(
    size: int, away: set[int], start: float, skew: float, seed: int
) -> None:
    """``skew``: seconds by which the hosts' clocks differ from MASTER's."""
    count, rng = 2**size, random.Random(seed)
    own = [IdentifySlots(slot=slot, slots=count) for slot in sorted(away) if slot < count]
    lane = lanes()
    lane.set_away([SlotClaim(slot=slots.slot, slots=slots.slots) for slots in own])
    ours: list[float] = []
    theirs: list[float] = []
    taken: set[int] = set()
    uses_at = None
    for tick in range(4000):
        wall = start + tick * 0.05
        if uses_at is None:
            lane.request(0, "present")
            for grant in lane.grants(wall, wall, limit=9):
                uses_at = rng.uniform(grant.since, grant.until)
        elif wall >= uses_at:
            ours.append(uses_at)
            lane.used(0, "present", wall, at=uses_at)
            uses_at = None
        for slots in own:
            window = host_slots.current_window(wall - skew, slots, INTERVAL)
            if window is not None and window not in taken and rng.random() < 0.1:
                taken.add(window)
                theirs.append(wall)
    everything = sorted(ours + theirs)
    assert all(b - a >= 5 for a, b in pairwise(everything))
    if len(own) < count / 2:
        assert ours, "somebody who is present gets a turn"


def test_nobody_is_granted_anything_while_a_host_that_is_away_may_have_any_window() -> None:
    lane = lanes()
    lane.set_away([SlotClaim(slot=0, slots=1)])
    lane.request(0, "a")
    assert all(not lane.grants(t / 10, 1e9 + t / 10, limit=9) for t in range(500))


def test_hosts_that_pace_themselves_keep_clear_of_each_other() -> None:
    own = [IdentifySlots(slot=0, slots=2), *(IdentifySlots(slot=s, slots=4) for s in (1, 3))]
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
