# SPDX-License-Identifier: Apache-2.0
"""What is read off certificates, ours and those that others show."""

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from discluster import pem
from discluster.master.access.authority import Authority

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def hostile(oid: x509.ObjectIdentifier, value: bytes) -> x509.Certificate:
    """Signs itself; the extension is not what it should be."""
    own = key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        .sign(own, hashes.SHA256())
    )


def test_facts_of_a_hosts_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", now=NOW)
    made = pem.read(authority.sign_host(pem.request_for(key(), "x"), "alpha", now=NOW, life=60))
    assert (made.host, made.authority) == ("alpha", authority.id)
    assert (made.issued, made.expires) == (NOW.timestamp(), NOW.timestamp() + 60)
    authority.server_context(["alpha"], now=NOW)
    assert pem.read(authority.server_certificate()).host is None, "MASTER is no host"


@pytest.mark.parametrize("data", ["", "garbage", b"", b"garbage", "-----BEGIN CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_told(data: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        pem.read(data)


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x02\xa3\x00"),
        (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"garbage"),
        (ExtensionOID.SUBJECT_KEY_IDENTIFIER, b"garbage"),
        (ExtensionOID.EXTENDED_KEY_USAGE, b"\x30\x00"),
    ],
)
def test_certificate_that_somebody_made_up_is_told_and_breaks_nothing(
    oid: x509.ObjectIdentifier, value: bytes
) -> None:
    made = hostile(oid, value)
    with pytest.raises(ValueError, match=r"."):
        pem.facts(made)
    with pytest.raises(ValueError, match=r"."):
        pem.authorities(pem.public_pem(made))


def test_signer_is_told_from_one_of_the_same_name(tmp_path: Path) -> None:
    ours, theirs = (Authority(tmp_path / name, now=NOW) for name in ("a", "b"))
    made = pem.parsed(ours.sign_host(pem.request_for(key(), "x"), "x", now=NOW))
    assert pem.is_issued_by(made, ours.trusted[0])
    assert not pem.is_issued_by(made, theirs.trusted[0])
    assert not pem.is_issued_by(hostile(ExtensionOID.KEY_USAGE, b"x"), ours.trusted[0])


def test_blocks_are_found_among_others(tmp_path: Path) -> None:
    private = pem.private_pem(key())
    certificate = Authority(tmp_path / "ca", now=NOW).certificate
    both = f"# a comment\n{private}{certificate}"
    assert pem.pem_blocks(both, "PRIVATE KEY") == [private]
    assert pem.pem_blocks(both, "CERTIFICATE") == [certificate]
    loaded = serialization.load_pem_private_key(
        pem.pem_blocks(both, "PRIVATE KEY")[0].encode(), None
    )
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
