# SPDX-License-Identifier: Apache-2.0
"""Numbers, ages and states in words."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.ctl import words
from discluster.messages import ShardState, ShardView
from tests.unit.ctl import fleets


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-3.0, "0s"),
        (0.9, "0s"),
        (59.99, "59s"),
        (60, "1min"),
        (95, "1min 35s"),
        (3600, "1h"),
        (8_100, "2h 15min"),
        (86_400, "1d"),
        (273_700, "3d 4h"),
    ],
)
def test_duration_is_written_as_systemd_writes_it(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (71 << 20, "71 MiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (1_500_000_000, "1.4 GiB"),
        (37 << 30, "37 GiB"),
        (5000 << 40, "5,000 TiB"),
    ],
)
def test_size_has_the_unit_that_fits(amount: int | None, text: str) -> None:
    assert words.size(amount) == text


@pytest.mark.parametrize(
    ("part", "text"), [(None, "-"), (0.0, "0%"), (0.374, "37%"), (12.5, "1,250%")]
)
def test_percent_is_of_one(part: float | None, text: str) -> None:
    assert words.percent(part) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "-"), (0.0, "0"), (0.04, "<0.1"), (3.42, "3.4"), (9.96, "10"), (20_881.4, "20,881")],
)
def test_small_rates_have_a_decimal(amount: float | None, text: str) -> None:
    assert words.rate(amount) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([2, 1, 1, 0, 5], "0-2, 5"), ([7, 9, 10], "7, 9-10")],
)
def test_ranges_join_neighbours(numbers: list[int], text: str) -> None:
    assert words.ranges(numbers) == text


def test_many_ranges_end_with_a_count() -> None:
    assert words.ranges(range(0, 40, 2), limit=3) == "0, 2, 4 and 17 more"


@given(st.sets(st.integers(0, 300)))
def test_ranges_name_each_number_once(numbers: set[int]) -> None:
    named: list[int] = []
    for piece in filter(None, words.ranges(numbers, limit=1000).split(", ")):
        first, _, last = piece.partition("-")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(numbers)


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\r"])
def test_text_of_others_cannot_steer_the_terminal(hostile: str) -> None:
    assert hostile not in words.clean(f"a{hostile}b\nc")
    assert words.clean("a\nb\tc") == "a\nb c"


def test_progress_says_what_the_rest_waits_for() -> None:
    assert words.progress(fleets.healthy()) == "24 of 24 shards ready"
    assert words.progress(fleets.starting()) == (
        "2 of 16 shards ready; 9 waiting for their turn to identify, 1 identifying, 4 not running"
    )
    assert words.progress(fleets.silent_host()) == "16 of 24 shards ready; 8 on a silent host"
    assert words.progress(fleets.no_hosts()) == "No shards are planned"
    unplaced = fleets.fleet(*fleets.three_hosts()[:2], shard_count=24)
    assert words.progress(unplaced) == "16 of 24 shards ready; 8 on no host yet"


@pytest.mark.parametrize("state", ["idle", "dialing", "hello", "waiting", "backoff", "fatal"])
def test_one_shard_is_told_in_the_singular(state: ShardState) -> None:
    shards = (fleets.ready(0), ShardView(shard=1, state=state))
    sentence = words.host_progress(fleets.host("alpha", fleets.cluster(0, shards)))
    head, _, rest = sentence.partition("; ")
    assert head == "1 of 2 shards ready"
    assert rest.startswith("1 ")
    assert "their" not in rest


def test_progress_never_counts_below_zero() -> None:
    status = msgspec.structs.replace(fleets.starting(), shards_ready=16)
    assert "-" not in words.progress(status)
