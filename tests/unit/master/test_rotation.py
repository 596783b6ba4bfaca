# SPDX-License-Identifier: Apache-2.0
"""A rotation of the authority: its rule, its files, and what kills on the way leave behind."""

import datetime
import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster import pem
from discluster.certificates import Certificate
from discluster.errors import StateError
from discluster.master.access.authority import Authority, Phase
from discluster.master.access.rotation import HostRecord, lacking, next_step
from tests.unit.master.tls import csr_of, new_key

NOW = datetime.datetime.now(datetime.UTC)
OLD, NEW = "0a", "0b"


def record(signed_by: str, *trusts: str) -> HostRecord:
    made = Certificate(serial="1", issued=0, expires=1, authority=signed_by, host="x")
    return HostRecord(certificate=made, trusts=trusts)


FRESH, TOLD, DONE = record(OLD, OLD), record(OLD, OLD, NEW), record(NEW, NEW, OLD)
records = st.sampled_from([None, FRESH, TOLD, DONE])
fleets = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), records)
phases: st.SearchStrategy[Phase] = st.sampled_from(["settled", "announced", "replacing"])


@settings(deadline=None)
@given(phases, fleets, st.sets(st.sampled_from(["a", "b", "c", "d"])))
def test_no_step_is_made_while_a_host_that_counts_lacks_what_it_needs(
    phase: Phase, hosts: dict[str, HostRecord | None], behind: set[str]
) -> None:
    step = next_step(phase, NEW, hosts, left_behind=behind)
    waited_for = [hosts[name] for name in hosts if name not in behind]
    assert (step is not None) == (phase != "settled" and not {*lacking(phase, NEW, hosts)} - behind)
    if step == "replace":
        assert all(host is not None and NEW in host.trusts for host in waited_for)
    if step == "retire":
        assert all(h is not None and h.certificate.authority == NEW for h in waited_for)


def test_steps_follow_each_other() -> None:
    assert next_step("settled", OLD, {"a": FRESH}) is None
    assert next_step("announced", NEW, {"a": FRESH, "b": TOLD}) is None
    assert next_step("announced", NEW, {"a": TOLD, "b": TOLD}) == "replace"
    assert next_step("replacing", NEW, {"a": DONE, "b": TOLD}) is None
    assert next_step("replacing", NEW, {"a": DONE, "b": TOLD}, left_behind={"b"}) == "retire"
    assert next_step("replacing", NEW, {"a": DONE}) == "retire"
    assert list(lacking("replacing", NEW, {"b": TOLD, "a": None, "c": DONE})) == ["a", "b"]


def ids(authority: Authority) -> list[str]:
    return [pem.authority_id(one) for one in authority.trusted]


def test_authority_is_replaced_step_by_step_and_remembers_each_over_a_restart(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "ca"
    old = Authority(directory, now=NOW).id

    def again() -> Authority:
        return Authority(directory, now=NOW)

    again().announce(NOW)
    announced = again()
    assert (announced.phase, announced.id, len(ids(announced))) == ("announced", old, 2)
    new = announced.newest
    assert new != old
    announced.replace()
    replacing = again()
    assert (replacing.phase, replacing.id, ids(replacing)) == ("replacing", new, [new, old])
    replacing.retire()
    assert (again().phase, ids(again())) == ("settled", [new])


def test_old_key_is_gone_as_soon_as_the_new_one_signs(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", now=NOW)
    key = pem.pem_blocks((tmp_path / "ca" / "ca.pem").read_text(), "PRIVATE KEY")[0]
    authority.announce(NOW)
    authority.replace()
    assert all(key not in path.read_text() for path in (tmp_path / "ca").iterdir())


def test_step_that_was_killed_half_way_was_not_made(tmp_path: Path) -> None:
    """The old certificate is put aside first; the renaming that follows is the step."""
    directory = tmp_path / "ca"
    authority = Authority(directory, now=NOW)
    authority.announce(NOW)
    (directory / "old.crt").write_text(authority.certificate)
    assert Authority(directory, now=NOW).phase == "announced"
    (directory / "next.pem").unlink()
    assert Authority(directory, now=NOW).phase == "settled", "its own is not one to give way"


def test_certificates_name_their_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", now=NOW)
    before = pem.read(authority.sign_host(csr_of(new_key(), "a"), "a", now=NOW, life=60))
    authority.announce(NOW)
    authority.replace()
    after = pem.read(authority.sign_host(csr_of(new_key(), "a"), "a", now=NOW, life=60))
    assert [after.authority, before.authority] == ids(authority)
    assert after.host == "a"
    assert after.life == pytest.approx(60, abs=1.1)


def test_two_files_of_former_versions_become_one(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    authority = Authority(directory, now=NOW)
    text = (directory / "ca.pem").read_text()
    (directory / "ca.pem").unlink()
    (directory / "ca.key").write_text(pem.pem_blocks(text, "PRIVATE KEY")[0])
    (directory / "ca.key").chmod(0o600)
    (directory / "ca.crt").write_text(authority.certificate)
    directory.chmod(0o750)
    assert Authority(directory, now=NOW).id == authority.id
    assert [path.name for path in directory.iterdir()] == ["ca.pem"]
    assert stat.S_IMODE((directory / "ca.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize(("name", "mode"), [("ca.pem", 0o640), ("next.pem", 0o604), (".", 0o750)])
def test_key_that_others_can_read_is_refused_with_its_name(
    tmp_path: Path, name: str, mode: int
) -> None:
    directory = tmp_path / "ca"
    Authority(directory, now=NOW).announce(NOW)
    path = directory / name
    path.chmod(mode)
    with pytest.raises(StateError) as caught:
        Authority(directory, now=NOW)
    assert caught.value.message.startswith(f"{path}: others than MASTER's user have access")
    assert f"mode {mode:04o}" in caught.value.message
    assert str(caught.value.hint).startswith("chmod ")
    path.chmod(0o700 if name == "." else 0o600)
    assert Authority(directory, now=NOW).phase == "announced"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_key_of_another_user_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    Authority(directory, now=NOW)
    shutil.chown(directory / "ca.pem", 65534)
    with pytest.raises(StateError, match=r"ca\.pem: belongs to another user"):
        Authority(directory, now=NOW)
