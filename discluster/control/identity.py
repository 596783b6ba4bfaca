# SPDX-License-Identifier: Apache-2.0
"""Who this host is to MASTER: its key and certificate, and whom it trusts.

The key is made here and never leaves. The certificate's only name is the host's.
"""

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from discluster import pem
from discluster.certificates import Certificate, is_revoked
from discluster.clock import in_words
from discluster.decoding import DECODE_ERRORS, reason_of
from discluster.errors import ConfigurationError, ProtocolError, RefusedError, StateError
from discluster.files import read_if_there, write_atomically

CLOCK: Final = "certificate-time"
"""Code of errors that clocks which differ can be the reason of."""
_JOIN_HINT: Final = (
    "on MASTER's machine run 'disclusterctl token create --host {host}', then run here, as root,"
    " the line that it prints"
)


class Identity:
    """The files in ``identity/``: ``host.pem``, ``ca.crt``, ``revoked.json``, ``joined.json``.

    Key and certificate are in one file, so that whatever is killed they belong together.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._host = directory / "host.pem"
        self._authorities = directory / "ca.crt"
        self._revoked_file = directory / "revoked.json"
        self._revoked: Mapping[str, float] | None = None

    @property
    def joined(self) -> bool:
        return self._host.exists()

    def master_url(self) -> str | None:
        """The address that was joined, if any.

        Raises:
            StateError: the file cannot be read.
        """
        path = self._directory / "joined.json"
        text = read_if_there(path)
        try:
            return str(json.loads(text)["master"]) if text is not None else None
        except (*DECODE_ERRORS, ValueError, KeyError, TypeError):
            raise StateError(
                f"{path}: cannot be read: it does not name a MASTER",
                hint="join again, or set 'master' in control.yaml",
            ) from None

    def host_name(self) -> str:
        """The name in the certificate.

        Raises:
            StateError: the certificate cannot be read.
        """
        return str(self.certificate().host)

    def certificate(self) -> Certificate:
        """The one on disk.

        Raises:
            StateError: it cannot be read.
        """
        try:
            certificate = pem.read(self._host.read_text())
            if certificate.host is None:
                raise ValueError("it has not one host's name")
        except (OSError, ValueError) as error:
            raise StateError(f"{self._host}: not this host's certificate: {error}") from None
        return certificate

    def trusts(self) -> tuple[str, ...]:
        """The ids of the authorities that are trusted.

        Raises:
            StateError: they cannot be read.
        """
        try:
            return tuple(pem.authorities(self._authorities.read_text()))
        except (OSError, ValueError) as error:
            raise StateError(f"{self._authorities}: cannot be read: {error}") from None

    # --- TLS ---

    def ssl_context(self, host: str, *, now: float) -> ssl.SSLContext:
        """TLS 1.3 with our certificate, trusting the fleet's authority and nobody else. ``now``:
        wall clock, seconds.

        Raises:
            ConfigurationError: this host did not join, or its files cannot be used.
            RefusedError: its certificate has expired, or is not valid yet.
        """
        return self._own(ssl.Purpose.SERVER_AUTH, host, now)

    def witness_context(self, host: str, *, now: float) -> ssl.SSLContext:
        """For serving other hosts: TLS 1.3, and nobody without a certificate of the fleet. Raises
        like :meth:`ssl_context`.
        """
        context = self._own(ssl.Purpose.CLIENT_AUTH, host, now)
        context.verify_mode = ssl.CERT_REQUIRED
        # A session that is taken up again is not asked for its certificate: it could be revoked.
        context.num_tickets = 0
        return context

    def asking_context(self, host: str, *, now: float) -> ssl.SSLContext:
        """For asking other hosts. Whoever uses it must pass the peer's certificate to
        :meth:`is_certificate_of`: hosts have certificates for clients, which TLS takes from no
        server, so that no host can pass for MASTER. Raises like :meth:`ssl_context`.
        """
        context = self._own(ssl.Purpose.SERVER_AUTH, host, now)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def is_certificate_of(self, host: str, certificate: bytes | None, *, now: float) -> bool:
        """Whether ``certificate`` (DER) is one that the fleet's authority made for ``host``, and
        MASTER did not revoke it.
        """
        try:
            peer = pem.parsed(certificate or b"")
            # Before anything in it is looked at: whoever answers may show what he likes.
            if not any(pem.is_issued_by(peer, one) for one in self._trusted().values()):
                return False
            told = pem.facts(peer)
        except (OSError, ValueError):
            return False
        valid = peer.not_valid_before_utc.timestamp() <= now <= told.expires
        return valid and told.host == host and not is_revoked(told, self.revoked)

    def admits(self, certificate: bytes | None) -> bool:
        """Whether one (DER) that TLS has verified is not revoked."""
        try:
            return not is_revoked(pem.read(certificate or b""), self.revoked)
        except ValueError:
            return False

    def _own(self, purpose: ssl.Purpose, host: str, now: float) -> ssl.SSLContext:
        """TLS 1.3 with our certificate, and the fleet's authority alone."""
        if not self.joined:
            raise ConfigurationError(
                f"{self._directory}: this machine has not joined the fleet",
                hint=_JOIN_HINT.format(host=host),
            )
        try:
            context = ssl.create_default_context(purpose, cafile=str(self._authorities))
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_cert_chain(self._host)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{self._directory}: the certificate or key cannot be used: {error}",
                hint=_JOIN_HINT.format(host=host),
            ) from None
        self._refuse_untimely(host, now)
        return context

    def _refuse_untimely(self, host: str, now: float) -> None:
        # MASTER would hang up without a word that reaches us: in TLS 1.3 the client's certificate
        # is looked at after its handshake is done.
        certificate = pem.parsed(self._host.read_text())
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > end.timestamp():
            raise RefusedError(
                f"{self._host}: this machine's certificate expired on {end:%Y-%m-%d}",
                hint=_JOIN_HINT.format(host=host),
                code=CLOCK,
            )
        if now < begin.timestamp():
            early = in_words(begin.timestamp() - now)
            raise RefusedError(
                f"{self._host}: this machine's certificate is valid only in {early}",
                hint="set this machine's clock: timedatectl set-ntp true",
                code=CLOCK,
            )

    # --- what changes ---

    def store(
        self, key: ec.EllipticCurvePrivateKey, certificate: str, *, authorities: str, master: str
    ) -> None:
        """What MASTER gave to a machine that joins. Raises StateError."""
        write_atomically(self._authorities, authorities, mode=0o644)
        write_atomically(self._directory / "joined.json", json.dumps({"master": master}))
        self._write(key, certificate)

    def renew(self, key: ec.EllipticCurvePrivateKey, certificate: str, *, now: float) -> None:
        """Takes the place of what was there, if it is as good.

        Raises:
            ProtocolError: it is not for this host and ``key``, or is of no use here and now; what
                was there stays.
            StateError: it cannot be written.
        """
        host = self.host_name()
        check_own(certificate, key)
        der = ssl.PEM_cert_to_DER_cert(pem.pem_blocks(certificate, "CERTIFICATE")[0])
        if not self.is_certificate_of(host, der, now=now):
            raise ProtocolError(f"MASTER sent a certificate that is none of {host}, here and now")
        self._write(key, certificate)

    def trust(self, authorities: str, revoked: Mapping[str, float]) -> bool:
        """Whom to believe from now on; whether that is news.

        Raises:
            ProtocolError: the authority of our own certificate would not be trusted any more, or
                what MASTER sent is none.
            StateError: it cannot be written.
        """
        try:
            told = pem.authorities(authorities)
        except ValueError as error:
            raise ProtocolError(f"MASTER sent no authorities: {error}") from None
        own = self.certificate().authority
        if own not in told:
            raise ProtocolError("MASTER sent authorities of which none made our own certificate")
        known = self.trusts()
        if tuple(told) != known:
            write_atomically(self._authorities, authorities, mode=0o644)
        if revoked != self.revoked:
            write_atomically(self._revoked_file, msgspec.json.encode(revoked), mode=0o644)
            self._revoked = dict(revoked)
        return tuple(told) != known

    @property
    def revoked(self) -> Mapping[str, float]:
        """As MASTER told last."""
        if self._revoked is None:
            text = read_if_there(self._revoked_file)
            try:
                self._revoked = msgspec.json.decode(text or "{}", type=dict[str, float])
            except DECODE_ERRORS as error:
                hint = "remove it; MASTER tells it anew"
                told = f"{self._revoked_file}: cannot be read: {reason_of(error)}"
                raise StateError(told, hint=hint) from None
        return self._revoked

    def _trusted(self) -> Mapping[str, x509.Certificate]:
        return pem.authorities(self._authorities.read_text())

    def _write(self, key: ec.EllipticCurvePrivateKey, certificate: str) -> None:
        write_atomically(self._host, pem.private_pem(key) + certificate, mode=0o600)

    def adopt_former_layout(self) -> None:
        """Key and certificate used to be in two files. For CONTROL's own user: whoever is more than
        that must not follow what stands there.
        """
        key, certificate = self._directory / "host.key", self._directory / "host.crt"
        if key.exists() and certificate.exists() and not self._host.exists():
            both = (read_if_there(key) or "") + (read_if_there(certificate) or "")
            write_atomically(self._host, both, mode=0o600)
        if self._host.exists():
            for path in (key, certificate):
                path.unlink(missing_ok=True)


def check_own(certificate: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Whether it was made for ``key``; raises ProtocolError if not."""
    try:
        theirs = pem.parsed(certificate).public_key()
    except ValueError as error:
        raise ProtocolError(f"MASTER sent no certificate: {error}") from None
    if theirs != key.public_key():
        raise ProtocolError("MASTER sent a certificate for another key than ours")
