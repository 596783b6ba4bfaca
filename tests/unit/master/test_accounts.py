# SPDX-License-Identifier: Apache-2.0
"""Operators' accounts on disk: made, used, revoked; what is stored gives nobody a login."""

import stat
from pathlib import Path

import pytest

from discluster.errors import DisclusterError, RefusedError, StateError
from discluster.master.access.accounts import Accounts, Signed
from discluster.operators import CredentialView

NOW = 1_800_000_000.0


def signing(serial: int, *, expires: float = NOW + 1000.0) -> Signed:
    return Signed("pem", serial, expires)


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    return Accounts(tmp_path / "operators.json")


def login(accounts: Accounts, name: str = "alice", *, ttl: float = 60.0) -> str:
    return accounts.create(name, "operate", kind="login", ttl=ttl, now=NOW)


def test_login_token_is_good_for_one_certificate(accounts: Accounts) -> None:
    token = login(accounts)
    account, signed = accounts.log_in(token, now=NOW, sign=lambda _: signing(7))
    assert (account.name, account.role, signed.serial) == ("alice", "operate", 7)
    with pytest.raises(RefusedError, match="used already") as caught:
        accounts.log_in(token, now=NOW, sign=lambda _: signing(8))
    assert caught.value.code == "login-unknown"
    assert accounts.of_certificate("alice", 7, now=NOW)[0].role == "operate"
    with pytest.raises(RefusedError):
        accounts.of_certificate("alice", 8, now=NOW)


def test_login_token_that_was_not_signed_for_is_still_good(accounts: Accounts) -> None:
    def refuse(_: str) -> Signed:
        raise RefusedError("the certificate request is not valid")

    token = login(accounts)
    with pytest.raises(RefusedError, match="request is not valid"):
        accounts.log_in(token, now=NOW, sign=refuse)
    accounts.log_in(token, now=NOW, sign=lambda _: signing(7))


def test_expired_credentials_are_refused_in_words(accounts: Accounts) -> None:
    token = login(accounts, ttl=60)
    call = accounts.create("alice", "operate", kind="token", ttl=60, now=NOW)
    with pytest.raises(RefusedError, match="this login of alice has expired"):
        accounts.owner_of_login(token, now=NOW + 60)
    with pytest.raises(RefusedError, match="has expired") as caught:
        accounts.of_token(call, now=NOW + 60)
    assert caught.value.code == "login-expired"
    accounts.log_in(token, now=NOW, sign=lambda _: signing(7, expires=NOW + 100))
    with pytest.raises(RefusedError, match="has expired"):
        accounts.of_certificate("alice", 7, now=NOW + 100)


def test_each_kind_of_token_is_good_for_its_own_use_only(accounts: Accounts) -> None:
    with pytest.raises(RefusedError):
        accounts.of_token(login(accounts), now=NOW)
    call = accounts.create("alice", "operate", kind="token", ttl=60, now=NOW)
    with pytest.raises(RefusedError):
        accounts.owner_of_login(call, now=NOW)


def test_revoked_operator_who_is_made_anew_gets_nothing_back(accounts: Accounts) -> None:
    call = accounts.create("alice", "operate", kind="token", ttl=60, now=NOW)
    accounts.log_in(login(accounts), now=NOW, sign=lambda _: signing(7))
    unused = login(accounts)
    accounts.revoke("alice")
    accounts.create("alice", "view", kind="login", ttl=60, now=NOW)
    for again in (
        lambda: accounts.of_certificate("alice", 7, now=NOW),
        lambda: accounts.of_token(call, now=NOW),
        lambda: accounts.owner_of_login(unused, now=NOW),
    ):
        with pytest.raises(RefusedError, match="was revoked"):
            again()


def test_role_of_an_operator_does_not_change_by_the_way(accounts: Accounts) -> None:
    login(accounts)
    with pytest.raises(DisclusterError, match="alice is an operator already, with the role operat"):
        accounts.create("alice", "view", kind="token", ttl=60, now=NOW)


def test_revoking_nobody_names_who_there_is(accounts: Accounts) -> None:
    login(accounts, "bob")
    with pytest.raises(DisclusterError) as caught:
        accounts.revoke("alice")
    assert caught.value.hint == "operators: bob"


def test_what_is_stored_outlives_a_restart_and_holds_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "operators.json"
    before = Accounts(path)
    token = login(before)
    call = before.create("alice", "operate", kind="token", ttl=60, now=NOW)
    assert token not in path.read_text()
    assert call not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    after = Accounts(path)
    after.log_in(token, now=NOW, sign=lambda _: signing(7))
    assert after.of_token(call, now=NOW)[0].name == "alice"
    assert Accounts(path).of_certificate("alice", 7, now=NOW)[0].name == "alice"


def test_token_is_a_word_on_a_command_line(accounts: Accounts) -> None:
    tokens = {login(accounts) for _ in range(50)}
    assert len(tokens) == 50
    assert all(token.isalnum() and len(token) == 64 for token in tokens)


def test_change_that_cannot_be_stored_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "there" / "operators.json"
    accounts = Accounts(path)
    login(accounts)
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("a file where the directory should be")
    with pytest.raises(StateError):
        accounts.revoke("alice")
    assert [view.name for view in accounts.listed(now=NOW).operators] == ["alice"]


def test_file_that_cannot_be_read_is_an_error_in_words(tmp_path: Path) -> None:
    path = tmp_path / "operators.json"
    path.write_text('[{"name": "alice"}]')
    with pytest.raises(StateError, match=r"operators\.json: cannot be read"):
        Accounts(path)


def test_number_of_credentials_is_bounded_and_the_newest_count(accounts: Accounts) -> None:
    login(accounts)
    for serial in range(1, 101):
        number = serial
        accounts.renew("alice", now=NOW, sign=lambda _, number=number: signing(number))  # type: ignore[misc]
    with pytest.raises(RefusedError):
        accounts.of_certificate("alice", 84, now=NOW)
    accounts.of_certificate("alice", 85, now=NOW)
    for _ in range(100):
        login(accounts)
    (view,) = accounts.listed(now=NOW).operators
    assert len(view.credentials) == 32


def test_list_tells_what_is_held_and_what_was_seen(accounts: Accounts) -> None:
    login(accounts, "bob")
    login(accounts, "alice", ttl=60)
    accounts.log_in(login(accounts), now=NOW, sign=lambda _: signing(7))
    accounts.saw("alice", "192.0.2.7", now=NOW + 30)
    alice, bob = accounts.listed(now=NOW + 100).operators
    assert (alice.name, alice.seen, alice.address) == ("alice", NOW + 30, "192.0.2.7")
    assert alice.credentials == (CredentialView(kind="certificate", expires=NOW + 1000),)
    assert (bob.name, bob.credentials, bob.seen) == ("bob", (), None)
