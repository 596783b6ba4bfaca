# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl login``: how this machine gets a login, with an authority that is trusted for its
fingerprint alone, and a key that never leaves.
"""

import ssl
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from discluster.ctl.client import failure_in
from discluster.ctl.https import ask
from discluster.ctl.logins import Login
from discluster.errors import ProtocolError, RefusedError
from discluster.messages import Message, decode, encode
from discluster.operators import (
    AUTHORITY_PATH,
    LOGIN_PATH,
    OPERATORS_PATH,
    LoginAnswer,
    LoginRequest,
    RenewLogin,
    WhoAmI,
)
from discluster.secret import Secret

_NOT_A_MASTER: Final = "{} does not answer like a MASTER"


async def exchanged(
    master: str, token: Secret, fingerprint: str, *, timeout: float
) -> tuple[Login, str]:
    """Exchanges a login token for a certificate; gives the login, and its key and certificate.

    Raises:
        RefusedError: the fingerprint is another, or the token is not accepted.
        UnavailableError, ProtocolError: no good answer.
    """
    ca = await _authority(master, fingerprint, timeout=timeout)
    key, secret = _new_key()
    request = LoginRequest(token=token.reveal(), csr=_request_of(key))
    answer = await _certified(master + LOGIN_PATH, trusting(ca), request, timeout=timeout)
    login = Login(
        master=master, ca=answer.ca, name=answer.name, role=answer.role, kind="certificate"
    )
    return login, secret + answer.certificate


async def adopted(master: str, token: Secret, fingerprint: str, *, timeout: float) -> Login:
    """Takes a token that is shown with each call. Raises as :func:`exchanged`."""
    ca = await _authority(master, fingerprint, timeout=timeout)
    reply = await ask(
        "GET",
        f"{master}{OPERATORS_PATH}/whoami",
        trusting(ca),
        None,
        timeout=timeout,
        headers=bearer(token),
    )
    if reply.status != 200:
        raise failure_in(reply.status, reply.body)
    found = decode(msgspec.json.Decoder(WhoAmI), reply.body, peer="MASTER")
    if found.role == "admin":
        raise ProtocolError(_NOT_A_MASTER.format(master))
    return Login(master=master, ca=ca, name=found.name, role=found.role, kind="token")


async def renewed(
    login: Login, context: ssl.SSLContext, *, timeout: float
) -> tuple[LoginAnswer, str]:
    """A further certificate for who shows one; the answer, and key and certificate."""
    key, secret = _new_key()
    url = f"{login.master}{OPERATORS_PATH}/renew"
    request = RenewLogin(csr=_request_of(key))
    answer = await _certified(url, context, request, timeout=timeout)
    return answer, secret + answer.certificate


def trusting(authority: str) -> ssl.SSLContext:
    """TLS 1.3, with nobody trusted but ``authority`` (PEM)."""
    context = ssl.create_default_context(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def bearer(token: Secret) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {token.reveal()}"}


def checked_authority(master: str, status: int, body: bytes, fingerprint: str) -> str:
    """MASTER's authority, PEM, out of its answer to ``GET /v1/ca``.

    Raises:
        ProtocolError: it is no certificate.
        RefusedError: none of it has the fingerprint that was brought.
    """
    try:
        found = x509.load_pem_x509_certificates(body) if status == 200 else []
    except ValueError:
        found = []
    if not found:
        raise ProtocolError(f"{_NOT_A_MASTER.format(master)} (HTTP {status})")
    prints = [f"sha256:{c.fingerprint(hashes.SHA256()).hex()}" for c in found]
    if fingerprint.lower() not in prints:
        raise RefusedError(
            f"{master} has another authority than expected: its fingerprint is {prints[0]}",
            hint="is this the right address? If so, somebody is between here and MASTER",
        )
    chosen = found[prints.index(fingerprint.lower())]
    return chosen.public_bytes(serialization.Encoding.PEM).decode()


async def _authority(master: str, fingerprint: str, *, timeout: float) -> str:
    blind = ssl.create_default_context()
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    reply = await ask("GET", master + AUTHORITY_PATH, blind, None, timeout=timeout)
    return checked_authority(master, reply.status, reply.body, fingerprint)


async def authorities(login: Login, context: ssl.SSLContext, *, timeout: float) -> str:
    """All that MASTER's certificate may be signed by, now or soon; PEM. ``context``: believes one.

    Raises:
        ProtocolError: the answer is no certificate; or as :func:`exchanged`.
    """
    reply = await ask("GET", login.master + AUTHORITY_PATH, context, None, timeout=timeout)
    try:
        x509.load_pem_x509_certificates(reply.body)
        return reply.body.decode("ascii")
    except ValueError:
        raise ProtocolError(_NOT_A_MASTER.format(login.master)) from None


async def _certified(
    url: str, context: ssl.SSLContext, request: Message, *, timeout: float
) -> LoginAnswer:
    reply = await ask("POST", url, context, encode(request), timeout=timeout)
    if reply.status != 200:
        raise failure_in(reply.status, reply.body)
    return decode(msgspec.json.Decoder(LoginAnswer), reply.body, peer="MASTER")


def _new_key() -> tuple[ec.EllipticCurvePrivateKey, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key, pem.decode()


def _request_of(key: ec.EllipticCurvePrivateKey) -> str:
    """MASTER goes by the key in it alone."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "operator")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()
