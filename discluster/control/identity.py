# SPDX-License-Identifier: Apache-2.0
"""Who this host is to MASTER: its key and certificate, and how it gets them.

The key is made here and never leaves. The certificate's only name is the host's.
"""

import asyncio
import hashlib
import json
import os
import ssl
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from discluster.console import Failure, JoinAnswer, JoinRequest
from discluster.decoding import DECODE_ERRORS
from discluster.errors import (
    ConfigurationError,
    DisclusterError,
    ProtocolError,
    RefusedError,
    StateError,
    UnavailableError,
)
from discluster.files import read_if_there, write_atomically
from discluster.messages import encode

_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
_JOIN_HINT: Final = (
    "on MASTER's machine run 'disclusterctl token create --host {host}', then run here, as root,"
    " the line that it prints"
)


class Identity:
    """The files in ``identity/``: ``host.key``, ``host.crt``, ``ca.crt``, ``joined.json``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def joined(self) -> bool:
        return (self._directory / "host.crt").exists()

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
        try:
            raw = (self._directory / "host.crt").read_bytes()
            names = x509.load_pem_x509_certificate(raw).extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            )
            return str(names.value.get_values_for_type(x509.DNSName)[0])
        except (OSError, ValueError, IndexError, x509.ExtensionNotFound) as error:
            raise StateError(
                f"{self._directory / 'host.crt'}: not this host's certificate: {error}"
            ) from None

    def ssl_context(self, host: str, *, now: float) -> ssl.SSLContext:
        """TLS 1.3 with our certificate, trusting the fleet's authority and nobody else. ``now``:
        wall clock, seconds.

        Raises:
            ConfigurationError: this host did not join, or its files cannot be used.
            RefusedError: its certificate has expired.
        """
        return self._own(ssl.Purpose.SERVER_AUTH, host, now)

    def witness_context(self, host: str, *, now: float) -> ssl.SSLContext:
        """For serving other hosts: TLS 1.3, and nobody without a certificate of the fleet. Raises
        like :meth:`ssl_context`.
        """
        context = self._own(ssl.Purpose.CLIENT_AUTH, host, now)
        context.verify_mode = ssl.CERT_REQUIRED
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
        """Whether ``certificate`` (DER) is one that the fleet's authority made for ``host``."""
        try:
            authority = x509.load_pem_x509_certificate((self._directory / "ca.crt").read_bytes())
            peer = x509.load_der_x509_certificate(certificate or b"")
            peer.verify_directly_issued_by(authority)
            names = peer.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uses = peer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (OSError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        valid = peer.not_valid_before_utc.timestamp() <= now <= peer.not_valid_after_utc.timestamp()
        is_host = ExtendedKeyUsageOID.CLIENT_AUTH in uses
        return valid and is_host and names.get_values_for_type(x509.DNSName) == [host]

    def _own(self, purpose: ssl.Purpose, host: str, now: float) -> ssl.SSLContext:
        """TLS 1.3 with our certificate, and the fleet's authority alone."""
        if not self.joined:
            raise ConfigurationError(
                f"{self._directory}: this machine has not joined the fleet",
                hint=_JOIN_HINT.format(host=host),
            )
        try:
            context = ssl.create_default_context(purpose, cafile=str(self._directory / "ca.crt"))
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_cert_chain(self._directory / "host.crt", self._directory / "host.key")
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{self._directory}: the certificate or key cannot be used: {error}",
                hint=_JOIN_HINT.format(host=host),
            ) from None
        self._refuse_expired(host, now)
        return context

    def _refuse_expired(self, host: str, now: float) -> None:
        # MASTER would hang up without a word that reaches us: in TLS 1.3 the client's certificate
        # is looked at after its handshake is done.
        raw = (self._directory / "host.crt").read_bytes()
        end = x509.load_pem_x509_certificate(raw).not_valid_after_utc
        if end.timestamp() < now:
            raise RefusedError(
                f"{self._directory / 'host.crt'}: this machine's certificate expired on"
                f" {end:%Y-%m-%d}",
                hint=_JOIN_HINT.format(host=host),
            )

    async def join(self, *, master: str, token: str, ca_fingerprint: str, host: str) -> None:
        """Gets a certificate for ``host`` and stores it with the authority's.

        Raises:
            RefusedError: the fingerprint differs, or MASTER refuses token or name.
            UnavailableError: MASTER cannot be reached.
        """
        master = master.rstrip("/")
        ca = await _fetch_authority(master, ca_fingerprint)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        request = JoinRequest(
            token=token, host=host, csr=csr.public_bytes(serialization.Encoding.PEM).decode()
        )
        answer = await _ask_to_join(master, ca, request)
        self._store(key, answer, master)

    def _store(self, key: ec.EllipticCurvePrivateKey, answer: JoinAnswer, master: str) -> None:
        raw_key = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_atomically(self._directory / "host.key", raw_key, mode=0o600)
        write_atomically(self._directory / "ca.crt", answer.ca, mode=0o644)
        write_atomically(self._directory / "joined.json", json.dumps({"master": master}))
        write_atomically(self._directory / "host.crt", answer.certificate, mode=0o644)


async def _fetch_authority(master: str, fingerprint: str) -> str:
    """MASTER's CA, trusted only because its fingerprint is the one that the operator brought."""
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    status, body = await _exchange("GET", f"{master}/v1/ca", unverified, None)
    if status != 200:
        raise ProtocolError(f"{master} does not answer like a MASTER (HTTP {status})")
    try:
        certificate = x509.load_pem_x509_certificate(body)
    except ValueError:
        raise ProtocolError(f"{master} does not answer like a MASTER: no certificate") from None
    der = certificate.public_bytes(serialization.Encoding.DER)
    found = f"sha256:{hashlib.sha256(der).hexdigest()}"
    if found != fingerprint.lower():
        raise RefusedError(
            f"{master} has another authority than expected: its fingerprint is {found}",
            hint="is this the right address? If so, somebody is between here and MASTER",
        )
    return body.decode()


async def _ask_to_join(master: str, ca: str, request: JoinRequest) -> JoinAnswer:
    context = ssl.create_default_context(cadata=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    status, body = await _exchange("POST", f"{master}/v1/join", context, encode(request))
    try:
        if status != 200:
            failure = msgspec.json.decode(body, type=Failure)
            raise RefusedError(failure.message, hint=failure.hint, code=failure.code)
        return msgspec.json.decode(body, type=JoinAnswer)
    except DECODE_ERRORS:
        raise ProtocolError(f"{master} does not answer like a MASTER (HTTP {status})") from None


async def _exchange(
    method: str, url: str, context: ssl.SSLContext, body: bytes | None
) -> tuple[int, bytes]:
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.request(method, url, ssl=context, data=body) as response,
        ):
            return response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise explain_connection_error(url, error) from None


def explain_connection_error(url: str, error: BaseException) -> DisclusterError:
    """What went wrong on the way to MASTER, in words."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return RefusedError(
            f"the certificate of {url} is not accepted: {error.certificate_error}",
            hint="the address must be one of 'names' in master.yaml, and the clocks must agree;"
            " after MASTER's authority was replaced this machine must join again",
        )
    text = str(error)
    if isinstance(error, (ssl.SSLError, aiohttp.ClientSSLError)) or "alert" in text.lower():
        return RefusedError(
            f"{url} refused this machine's certificate: {text}",
            hint="it may have expired or come from another fleet; join again with a new token",
        )
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return UnavailableError(
            f"{url} ended the connection before it answered",
            hint="it is being stopped, or it does not accept this machine's certificate: then join"
            " again with a new token",
        )
    if isinstance(error, asyncio.TimeoutError):
        text = "no answer in time"
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        number = cause.errno or 0
        text = os.strerror(number) if number > 0 else cause.strerror or str(cause)
        if not text and isinstance(cause, ConnectionError):
            text = "the connection was broken off"
    return UnavailableError(
        f"MASTER cannot be reached at {url}: {text or type(error).__name__}",
        hint="is discluster-master running there, and the port open?",
    )
