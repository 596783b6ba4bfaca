# SPDX-License-Identifier: Apache-2.0
"""Who has to go when there are too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.admission import Admission, Bounds, Guest, origin
from discluster.pace import CREDIT, LEAST, LONGEST, SHARE, Pace

BOUNDS = Bounds(strangers=6, per_address=3, per_name=2, moment=2.0)


class Hall:
    """An admission, and who was dropped from it."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.admission = Admission(bounds)
        self.there: list[Guest] = []
        self.dropped: list[Guest] = []

    def arrive(self, address: str, at: float = 0.0) -> Guest | None:
        guest = Guest(address, arrived=at, drop=lambda: self._drop(guest))
        if not self.admission.arrive(guest):
            return None
        self.there.append(guest)
        return guest

    def _drop(self, guest: Guest) -> None:
        self.there.remove(guest)
        self.dropped.append(guest)

    def come(self, address: str, at: float = 0.0) -> Guest:
        guest = self.arrive(address, at)
        assert guest is not None
        return guest


def test_newcomer_displaces_the_oldest_of_its_own_address_once_that_had_its_moment() -> None:
    hall = Hall()
    first = [hall.come("a", at) for at in (0.0, 0.1, 0.2)]
    assert hall.arrive("a", 1.9) is None
    assert hall.admission.turned_away == 1
    hall.come("a", 2.0)
    assert hall.dropped == [first[0]]
    assert hall.admission.strangers == 3


def test_whoever_has_the_most_gives_way_to_another_address() -> None:
    hall = Hall()
    crowd = [hall.come("a") for _ in range(3)]
    for address in ("b", "c", "d"):
        hall.come(address)
    hall.come("e")
    assert hall.dropped == crowd[:1], "however short a time it has been there"
    hall.come("f")
    assert hall.dropped == crowd[:2]


def test_honest_host_is_never_displaced_while_others_have_more() -> None:
    hall = Hall()
    honest = hall.come("honest")
    for number in range(1000):
        hall.arrive(f"attacker {number % 2}", at=number / 10)
    assert honest in hall.there
    assert hall.admission.strangers <= BOUNDS.strangers


def test_who_is_known_is_no_stranger_and_bounded_by_name() -> None:
    hall = Hall()
    alpha = [hall.come("a", at) for at in (0.0, 1.0)]
    for guest in alpha:
        hall.admission.recognise(guest, "alpha")
    assert (hall.admission.strangers, hall.admission.known) == (0, 2)
    third = hall.come("a", 2.0)
    hall.admission.recognise(third, "alpha")
    assert hall.dropped == [alpha[0]], "the newest stay"
    other = hall.come("a", 2.0)
    hall.admission.recognise(other, "beta")
    assert hall.dropped == [alpha[0]]
    hall.admission.recognise(other, "alpha")
    assert other.name == "beta", "once and for all"


def test_who_left_counts_no_more_and_may_leave_again() -> None:
    hall = Hall()
    stranger, known = hall.come("a"), hall.come("b")
    hall.admission.recognise(known, "beta")
    for _ in range(2):
        hall.admission.leave(stranger)
        hall.admission.leave(known)
    assert (hall.admission.strangers, hall.admission.known) == (0, 0)
    assert hall.admission.crowd() is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "recognise", "leave"]),
        st.sampled_from("abcdefgh"),
        st.integers(0, 30),
    ),
    max_size=80,
)


@given(STEPS)
def test_bounds_hold_whatever_happens(steps: list[tuple[str, str, int]]) -> None:
    hall = Hall()
    now = 0.0
    for deed, name, number in steps:
        now += number / 10
        if deed == "arrive":
            hall.arrive(name, now)
        elif hall.there:
            guest = hall.there[number % len(hall.there)]
            if deed == "recognise":
                hall.admission.recognise(guest, name)
            else:
                hall.admission.leave(guest)
                hall.there.remove(guest)
        strangers = [guest for guest in hall.there if guest.name is None]
        assert hall.admission.strangers == len(strangers) <= BOUNDS.strangers
        assert hall.admission.known == len(hall.there) - len(strangers)
        for one in "abcdefgh":
            assert sum(guest.address == one for guest in strangers) <= BOUNDS.per_address
            assert sum(guest.name == one for guest in hall.there) <= BOUNDS.per_name


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
    ],
)
def test_ipv6_addresses_of_one_subscriber_count_as_one(address: str, found: str) -> None:
    assert origin(address) == found


def test_peer_has_credit_and_then_its_share() -> None:
    pace, now = Pace(), 100.0
    assert pace.spent(CREDIT, now) == 0
    assert pace.spent(0.1, now) == pytest.approx(0.1 / SHARE)
    assert pace.spent(50.0, now) == LONGEST, "pings must be answered in between"
    now += (CREDIT + LONGEST * SHARE) / SHARE
    assert pace.spent(CREDIT, now) == pytest.approx(0), "what was long ago is forgotten"


def test_flood_of_small_messages_is_held_to_a_share_of_the_time() -> None:
    pace, now, count = Pace(), 0.0, 0
    while now < 60:
        now += pace.spent(0.0, now)
        count += 1
    assert count * LEAST <= CREDIT + 61 * SHARE
