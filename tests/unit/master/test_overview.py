# SPDX-License-Identifier: Apache-2.0
"""What operators are told of certificates."""

import datetime
from pathlib import Path

import msgspec
import pytest

from discluster.certificates import Certificate
from discluster.master.access.authority import Authority
from discluster.master.access.overview import Sight, overview, troubles
from discluster.master.access.rotation import HostRecord

DAY = 86_400.0
NOW = 1_700_000_000.0
replace = msgspec.structs.replace


def made(issued: float, life: float = 30 * DAY) -> Certificate:
    return Certificate(
        serial="1f", issued=issued, expires=issued + life, authority="0a", host="alpha"
    )


@pytest.fixture
def sight(tmp_path: Path) -> Sight:
    authority = Authority(tmp_path / "ca", now=datetime.datetime.fromtimestamp(NOW, datetime.UTC))
    return Sight(
        now=NOW,
        phase=authority.phase,
        trusted=authority.trusted,
        newest=authority.newest,
        master=made(NOW),
        hosts={"alpha": HostRecord(certificate=made(NOW)), "beta": None},
        present=("alpha",),
    )


def told(sight: Sight) -> list[tuple[str, str, str | None]]:
    return [(t.severity, t.text, t.host) for t in troubles(sight)]


def test_nothing_is_told_while_all_is_well(sight: Sight) -> None:
    assert told(sight) == []
    status = overview(sight)
    assert [view.state for view in status.certificates] == ["valid"] * 3
    assert status.unknown == ("beta",)
    assert status.certificates[0].age == pytest.approx(0, abs=1)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (21, []),
        (26, [("warning", "its certificate expires in 4 d and was not renewed", "alpha")]),
        (40, [("error", "its certificate expired 10 d ago: it cannot connect", "alpha")]),
    ],
)
def test_hosts_certificate_is_told_before_its_end_and_after(
    sight: Sight, days: float, expected: list[tuple[str, str, str]]
) -> None:
    old = {"alpha": HostRecord(certificate=made(NOW - days * DAY))}
    assert told(replace(sight, hosts=old)) == expected


def test_masters_own_and_the_authoritys_end_are_told(sight: Sight) -> None:
    late = replace(sight, master=made(NOW - 29 * DAY))
    assert told(late) == [
        ("error", "MASTER's certificate expires in 24 h and was not renewed", None)
    ]
    in_ten_years = replace(sight, now=NOW + 3500 * DAY, hosts={}, master=made(NOW + 3500 * DAY))
    text = "the certificate authority that signs expires in 150 d"
    assert told(in_ten_years) == [("warning", text, None)]


@pytest.mark.parametrize(
    ("skew", "words"), [(9.0, None), (90.0, "2 min ahead of"), (-7200.0, "2 h behind")]
)
def test_clock_that_differs_is_told_while_its_host_is_there(
    sight: Sight, skew: float, words: str | None
) -> None:
    expected = [("warning", f"its clock is {words} MASTER's", "alpha")] if words else []
    skewed = replace(sight, skews={"alpha": skew})
    assert told(skewed) == expected
    assert told(replace(skewed, present=())) == []


def test_revoked_host_is_told_until_it_is_removed_or_has_joined_again(sight: Sight) -> None:
    out = replace(sight, revoked={"alpha": NOW + 1, "beta": NOW, "gone": NOW})
    assert told(out) == [
        ("notice", "revoked: kept out", "alpha"),
        ("notice", "revoked: kept out", "beta"),
    ]
    assert set(overview(out).revoked) == {"alpha", "beta"}
    again = {"alpha": HostRecord(certificate=made(NOW + 2))}
    assert told(replace(out, hosts=again)) == []


def test_what_went_wrong_is_told_first(sight: Sight) -> None:
    assert told(replace(sight, trouble="the disk is full")) == [
        ("error", "certificates: the disk is full", None)
    ]
