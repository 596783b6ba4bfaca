# SPDX-License-Identifier: Apache-2.0
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from discluster import pem
from discluster.console import Failure
from discluster.control.identity import Identity
from discluster.control.joining import join as join_fleet
from discluster.errors import (
    ConfigurationError,
    ProtocolError,
    RefusedError,
    StateError,
    UnavailableError,
)
from discluster.master.access.authority import Authority
from tests.unit.control.masters import NOW, SmallMaster, joined_identity


async def join(
    master: SmallMaster,
    identity: Identity,
    fingerprint: str | None = None,
    wall: Callable[[], float] | None = None,
) -> None:
    await join_fleet(
        identity,
        master=master.url + "/",
        token="the-token",
        ca_fingerprint=fingerprint or master.authority.fingerprint,
        host="alpha",
        wall=wall or NOW.timestamp,
    )


async def test_joining_stores_what_the_link_needs(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    identity = Identity(tmp_path / "control" / "identity")
    async with master.serve():
        await join(master, identity)
    assert identity.joined
    assert identity.host_name() == "alpha"
    assert identity.master_url() == master.url
    context = identity.ssl_context("alpha", now=NOW.timestamp())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    key = tmp_path / "control" / "identity" / "host.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert (master.joined[0].token, master.joined[0].host) == ("the-token", "alpha")
    assert "PRIVATE" not in master.joined[0].csr


async def test_wrong_fingerprint_keeps_the_token_here(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    identity = Identity(tmp_path / "identity")
    async with master.serve():
        with pytest.raises(RefusedError, match="another authority than expected") as caught:
            await join(master, identity, "sha256:" + "0" * 64)
    assert "somebody is between" in str(caught.value.hint)
    assert master.joined == []
    assert not identity.joined


@pytest.mark.parametrize(
    ("ahead", "words"), [(3 * 3600, "3 h ahead of"), (-2 * 3600 - 900, "2 h 15 min behind")]
)
async def test_clock_that_differs_is_told_before_the_token_is_used(
    tmp_path: Path, ahead: float, words: str
) -> None:
    master = SmallMaster(tmp_path / "master")
    identity = Identity(tmp_path / "identity")
    async with master.serve():
        with pytest.raises(RefusedError) as caught:
            await join(master, identity, wall=lambda: time.time() + ahead)
    assert caught.value.code == "clock"
    assert f"this machine's clock is {words} MASTER's" in caught.value.message
    assert "the token was not used" in str(caught.value.hint)
    assert master.joined == []
    assert not identity.joined


async def test_answer_for_another_key_is_not_stored(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    identity = Identity(tmp_path / "identity")
    key = ec.generate_private_key(ec.SECP256R1())
    master.certificate = master.authority.sign_host(pem.request_for(key, "alpha"), "alpha", now=NOW)
    async with master.serve():
        with pytest.raises(ProtocolError, match="for another key than ours"):
            await join(master, identity)
    assert not identity.joined


async def test_fingerprint_of_either_authority_is_good_while_one_replaces_the_other(
    tmp_path: Path,
) -> None:
    master = SmallMaster(tmp_path / "master")
    master.authority.announce(NOW)
    identity = Identity(tmp_path / "identity")
    async with master.serve():
        await join(master, identity)
    assert len(identity.trusts()) == 2
    master.authority.replace()
    stale = Identity(tmp_path / "stale")
    fingerprint = pem.fingerprint(master.authority.trusted[1])
    async with master.serve():
        with pytest.raises(RefusedError, match="is not accepted"):
            await join(master, stale, fingerprint)
        await join(master, stale)
    assert stale.trusts() == tuple(pem.authorities(master.authority.bundle))


async def test_server_that_shows_the_right_authority_but_is_not_of_it_gets_no_token(
    tmp_path: Path,
) -> None:
    """Who sits in between can pass the certificate of the authority on, but not be signed by it."""
    master = SmallMaster(tmp_path / "master")
    impostor = Authority(tmp_path / "impostor", now=NOW)
    async with master.serve(impostor.server_context(["127.0.0.1"], now=NOW)):
        with pytest.raises(RefusedError, match="is not accepted"):
            await join(master, Identity(tmp_path / "identity"))
    assert master.joined == []


async def test_refused_token_is_told_in_masters_words(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    master.refusal = Failure(code="token-expired", message="it has expired", hint="make a new one")
    identity = Identity(tmp_path / "identity")
    async with master.serve():
        with pytest.raises(RefusedError) as caught:
            await join(master, identity)
    assert (caught.value.code, caught.value.render()) == (
        "token-expired",
        "it has expired (make a new one)",
    )
    assert caught.value.exit_status == 77
    assert not identity.joined


async def test_server_that_is_no_master_is_told(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    async with master.serve():
        master.url += "/elsewhere"
        with pytest.raises(ProtocolError, match=r"does not answer like a MASTER \(HTTP 404\)"):
            await join(master, Identity(tmp_path / "identity"))


async def test_absent_master_is_told(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    async with master.serve():
        pass
    with pytest.raises(UnavailableError, match="MASTER cannot be reached at"):
        await join(master, Identity(tmp_path / "identity"))


async def test_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    master = SmallMaster(tmp_path / "master")
    (tmp_path / "file").write_text("")
    async with master.serve():
        with pytest.raises(StateError, match=r"ca\.crt: cannot be written"):
            await join(master, Identity(tmp_path / "file" / "identity"))


def test_machine_that_did_not_join_is_told_how(tmp_path: Path) -> None:
    identity = Identity(tmp_path)
    assert identity.master_url() is None
    with pytest.raises(ConfigurationError) as caught:
        identity.ssl_context("alpha", now=NOW.timestamp())
    assert "disclusterctl token create --host alpha" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["host.pem", "ca.crt"])
def test_damaged_identity_is_told(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path / "ca", now=NOW)
    identity = joined_identity(tmp_path / "identity", authority)
    (tmp_path / "identity" / name).write_text("damaged")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        identity.ssl_context("alpha", now=NOW.timestamp())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3"])
def test_damaged_address_of_master_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "joined.json").write_text(text)
    with pytest.raises(StateError, match=r"joined\.json: cannot be read") as caught:
        Identity(tmp_path).master_url()
    assert "join again" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["damaged", ""])
def test_damaged_certificate_has_no_host_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "host.pem").write_text(text)
    with pytest.raises(StateError, match="not this host's certificate"):
        Identity(tmp_path).host_name()
