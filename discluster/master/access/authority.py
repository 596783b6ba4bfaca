# SPDX-License-Identifier: Apache-2.0
"""The fleet's certificate authority: made by MASTER at its first start, used by nobody else.

A rotation brings in another one. How far it is, the files themselves say, and each step is done by
the renaming or removal of one of them, so that a MASTER that is killed goes on where it was:

    ca.pem                 settled
    ca.pem next.pem        announced: ca.pem signs; hosts learn to trust both
    ca.pem old.crt         replacing: ca.pem, the former next.pem, signs; both are trusted

Of the old authority only the certificate is kept: nobody can sign with it any more.
"""

import datetime
import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from discluster import pem
from discluster.certificates import BACKDATED
from discluster.clock import DAY
from discluster.errors import RefusedError, StateError
from discluster.files import write_atomically
from discluster.master.access.private import check_private

Phase = Literal["settled", "announced", "replacing"]

DEFAULT_LIFE: Final = 30 * DAY
_CA_LIFE: Final = datetime.timedelta(days=3650)
_BACKDATED: Final = datetime.timedelta(seconds=BACKDATED)
_BACKUP: Final = (
    "restore ca.pem from a backup; without it every host must join again: remove the directory to"
    " make a new authority"
)


class _Signer(NamedTuple):
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


class Authority:
    """Keys and certificates below ``directory``; signs MASTER's own and the hosts' certificates."""

    def __init__(self, directory: Path, *, now: datetime.datetime) -> None:
        """Reads the authority, or makes it. ``now``: with a time zone.

        Raises:
            StateError: the files are there but cannot be used, cannot be written, or others than
                MASTER's user could read them.
        """
        self._directory = directory
        self._own, self._next_one = directory / "ca.pem", directory / "next.pem"
        self._old_one = directory / "old.crt"
        self._adopt_former_layout()
        if not self._own.exists():
            # Whoever lost one of them must not get a new fleet in its place.
            if directory.exists() and any(f.suffix != ".new" for f in directory.iterdir()):
                raise StateError(f"{self._own}: is missing", hint=_BACKUP)
            directory.mkdir(parents=True, mode=0o700, exist_ok=True)
            directory.chmod(0o700)
            _write(self._own, _made(now))
        self._read()

    def _read(self) -> None:
        check_private(self._directory)
        self._signer = _signer(self._own)
        self._next = _signer(self._next_one) if self._next_one.exists() else None
        self._old = self._read_old() if self._next is None else None

    @property
    def phase(self) -> Phase:
        if self._next is not None:
            return "announced"
        return "replacing" if self._old is not None else "settled"

    @property
    def certificate(self) -> str:
        """PEM, of the one that signs."""
        return pem.public_pem(self._signer.certificate)

    @property
    def fingerprint(self) -> str:
        """``sha256:HEX`` of the certificate: what an operator carries to a new host."""
        return pem.fingerprint(self._signer.certificate)

    @property
    def id(self) -> str:
        """Of the one that signs."""
        return pem.authority_id(self._signer.certificate)

    @property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """All whose certificates are taken; the one that signs comes first."""
        other = self._next.certificate if self._next is not None else self._old
        return (self._signer.certificate,) if other is None else (self._signer.certificate, other)

    @property
    def newest(self) -> str:
        """The id of the one that there will be after the rotation."""
        return self.id if self._next is None else pem.authority_id(self._next.certificate)

    @property
    def bundle(self) -> str:
        """All that are trusted, PEM."""
        return "".join(pem.public_pem(certificate) for certificate in self.trusted)

    # --- rotation ---

    def announce(self, now: datetime.datetime) -> None:
        """Makes the next authority, to be trusted from now on."""
        assert self.phase == "settled"
        _write(self._next_one, _made(now))
        self._read()

    def replace(self) -> None:
        """The next authority signs from now on."""
        assert self._next is not None
        write_atomically(self._old_one, self.certificate, mode=0o644)
        try:
            self._next_one.replace(self._own)
        except OSError as error:
            raise StateError(f"{self._own}: cannot be replaced: {error.strerror}") from None
        self._read()

    def retire(self) -> None:
        """The old authority is trusted no more."""
        assert self.phase == "replacing"
        self._old_one.unlink(missing_ok=True)
        self._read()

    # --- signing ---

    def server_context(
        self, names: Iterable[str], *, now: datetime.datetime, life: float = DEFAULT_LIFE
    ) -> ssl.SSLContext:
        """TLS 1.3 for MASTER under ``names``, asking for the hosts' certificates.

        A certificate is not demanded by TLS itself: a machine that joins has none yet. ``life``: of
        MASTER's own, seconds; it is in ``server.pem``.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [_general_name(name) for name in dict.fromkeys(names)]
        certificate = self._sign(
            key.public_key(), "discluster-master", alternatives, now, life, server=True
        )
        path = self._directory / "server.pem"
        write_atomically(path, pem.private_pem(key) + certificate, mode=0o600)
        context = bare_server_context()
        context.load_cert_chain(path)
        context.load_verify_locations(cadata=self.bundle)
        return context

    def server_certificate(self) -> str:
        """The one of the newest context, PEM."""
        return (self._directory / "server.pem").read_text()

    def sign_host(
        self, csr: str, host: str, *, now: datetime.datetime, life: float = DEFAULT_LIFE
    ) -> str:
        """The certificate of ``host`` for the key in ``csr``, PEM; its only name is ``host``,
        whatever the request says. ``life``: seconds.

        Raises:
            RefusedError: the request is not one, or not signed by its key.
        """
        key = _requested_key(csr)
        return self._sign(key, host, [x509.DNSName(host)], now, life, server=False)

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
        key, seconds = _requested_key(csr), life.total_seconds()
        return self._sign(key, common_name, [name], now, seconds, server=False)

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        names: list[x509.GeneralName],
        now: datetime.datetime,
        life: float,
        *,
        server: bool,
    ) -> str:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
        issuer_key = self._signer.key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._signer.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + datetime.timedelta(seconds=life))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .sign(self._signer.key, hashes.SHA256())
        )
        return pem.public_pem(certificate)

    # --- files ---

    def _read_old(self) -> x509.Certificate | None:
        try:
            old = pem.parsed(self._old_one.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            hint = "restore it, or remove it: then hosts that still have its certificates join anew"
            raise StateError(f"{self._old_one}: cannot be read: {error}", hint=hint) from None
        # Killed on the way: the step to it was not made, or it was made back.
        return old if old != self._signer.certificate else None

    def _adopt_former_layout(self) -> None:
        """Key and certificate used to be in two files."""
        key, certificate = self._directory / "ca.key", self._directory / "ca.crt"
        try:
            if not self._own.exists() and key.exists() and certificate.exists():
                self._directory.chmod(0o700)
                check_private(key)
                both = key.read_text() + certificate.read_text()
                write_atomically(self._own, both, mode=0o600)
            if self._own.exists():
                for name in ("ca.key", "ca.crt", "server.key", "server.crt"):
                    (self._directory / name).unlink(missing_ok=True)
        except (OSError, UnicodeDecodeError) as error:
            raise StateError(
                f"{self._directory}: the certificate authority cannot be read: {error}",
                hint=_BACKUP,
            ) from None


def bare_server_context() -> ssl.SSLContext:
    """TLS 1.3 for a server that asks for certificates, and trusts nobody yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    # A session that is taken up again is not asked for its certificate: it could be revoked.
    context.num_tickets = 0
    return context


def _signer(path: Path) -> _Signer:
    check_private(path)
    try:
        text = path.read_text()
        keys = pem.pem_blocks(text, "PRIVATE KEY") or ["no key"]
        key = serialization.load_pem_private_key(keys[0].encode(), None)
        certificate = pem.parsed(text)
    except (OSError, ValueError, TypeError) as error:
        raise StateError(
            f"{path}: the certificate authority cannot be read: {error}", hint=_BACKUP
        ) from None
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or key.public_key() != certificate.public_key()
    ):
        raise StateError(f"{path}: its key is not the one of its certificate", hint=_BACKUP)
    return _Signer(key, certificate)


def _write(path: Path, signer: _Signer) -> None:
    text = pem.private_pem(signer.key) + pem.public_pem(signer.certificate)
    write_atomically(path, text, mode=0o600)


def _made(now: datetime.datetime) -> _Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    # Two with the same name would be taken for one another by whoever looks for the signer by it.
    text = f"Discluster fleet authority {now:%Y-%m-%d} {x509.random_serial_number():x}"[:64]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Signer(key, certificate)


def _requested_key(csr: str) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(csr.encode())
        key = request.public_key()
        valid = isinstance(key, ec.EllipticCurvePublicKey) and request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
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
