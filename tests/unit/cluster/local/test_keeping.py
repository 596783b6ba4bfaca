# SPDX-License-Identifier: Apache-2.0
"""What goes when there is no room, or when time has passed, and what is counted of it."""

import tracemalloc

from discluster.cluster.local.entries import OVERHEAD, OVERHEAD_OF_BLOCK
from discluster.cluster.local.keeping import Keeping
from discluster.cluster.local.losses import Why
from tests.clock import ManualClock
from tests.unit.cluster.local.events import event, positions, run

ONE = OVERHEAD + OVERHEAD_OF_BLOCK + 1060
"""Bytes of an event of 1,000 bytes of text that comes alone, roughly."""


def keeping(events: int, *clients: str, clock: ManualClock | None = None) -> Keeping:
    """With room for about so many events of 1,000 bytes."""
    return Keeping(
        size=events * ONE,
        age=60.0,
        clients=clients or ("bot",),
        unacknowledged=100_000,
        clock=clock or ManualClock(),
    )


def fill(kept: Keeping, shard: int, first: int, count: int) -> None:
    log = kept.open(shard)
    for seq in range(first, first + count):
        log.extend([event(seq, shard=shard, size=1000)])


def fill_up(kept: Keeping, shard: int) -> None:
    """Until no more is to be brought."""
    while not kept.full:
        fill(kept, shard, kept.open(shard).last + 1, 1)


def test_oldest_are_lost_while_nobody_is_attached_and_counted() -> None:
    kept = keeping(100)
    fill(kept, 0, 1, 150)
    log = kept.open(0)
    assert kept.held <= 100 * ONE
    assert not kept.full
    lost = kept.losses.of("bot")[Why.SIZE]
    assert 50 <= lost <= 55
    assert log.owed("bot") == 150 - lost
    assert positions(log.read_each(0, size=1 << 30)[0]) == list(range(lost + 1, 151))
    assert not log.holds(lost - 1)
    released = log.release()
    assert released is not None
    assert released.seq == lost, "what is given up is not asked of Discord again"


def test_what_all_have_goes_before_anything_is_lost() -> None:
    kept = keeping(100, "bot", "stats")
    fill(kept, 0, 1, 40)
    fill(kept, 1, 1, 50)
    for client in ("bot", "stats"):
        kept.open(1).acknowledged(client, 50)
    fill(kept, 0, 41, 40)
    assert kept.losses.total == 0
    assert kept.open(0).owed("bot") == 80
    assert kept.open(1).first > 20


def test_oldest_of_all_shards_goes_first() -> None:
    clock = ManualClock()
    kept = keeping(100, clock=clock)
    fill(kept, 1, 1, 40)
    clock.jump(5)
    fill(kept, 0, 1, 40)
    clock.jump(5)
    fill(kept, 1, 41, 50)
    assert kept.open(1).first in range(31, 41)
    assert kept.open(0).first == 1


def test_attached_client_that_lags_loses_nothing_and_fills_the_room() -> None:
    kept = keeping(100)
    log = kept.open(0)
    fill(kept, 0, 1, 1)
    log.attach("bot")
    fill_up(kept, 0)
    assert kept.losses.total == 0
    assert log.first == 1
    log.acknowledged("bot", 60)
    assert not kept.full
    assert log.owed("bot") == log.last - 60
    fill_up(kept, 0)
    log.detach("bot")
    assert not kept.full
    assert kept.losses.of("bot")[Why.SIZE] > 0, "nobody waits for them any more"


def test_client_that_is_away_loses_what_the_attached_one_has() -> None:
    kept = keeping(100, "bot", "stats")
    log = kept.open(0)
    log.attach("bot")
    for first in range(1, 201, 10):
        fill(kept, 0, first, 10)
        log.acknowledged("bot", log.last)
    assert not kept.full
    assert kept.losses.of("bot") == {}
    assert kept.losses.of("stats")[Why.SIZE] in range(100, 106)


def test_lagging_client_takes_half_of_the_room_from_shards_without_one_and_no_more() -> None:
    kept = keeping(100)
    fill(kept, 1, 1, 100)
    fill(kept, 0, 1, 1)
    log = kept.open(0)
    log.attach("bot")
    fill_up(kept, 0)
    assert log.first == 1
    assert kept.open(1).owed("bot") in range(45, 52)


def test_shard_that_leaves_with_its_lagging_client_holds_no_other_back() -> None:
    kept = keeping(100)
    kept.open(0).attach("bot")
    fill(kept, 0, 1, 70)
    fill(kept, 1, 1, 110)
    assert kept.full
    kept.close(0)
    assert not kept.full


def test_what_is_too_old_is_given_up_and_counted() -> None:
    clock = ManualClock()
    kept = keeping(1000, clock=clock)
    fill(kept, 0, 1, 10)
    kept.open(0).acknowledged("bot", 4)
    clock.jump(30)
    fill(kept, 0, 11, 10)
    kept.expire()
    assert kept.open(0).first == 1
    clock.jump(31.1)
    kept.expire()
    assert kept.open(0).first == 11
    assert kept.losses.of("bot") == {Why.AGE: 6}
    clock.jump(60)
    kept.expire()
    assert kept.held == 0
    assert kept.open(0).first == 21
    assert kept.losses.of("bot") == {Why.AGE: 16}


def test_age_takes_nothing_from_a_client_that_is_attached() -> None:
    clock = ManualClock()
    kept = keeping(1000, "bot", "stats", clock=clock)
    fill(kept, 0, 1, 10)
    kept.open(0).attach("bot")
    kept.open(0).acknowledged("bot", 4)
    clock.jump(100)
    kept.expire()
    assert kept.open(0).first == 5
    assert kept.losses.of("stats") == {Why.AGE: 4}
    assert kept.losses.of("bot") == {}


def test_what_it_counts_as_held_is_what_it_takes() -> None:
    kept = keeping(1_000_000)
    log = kept.open(0)
    batches = [run(range(first, first + 30)) for first in range(1, 9001, 30)]
    tracemalloc.start()
    try:
        for batch in batches:
            log.extend(batch)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.6 < taken / kept.held < 1.05, "malloc itself takes some sixteen bytes of each"
