# SPDX-License-Identifier: Apache-2.0
"""Frames that came together lie in one block, and are cut out of it one by one."""

import pytest

from discluster.cluster.local.entries import OVERHEAD, OVERHEAD_OF_BLOCK, Entries

FRAMES = [b"one", b"second", b"3", b"the fourth"]


@pytest.fixture
def entries() -> Entries:
    """Blocks of four entries each: positions 1 to 4, 11 to 14, 21 to 24."""
    made = Entries()
    for first in (1, 11, 21):
        add(made, first)
    return made


def add(entries: Entries, first: int) -> None:
    end, ends = entries.end + OVERHEAD_OF_BLOCK, []
    for frame in FRAMES:
        end += len(frame) + OVERHEAD
        ends.append(end)
    positions = list(range(first, first + len(FRAMES)))
    entries.append(b"".join(FRAMES), ["X"] * len(FRAMES), positions, ends, now=0.0)


def test_block_that_is_wanted_whole_is_not_copied(entries: Entries) -> None:
    (first, *_), last = entries.read(0, 1 << 20)
    (again, *_), _ = entries.read(0, 1 << 20)
    assert first is again
    assert last == 24


def test_part_of_a_block_ends_where_a_frame_does(entries: Entries) -> None:
    parts, last = entries.read(2, 150)
    assert b"".join(parts) == b"3the fourth"
    assert last == 4
    parts, last = entries.read(13, 2 * OVERHEAD + OVERHEAD_OF_BLOCK + 20)
    assert b"".join(parts) == b"the fourthone"
    assert last == 21


@pytest.mark.parametrize("count", range(1, 13))
def test_dropping_frees_what_was_counted_and_leaves_the_rest(entries: Entries, count: int) -> None:
    each, _ = entries.read_each(0, 1 << 20, frozenset())
    assert entries.drop(count) == position_of(count)
    left, _ = entries.read_each(0, 1 << 20, frozenset())
    assert left == each[count:]
    assert b"".join(entries.read(0, 1 << 20)[0]) == b"".join(each[count:])
    blocks = -(-len(left) // len(FRAMES))
    size = sum(map(len, left)) + len(left) * OVERHEAD
    assert size <= entries.held <= size + blocks * OVERHEAD_OF_BLOCK


def position_of(count: int) -> int:
    """Of the last of so many."""
    block, number = divmod(count - 1, len(FRAMES))
    return block * 10 + number + 1


def test_dropped_part_of_a_block_is_not_kept_in_memory(entries: Entries) -> None:
    entries.drop(2)
    (part, *_), _ = entries.read(0, 1 << 20)
    assert part == b"3the fourth"
    assert isinstance(part, bytes), "not a view of all four"


def test_what_comes_after_everything_was_dropped_is_found(entries: Entries) -> None:
    entries.drop(12)
    assert (len(entries), entries.held, entries.first) == (0, 0, None)
    add(entries, 31)
    assert b"".join(entries.read(0, 1 << 20)[0]) == b"".join(FRAMES)
    assert entries.first == 31
