# SPDX-License-Identifier: Apache-2.0
"""What MASTER keeps of certificates, over restarts and clocks that are set."""

import datetime
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster import pem
from discluster.certificates import Certificate, is_revoked
from discluster.errors import StateError
from discluster.master.access.authority import Authority
from discluster.master.access.register import Register, Revocations
from discluster.master.access.tls import ServerTls
from tests.clock import ManualClock
from tests.unit.master.tls import csr_of, new_key

NOW = 1_700_000_000.0
DAY = 86_400.0


def made(serial: str = "1f", authority: str = "0a") -> Certificate:
    return Certificate(serial=serial, issued=NOW, expires=NOW + DAY, authority=authority, host="x")


def test_register_remembers_what_was_saved(tmp_path: Path) -> None:
    register = Register(tmp_path)
    register.note("alpha", made(), ("0a", "0b"))
    register.note("beta", made("2f"))
    register.rotation(NOW, frozenset({"gamma", "beta"}))
    register.save()
    register.note("alpha", made("3f"))
    again = Register(tmp_path)
    assert again.hosts["alpha"].certificate.serial == "1f"
    assert (again.began, again.left_behind) == (NOW, frozenset({"gamma", "beta"}))
    assert register.hosts["alpha"].trusts == ("0a", "0b"), "what it trusts was not said to change"
    register.forget("beta")
    register.save()
    again = Register(tmp_path)
    assert set(again.hosts) == {"alpha"}
    assert again.left_behind == {"gamma"}


def test_nothing_new_is_not_written(tmp_path: Path) -> None:
    register = Register(tmp_path)
    register.note("alpha", made(), ("0a",))
    register.save()
    (tmp_path / "register.json").unlink()
    register.note("alpha", made(), ())
    register.note("alpha", made(), ("0a",))
    register.save()
    assert not (tmp_path / "register.json").exists()


def test_damaged_register_begins_anew_and_a_damaged_list_of_revoked_hosts_stops_master(
    tmp_path: Path,
) -> None:
    for name in ("register.json", "revoked.json"):
        (tmp_path / name).write_text("{")
    assert Register(tmp_path).hosts == {}
    with pytest.raises(StateError, match=r"revoked\.json: cannot be read") as caught:
        Revocations(tmp_path, now=NOW)
    assert "disclusterctl ca rotate" in str(caught.value.hint)


def test_revocation_is_on_disk_at_once_and_forgotten_when_it_is_of_no_use(tmp_path: Path) -> None:
    Revocations(tmp_path, now=NOW).revoke("alpha", NOW + 0.7)
    assert Revocations(tmp_path, now=NOW + 399 * DAY).until == {"alpha": NOW}
    assert stat.S_IMODE((tmp_path / "revoked.json").stat().st_mode) == 0o600
    assert Revocations(tmp_path, now=NOW + 401 * DAY).until == {}


@settings(deadline=None)
@given(st.floats(0, 4e9), st.floats(-1e6, 1e6))
def test_who_joins_after_its_revocation_counts_wherever_the_clock_was_set(
    tmp_path_factory: pytest.TempPathFactory, at: float, later: float
) -> None:
    revocations = Revocations(tmp_path_factory.mktemp("ca"), now=at)
    revocations.revoke("alpha", at)
    # A certificate says it in whole seconds.
    issued = float(int(revocations.issue_at("alpha", max(0.0, at + later))))
    new = Certificate(serial="1", issued=issued, expires=issued + 1, authority="0a", host="alpha")
    assert not is_revoked(new, revocations.until)


def test_revoking_again_never_lets_in_what_was_void(tmp_path: Path) -> None:
    revocations = Revocations(tmp_path, now=NOW)
    revocations.revoke("alpha", NOW)
    revocations.revoke("alpha", NOW - 1000)
    assert revocations.until == {"alpha": NOW}


def test_certificate_that_is_signed_says_when_it_was(tmp_path: Path) -> None:
    moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    authority = Authority(tmp_path / "ca", now=moment)
    signed = pem.read(authority.sign_host(csr_of(new_key(), "x"), "alpha", now=moment))
    assert is_revoked(signed, {"alpha": NOW})
    assert not is_revoked(signed, {"alpha": NOW - 1})


def test_masters_certificate_follows_time_clock_and_authority(tmp_path: Path) -> None:
    clock = ManualClock(wall=NOW)
    moment = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    authority = Authority(tmp_path / "ca", now=moment)
    life = 30 * DAY
    tls = ServerTls(authority, ["localhost"], life=lambda: life, clock=clock)
    first = tls.certificate
    clock.jump(19.9 * DAY)
    assert not tls.look()
    clock.jump(0.2 * DAY)
    assert tls.look()
    second = tls.certificate
    assert second.expires == first.expires + 20.1 * DAY
    clock.jump(-2 * DAY)
    assert tls.look(), "the machine's clock was set back: it would not be valid yet"
    assert not tls.look()
    authority.announce(moment)
    assert tls.look(), "hosts with certificates of either are taken"
    assert tls.certificate.authority == second.authority
    authority.replace()
    assert tls.look()
    assert tls.certificate.authority == authority.id != second.authority
    authority.retire()
    assert tls.look()
    assert not tls.look()
