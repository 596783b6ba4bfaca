# SPDX-License-Identifier: Apache-2.0
"""Where logins are kept, which one is meant, and which way to MASTER is taken."""

import stat
from pathlib import Path

import pytest

from discluster.clock import SystemClock
from discluster.ctl.logins import Login, Logins, directory_of, key_of
from discluster.ctl.remote import RemoteTransport
from discluster.ctl.transport import SocketTransport
from discluster.ctl.ways import chosen
from discluster.errors import DisclusterError, StateError
from discluster.secret import Secret


def login(master: str = "https://m.example:7443", *, name: str = "alice") -> Login:
    return Login(master=master, ca="PEM", name=name, role="view", kind="certificate")


@pytest.fixture
def logins(tmp_path: Path) -> Logins:
    return Logins(tmp_path / "discluster" / "logins")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/home/a"}, "/home/a/.config/discluster/logins"),
        ({"HOME": "/home/a", "XDG_CONFIG_HOME": "/c"}, "/c/discluster/logins"),
        ({"HOME": "/home/a", "XDG_CONFIG_HOME": "c"}, "/home/a/.config/discluster/logins"),
        ({"HOME": ""}, None),
        ({}, None),
    ],
)
def test_place_is_by_the_xdg_base_directories(
    environ: dict[str, str], expected: str | None
) -> None:
    found = directory_of(environ)
    assert (None if found is None else str(found)) == expected


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://m.example:7443", "m.example:7443"),
        ("https://M.example:7443/", "m.example:7443"),
        ("https://[2001:db8::1]:7443", "[2001:db8::1]:7443"),
    ],
)
def test_login_is_filed_under_host_and_port(url: str, key: str) -> None:
    assert key_of(url) == key


@pytest.mark.parametrize(
    "url",
    ["", "m.example", "http://m", "https://", "https://m/path", "https://../x", "https://u@m"],
)
def test_what_is_no_address_of_a_master_is_told(url: str) -> None:
    with pytest.raises(DisclusterError, match="is no address of a MASTER") as caught:
        key_of(url)
    assert caught.value.hint == "it looks like https://master.example.net:7443"


def test_login_is_kept_for_this_user_alone(logins: Logins, tmp_path: Path) -> None:
    logins.store(login(), pem="KEY AND CERTIFICATE")
    directory = tmp_path / "discluster" / "logins"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert names == dict.fromkeys(("current", "m.example:7443.json", "m.example:7443.pem"), 0o600)
    assert logins.chosen(None) == login()
    logins.store(login(), token=Secret("T"))
    assert not (directory / "m.example:7443.pem").exists(), "what was shown before is gone"
    assert logins.token(login()).reveal() == "T"


def test_newest_login_is_the_current_one_and_others_can_be_named(logins: Logins) -> None:
    first, second = login("https://a.example:1"), login("https://b.example:2", name="bob")
    logins.store(first, pem="1")
    logins.store(second, pem="2")
    assert logins.chosen(None) == second
    for wanted in ("https://a.example:1", "https://A.example:1/", "a.example:1", "a.example"):
        assert logins.chosen(wanted) == first
    logins.store(login("https://a.example:3"), pem="3")
    with pytest.raises(DisclusterError, match=r"you are not logged in at a\.example") as caught:
        logins.chosen("a.example")
    assert caught.value.hint == "logins: a.example:1, a.example:3, b.example:2"


def test_forgotten_login_leaves_nothing(logins: Logins, tmp_path: Path) -> None:
    logins.store(login(), pem="1")
    logins.forget(login())
    assert list((tmp_path / "discluster" / "logins").iterdir()) == []
    with pytest.raises(DisclusterError, match="not logged in anywhere"):
        logins.chosen(None)


def test_file_that_cannot_be_read_is_told_with_its_place(logins: Logins, tmp_path: Path) -> None:
    logins.store(login(), pem="1")
    (tmp_path / "discluster" / "logins" / "m.example:7443.json").write_text("{")
    with pytest.raises(StateError, match=r"m\.example:7443\.json: cannot be read"):
        logins.chosen(None)


def test_without_a_home_there_is_no_login_and_no_place_for_one() -> None:
    nowhere = Logins(None)
    assert (nowhere.keys(), nowhere.current()) == ([], None)
    with pytest.raises(StateError, match="no place to keep a login"):
        nowhere.store(login(), pem="1")


def test_way_is_the_one_asked_for_else_the_socket_here_else_the_login(
    logins: Logins, tmp_path: Path
) -> None:
    def way(socket: Path | None = None, wanted: str | None = None) -> object:
        return chosen(
            socket, wanted, default=tmp_path / "s.sock", logins=logins, clock=SystemClock()
        )

    assert isinstance(way(), SocketTransport), "which then says that MASTER is not here"
    logins.store(login(), pem="1")
    assert isinstance(way(), RemoteTransport)
    assert isinstance(way(socket=tmp_path / "other.sock"), SocketTransport)
    (tmp_path / "s.sock").touch()
    assert isinstance(way(), SocketTransport)
    assert isinstance(way(wanted="m.example"), RemoteTransport)
    with pytest.raises(DisclusterError, match="two ways to MASTER"):
        way(tmp_path / "other.sock", "m.example")
    with pytest.raises(DisclusterError, match="not logged in at x"):
        way(wanted="x")
