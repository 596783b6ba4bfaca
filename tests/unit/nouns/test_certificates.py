# SPDX-License-Identifier: Apache-2.0
"""When a certificate is renewed, how it stands with it, and whether it counts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.certificates import Certificate, is_revoked, renewal_due, standing

DAY = 86_400.0
moments = st.floats(0, 4e9)
lives = st.floats(10, 400 * DAY)
fractions = st.floats(0, 1)


def certificate(issued: float, life: float, host: str | None = "alpha") -> Certificate:
    return Certificate(
        serial="1f", issued=issued, expires=issued + life, authority="00ff", host=host
    )


def test_certificate_is_renewed_at_two_thirds_of_its_life() -> None:
    assert renewal_due(certificate(1000, 30 * DAY), jitter=0.0) == 1000 + 20 * DAY
    assert renewal_due(certificate(1000, 30 * DAY), jitter=1.0) == 1000 + 17 * DAY


@settings(deadline=None)
@given(moments, lives, fractions, fractions)
def test_hosts_do_not_come_at_once_and_none_comes_late(
    issued: float, life: float, one: float, other: float
) -> None:
    made = certificate(issued, life)
    dues = [renewal_due(made, jitter=jitter) for jitter in (one, other)]
    for due in dues:
        assert issued + 0.56 * life <= due <= issued + 0.67 * life
        assert standing(made, due - life / 100) == "valid", "nobody in time is told to be late"
    assert (one < other) == (dues[0] > dues[1]) or abs(one - other) < 1e-4


@settings(deadline=None)
@given(moments, lives, st.lists(fractions, min_size=2))
def test_it_only_gets_worse_with_time(issued: float, life: float, when: list[float]) -> None:
    order = ("valid", "due", "late", "expired")
    made = certificate(issued, life)
    seen = [order.index(standing(made, issued + 1.5 * life * part)) for part in sorted(when)]
    assert seen == sorted(seen)


def test_states_have_their_times() -> None:
    made = certificate(0, 30 * DAY)
    states = [standing(made, days * DAY) for days in (0, 19, 21, 24, 26, 29.9, 30, 99)]
    assert states == ["valid", "valid", "due", "due", "late", "late", "expired", "expired"]


def test_certificate_without_a_life_has_expired() -> None:
    assert standing(certificate(1000, 0), 0) == "expired"


def test_what_was_made_until_the_revocation_is_void_and_nothing_else() -> None:
    revoked = {"alpha": 1000.0}
    assert is_revoked(certificate(999, DAY), revoked)
    assert is_revoked(certificate(1000, DAY), revoked)
    assert not is_revoked(certificate(1001, DAY), revoked)
    assert not is_revoked(certificate(999, DAY, host="beta"), revoked)
    assert not is_revoked(certificate(999, DAY, host=None), revoked)
