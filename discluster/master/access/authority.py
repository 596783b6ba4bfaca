# SPDX-License-Identifier: Apache-2.0
"""The fleet's certificate authority: made by MASTER at its first start, used by nobody else."""

import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from discluster.errors import RefusedError, StateError
from discluster.files import write_atomically

_CA_LIFE: Final = datetime.timedelta(days=3650)
_SERVER_LIFE: Final = datetime.timedelta(days=365)
_HOST_LIFE: Final = datetime.timedelta(days=365)
# Machines' clocks differ; a certificate made this instant must not be "not yet valid" elsewhere.
_SKEW: Final = datetime.timedelta(hours=1)


class Authority:
    """Key and certificate below ``directory``; signs MASTER's own and the hosts' certificates."""

    def __init__(self, directory: Path, *, now: datetime.datetime) -> None:
        """Reads the authority, or makes it. ``now``: with a time zone.

        Raises:
            StateError: the files are there but cannot be used, or cannot be written.
        """
        self._directory = directory
        if not (directory / "ca.crt").exists():
            self._make(now)
        try:
            self._certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
            key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise StateError(
                f"{directory}: the certificate authority cannot be read: {error}",
                hint="restore ca.key and ca.crt from a backup; without them every host must join"
                " again: remove the directory to make a new authority",
            ) from None
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or key.public_key() != self._certificate.public_key()
        ):
            raise StateError(
                f"{directory}: ca.key is not the key of ca.crt", hint="restore both from a backup"
            )
        self._key = key

    @property
    def certificate(self) -> str:
        """PEM."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """``sha256:HEX`` of the certificate: what an operator carries to a new host."""
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        return f"sha256:{hashlib.sha256(der).hexdigest()}"

    def server_context(self, names: Iterable[str], *, now: datetime.datetime) -> ssl.SSLContext:
        """TLS 1.3 for MASTER under ``names``, asking for the hosts' certificates.

        A certificate is not demanded by TLS itself: a machine that joins has none yet.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [_general_name(name) for name in dict.fromkeys(names)]
        certificate = self._sign(
            key.public_key(), "discluster-master", alternatives, now, _SERVER_LIFE, server=True
        )
        write_atomically(self._directory / "server.key", _private_pem(key), mode=0o600)
        chain = certificate + self.certificate
        write_atomically(self._directory / "server.crt", chain, mode=0o644)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._directory / "server.crt", self._directory / "server.key")
        context.load_verify_locations(cadata=self.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def sign_host(self, csr: str, host: str, *, now: datetime.datetime) -> str:
        """The certificate of ``host`` for the key in ``csr``; its only name is ``host``.

        Raises:
            RefusedError: the request is not one, or not signed by its key.
        """
        key = _requested_key(csr)
        return self._sign(key, host, [x509.DNSName(host)], now, _HOST_LIFE, server=False)

    def sign_client(
        self,
        csr: str,
        common_name: str,
        name: x509.GeneralName,
        *,
        now: datetime.datetime,
        life: datetime.timedelta,
    ) -> str:
        """The certificate of a client that is no host: its only name is ``name``. Raises as
        :meth:`sign_host`.
        """
        return self._sign(_requested_key(csr), common_name, [name], now, life, server=False)

    def _make(self, now: datetime.datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Discluster fleet authority")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + _CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        write_atomically(self._directory / "ca.key", _private_pem(key), mode=0o600)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        write_atomically(self._directory / "ca.crt", pem, mode=0o644)

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        names: list[x509.GeneralName],
        now: datetime.datetime,
        life: datetime.timedelta,
        *,
        server: bool,
    ) -> str:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
        issuer_key = self._key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _requested_key(csr: str) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, InvalidSignature):
        valid, key = False, None
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey):
        raise RefusedError("the certificate request is not valid", code="bad-request")
    return key


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
