# SPDX-License-Identifier: Apache-2.0
"""The certificate authority and the join tokens, with real handshakes on loopback."""

import asyncio
import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from discluster import pem
from discluster.errors import RefusedError, StateError
from discluster.master.access.authority import Authority
from discluster.master.access.tokens import TokenDesk
from tests.unit.master.tls import client_context, csr_of, new_key, signed_host

NOW = datetime.datetime.now(datetime.UTC)


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> object:
    """What the server learns of the client: its certificate, or None without one."""
    seen: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("peercert"))
        writer.write(await reader.read(1))
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    try:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=name
        )
        try:
            writer.write(b"x")
            # With TLS 1.3 a refused client certificate is told after the handshake only.
            if await reader.read(1) != b"x":
                raise ConnectionResetError("the server closed the connection")
            return await seen
        finally:
            writer.transport.abort()
    finally:
        listener.close()
        seen.cancel()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", now=NOW)


async def test_a_host_with_its_certificate_is_known_by_its_name(
    authority: Authority, tmp_path: Path
) -> None:
    server = authority.server_context(["localhost", "127.0.0.1"], now=NOW)
    client = client_context(authority, signed_host(authority, "alpha", tmp_path, now=NOW))
    seen = await handshake(server, client, "localhost")
    assert isinstance(seen, dict)
    assert seen["subjectAltName"] == (("DNS", "alpha"),)


async def test_a_machine_without_a_certificate_connects_and_is_nobody(
    authority: Authority,
) -> None:
    server = authority.server_context(["localhost"], now=NOW)
    assert not await handshake(server, client_context(authority), "localhost")


async def test_a_client_refuses_a_master_of_another_authority_or_name(
    authority: Authority, tmp_path: Path
) -> None:
    server = authority.server_context(["master.example"], now=NOW)
    other = Authority(tmp_path / "other", now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(server, client_context(other), "master.example")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await handshake(server, client_context(authority), "localhost")


async def test_master_refuses_a_host_of_another_authority(
    authority: Authority, tmp_path: Path
) -> None:
    server = authority.server_context(["localhost"], now=NOW)
    other = Authority(tmp_path / "other", now=NOW)
    stranger = client_context(authority, signed_host(other, "alpha", tmp_path, now=NOW))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(server, stranger, "localhost")


async def test_master_refuses_an_expired_certificate(authority: Authority, tmp_path: Path) -> None:
    server = authority.server_context(["localhost"], now=NOW)
    long_ago = NOW - datetime.timedelta(days=366)
    late = client_context(authority, signed_host(authority, "alpha", tmp_path, now=long_ago))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(server, late, "localhost")


async def test_masters_own_certificate_makes_nobody_a_host(
    authority: Authority, tmp_path: Path
) -> None:
    server = authority.server_context(["localhost"], now=NOW)
    both = tmp_path / "ca" / "server.pem"
    pair = (both, both)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(server, client_context(authority, pair), "localhost")


async def test_old_versions_of_tls_are_refused(authority: Authority) -> None:
    server = authority.server_context(["localhost"], now=NOW)
    old = client_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(server, old, "localhost")


def test_the_authority_stays_the_same_over_a_restart(authority: Authority, tmp_path: Path) -> None:
    again = Authority(tmp_path / "ca", now=NOW)
    assert again.certificate == authority.certificate
    assert again.fingerprint == authority.fingerprint
    assert again.fingerprint.startswith("sha256:")


def test_keys_are_readable_by_their_owner_only(authority: Authority, tmp_path: Path) -> None:
    authority.server_context(["localhost"], now=NOW)
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    for name in ("ca.pem", "server.pem"):
        assert stat.S_IMODE((tmp_path / "ca" / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["gone", "garbage", "foreign", "rsa"])
def test_a_damaged_authority_is_refused_and_not_made_anew(
    authority: Authority, tmp_path: Path, damage: str
) -> None:
    own = tmp_path / "ca" / "ca.pem"
    if damage == "gone":
        authority.server_context(["localhost"], now=NOW)
        own.unlink()
    elif damage == "garbage":
        own.write_text("garbage")
    elif damage == "foreign":
        Authority(tmp_path / "other", now=NOW)
        theirs = (tmp_path / "other" / "ca.pem").read_text()
        key = pem.pem_blocks(theirs, "PRIVATE KEY")[0]
        own.write_text(key + authority.certificate)
    else:
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        raw = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        own.write_text(raw.decode() + authority.certificate)
    with pytest.raises(StateError) as caught:
        Authority(tmp_path / "ca", now=NOW)
    assert str(tmp_path / "ca") in caught.value.message
    assert "backup" in str(caught.value.hint)


def test_the_name_in_the_request_does_not_count(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(
        authority.sign_host(csr_of(new_key(), "evil"), "alpha", now=NOW).encode()
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["alpha"]
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not basic.ca


def test_a_request_that_is_none_is_refused(authority: Authority) -> None:
    tampered = csr_of(new_key(), "alpha").splitlines()
    tampered[2] = tampered[2][::-1]
    weak = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    of_rsa = x509.CertificateSigningRequestBuilder().subject_name(name).sign(weak, hashes.SHA256())
    for csr in (
        "",
        "hello",
        "é",
        "\n".join(tampered),
        of_rsa.public_bytes(serialization.Encoding.PEM).decode(),
    ):
        with pytest.raises(RefusedError, match="certificate request is not valid"):
            authority.sign_host(csr, "alpha", now=NOW)


def test_a_key_is_of_the_curve_that_everybody_has() -> None:
    assert isinstance(new_key().curve, ec.SECP256R1)


# --- join tokens ----------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path) -> TokenDesk:
    return TokenDesk(tmp_path / "tokens.json")


def test_a_token_works_once(desk: TokenDesk) -> None:
    token = desk.create(host=None, ttl=60, now=1000)
    desk.redeem(token, host="alpha", now=1059)
    with pytest.raises(RefusedError, match="was used already, by alpha") as caught:
        desk.redeem(token, host="beta", now=1059)
    assert caught.value.code == "token-used"
    assert token not in caught.value.render()


def test_a_token_that_was_never_made_is_unknown(desk: TokenDesk) -> None:
    desk.create(host=None, ttl=60, now=1000)
    with pytest.raises(RefusedError, match="is unknown") as caught:
        desk.redeem("0" * 48, host="alpha", now=1001)
    assert caught.value.code == "token-unknown"


def test_what_was_wrong_with_a_token_is_told_for_a_day_longer(desk: TokenDesk) -> None:
    used = desk.create(host="alpha", ttl=60, now=1000)
    desk.redeem(used, host="alpha", now=1001)
    expired = desk.create(host=None, ttl=60, now=1059)
    desk.create(host=None, ttl=60, now=80_000)
    for token, words in ((used, "was used already"), (expired, "has expired")):
        with pytest.raises(RefusedError, match=words):
            desk.redeem(token, host="alpha", now=80_000)
    desk.create(host=None, ttl=60, now=90_000)
    with pytest.raises(RefusedError, match="is unknown"):
        desk.redeem(used, host="alpha", now=90_000)


def test_a_token_expires(desk: TokenDesk) -> None:
    token = desk.create(host=None, ttl=60, now=1000)
    with pytest.raises(RefusedError, match="has expired"):
        desk.redeem(token, host="alpha", now=1060)


def test_a_token_for_one_host_is_for_no_other_and_is_not_used_up_by_it(desk: TokenDesk) -> None:
    token = desk.create(host="alpha", ttl=60, now=1000)
    with pytest.raises(RefusedError, match="for another host than beta"):
        desk.redeem(token, host="beta", now=1001)
    desk.redeem(token, host="alpha", now=1002)


def test_tokens_are_kept_over_a_restart_as_hashes(desk: TokenDesk, tmp_path: Path) -> None:
    token = desk.create(host="alpha", ttl=60, now=1000)
    desk.create(host=None, ttl=60, now=1001)
    text = (tmp_path / "tokens.json").read_text()
    assert token not in text
    assert stat.S_IMODE((tmp_path / "tokens.json").stat().st_mode) == 0o600
    TokenDesk(tmp_path / "tokens.json").redeem(token, host="alpha", now=1002)


def test_expired_tokens_do_not_pile_up(desk: TokenDesk, tmp_path: Path) -> None:
    for now in range(0, 1_000_000, 100_000):
        desk.create(host=None, ttl=60, now=now)
    assert (tmp_path / "tokens.json").read_text().count("sha256") == 1


def test_a_damaged_token_file_is_told(desk: TokenDesk, tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("{")
    with pytest.raises(StateError, match=r"tokens\.json: cannot be read"):
        desk.redeem("x", host="alpha", now=0)
