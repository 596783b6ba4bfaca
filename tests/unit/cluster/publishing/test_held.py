# SPDX-License-Identifier: Apache-2.0
"""What is held until the broker has it: each shard is acknowledged in order, and nothing early."""

from hypothesis import given
from hypothesis import strategies as st

from discluster.cluster.handlers.publishing.held import Batch, Held
from discluster.gateway.events import Event
from tests.unit.cluster.publishing.events import event


def numbered(count: int, size: int = 1) -> list[bytes]:
    return [b"x" * size] * count


def add(held: Held, seq: int, *, shard: int = 1, count: int = 2, size: int = 1) -> Batch:
    return held.add(event(seq, shard=shard), lambda first: numbered(count, size))


def test_batch_is_acknowledged_when_its_last_message_is_stored() -> None:
    taken: list[Event] = []
    held = Held(taken.append)
    batch = add(held, 7)
    assert held.stored(batch.first + 1) is batch
    assert (taken, len(held)) == ([], 1)
    held.stored(batch.first)
    assert [one.seq for one in taken] == [7]
    assert (len(held), held.size, dict(held.batches)) == (0, 0, {})


def test_message_that_is_stored_twice_counts_once() -> None:
    taken: list[Event] = []
    held = Held(taken.append)
    batch = add(held, 7)
    assert held.stored(batch.first) is batch
    assert held.stored(batch.first) is None
    assert held.stored(12_345) is None
    assert not taken


def test_batch_that_is_stored_early_waits_for_the_one_before_it() -> None:
    taken: list[Event] = []
    held = Held(taken.append)
    first, second, other = add(held, 7), add(held, 9), add(held, 30, shard=2)
    for batch in (second, other):
        for number in range(batch.first, batch.first + 2):
            held.stored(number)
    assert [(one.shard, one.seq) for one in taken] == [(2, 30)]
    assert held.has(1)
    assert not held.has(2)
    for number in range(first.first, first.first + 2):
        held.stored(number)
    # One call is enough for both.
    assert [(one.shard, one.seq) for one in taken] == [(2, 30), (1, 9)]


def test_only_what_is_missing_is_sent_again() -> None:
    held = Held(lambda _: None)
    batch = held.add(event(9), lambda first: [b"a", b"b", b"c"])
    assert held.missing(batch) == (range(3), [b"a", b"b", b"c"])
    held.stored(batch.first + 1)
    assert held.missing(batch) == ([0, 2], [b"a", b"c"])


def test_changed_message_counts_with_its_new_size() -> None:
    held = Held(lambda _: None)
    batch = add(held, 9, size=10)
    held.change(batch.first + 1, lambda message: message[:3])
    held.change(99, lambda message: message * 2)
    assert (held.size, batch.messages[1]) == (13, b"xxx")
    for number in range(2):
        held.stored(number)
    assert held.size == 0


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_whatever_order_answers_come_in_no_shard_is_acknowledged_too_far(
    batches: list[tuple[int, int]], rng: object
) -> None:
    taken: dict[int, int] = {}
    held = Held(lambda event: taken.__setitem__(event.shard, event.seq))
    owed: dict[int, list[tuple[int, set[int]]]] = {}
    for seq, (shard, count) in enumerate(batches, 1):
        batch = add(held, seq, shard=shard, count=count)
        owed.setdefault(shard, []).append((seq, set(range(batch.first, batch.first + count))))
    numbers = list(range(len(held)))
    rng.shuffle(numbers)  # type: ignore[attr-defined]
    for number in numbers:
        held.stored(number)
        for shard, of_shard in owed.items():
            complete = 0
            for seq, left in of_shard:
                left.discard(number)
                if left:
                    break
                complete = seq
            for _, left in of_shard:
                left.discard(number)
            assert taken.get(shard, 0) == complete
    assert (len(held), held.size) == (0, 0)
