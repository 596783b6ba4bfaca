# SPDX-License-Identifier: Apache-2.0
"""The daily count: never higher than what Discord counts, whatever was asked and answered when."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.clock import DAY, in_words
from discluster.master.identify.budget import Budget, assumed, refreshed
from tests.unit.master.ledgers import DailyCount


def budget(
    remaining: int = 900,
    resets_at: float = 3600.0,
    *,
    confirmed: bool = True,
    began: float | None = None,
) -> Budget:
    return Budget(
        total=1000, remaining=remaining, resets_at=resets_at, confirmed=confirmed, began=began
    )


def answered(
    own: Budget | None, remaining: int, reset_after: float, *, now: float = 0.0, total: int = 1000
) -> Budget:
    return refreshed(own, total=total, remaining=remaining, reset_after=reset_after, now=now)


def test_the_first_answer_is_taken_as_it_is() -> None:
    assert answered(None, 900, 3600.0) == budget()


def test_nothing_used_is_a_full_budget_whose_day_has_not_begun() -> None:
    full = answered(None, 1000, 0.0, now=50.0)
    assert full == budget(1000, 50.0 + DAY, confirmed=False)
    assert full.spent(1, 5000.0) == budget(999, 5000.0 + DAY, confirmed=False)


@pytest.mark.covers("F28", "T-42")
def test_discord_makes_the_count_lower_but_never_higher_before_the_reset() -> None:
    """Lower: somebody else has the token. Higher: an IDENTIFY of ours had not arrived yet."""
    assert answered(budget(900), 850, 3600.0).remaining == 850
    assert answered(budget(900), 950, 3600.0).remaining == 900
    assert answered(budget(900), 1000, 0.0) == budget(900)
    assert answered(budget(900), 990, DAY, now=3601.0) == budget(990, 3601.0 + DAY)


def test_an_answer_out_of_a_cache_does_not_put_the_reset_off() -> None:
    assert answered(budget(900, 3600.0), 950, 3600.0, now=1800.0) == budget(900, 3600.0)
    assert answered(budget(900, 3600.0), 950, 600.0, now=1800.0).resets_at == 2400.0


def test_a_higher_total_raises_what_is_left_by_as_much() -> None:
    assert answered(budget(900), 2000, 3600.0, total=2000).remaining == 1900
    assert answered(budget(900), 400, 3600.0, total=500).remaining == 400


@pytest.mark.covers("T-42")
def test_the_budget_is_refilled_at_its_reset_and_counted_on_for_days() -> None:
    assert budget(5).at(3599.9) == budget(5)
    assert budget(5).at(3600.0) == budget(1000, 3600.0 + DAY, confirmed=False, began=3600.0)
    assert budget(5).at(3600.0 + 2.5 * DAY) == budget(
        1000, 3600.0 + 3 * DAY, confirmed=False, began=3600.0 + 2 * DAY
    )


def test_a_day_that_discord_has_not_named_ends_a_day_after_the_last_identify() -> None:
    """The first one may have been a host's that we did not hear of yet."""
    own = budget(5).at(3600.0).spent(1, 4000.0).spent(2, 9000.0)
    assert own == budget(997, 9000.0 + DAY, confirmed=False, began=3600.0)
    assert answered(own, 990, 81_000.0, now=9001.0) == budget(990, 90_001.0)
    assert answered(own, 990, 5.0, now=9001.0).resets_at == own.resets_at, "of the day before"


def test_permits_that_come_back_are_put_back() -> None:
    assert budget(900).returned(1).remaining == 901
    assert budget(1000).returned(1).remaining == 1000


def test_before_discord_has_answered_its_least_number_holds() -> None:
    own = assumed(0.0).spent(30, 1.0)
    assert (own.total, own.remaining) == (1000, 970)
    assert answered(own, 1970, 80_000.0, now=2.0, total=2000).remaining == 1970
    assert answered(own, 2000, 80_000.0, now=2.0, total=2000).remaining == 1970


@pytest.mark.covers("F28", "T-05", "T-42", "O-03")
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ours", "ours", "ours", "foreign", "ask", "late answer", "wait"]),
            st.floats(0, DAY * 0.6),
            st.integers(1, 12),
        ),
        max_size=60,
    )
)
def test_who_spends_by_our_count_never_overdraws_discords(
    steps: list[tuple[str, float, int]],
) -> None:
    """Foreign identifies are seen with the next answer only; so an answer follows each here."""
    discord, own, now = DailyCount(10), assumed(0.0), 0.0
    own = refreshed(None, total=10, remaining=10, reset_after=0.0, now=now)
    old = discord.look(now)
    for what, seconds, count in steps:
        if what == "wait":
            now += seconds
        elif what == "ours":
            for _ in range(count):
                now += 5.0
                if own.at(now).remaining > 0:
                    own = own.spent(1, now)
                    discord.identify(now)
        elif what == "foreign":
            if discord.look(now)[0] > 0:
                discord.identify(now)
            left, after = discord.look(now)
            own = refreshed(own, total=10, remaining=left, reset_after=after, now=now)
        elif what == "ask":
            old = discord.look(now)
        else:
            left, after = old = discord.look(now) if seconds < 1000 else old
            own = refreshed(own, total=10, remaining=left, reset_after=after, now=now)
        assert discord.left >= 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (720, "12 min"),
        (10_800, "3 h"),
        (8_100, "2 h 15 min"),
        (7_199, "2 h"),
        (172_799, "48 h"),
        (20 * 86_400, "20 d"),
    ],
)
def test_spans_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
