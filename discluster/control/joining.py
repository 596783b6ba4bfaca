# SPDX-License-Identifier: Apache-2.0
"""How a machine gets its certificate, and what can be in the way to MASTER, in words."""

import asyncio
import email.utils
import os
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from discluster import pem
from discluster.certificates import BACKDATED
from discluster.clock import in_words
from discluster.console import Failure, JoinAnswer, JoinRequest
from discluster.control.identity import CLOCK, Identity, check_own
from discluster.decoding import DECODE_ERRORS
from discluster.errors import DisclusterError, ProtocolError, RefusedError, UnavailableError
from discluster.messages import encode

_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
_ANSWER_LIMIT: Final = 1024 * 1024
# Of OpenSSL: X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED.
_UNTIMELY: Final = (9, 10)


class _Answer(NamedTuple):
    """``clock``: MASTER's, seconds since 1970; None if it does not tell."""

    status: int
    body: bytes
    clock: float | None


async def join(
    identity: Identity,
    *,
    master: str,
    token: str,
    ca_fingerprint: str,
    host: str,
    wall: Callable[[], float],
) -> None:
    """Gets a certificate for ``host`` and stores it with the authorities'. ``wall``: this machine's
    clock.

    Raises:
        RefusedError: the fingerprint differs, the clocks do, or MASTER refuses token or name.
        UnavailableError: MASTER cannot be reached.
    """
    master = master.rstrip("/")
    authority = await _fetch_authority(master, ca_fingerprint, wall)
    key = ec.generate_private_key(ec.SECP256R1())
    request = JoinRequest(token=token, host=host, csr=pem.request_for(key, host))
    answer = await _ask_to_join(master, authority, request)
    check_own(answer.certificate, key)
    identity.store(key, answer.certificate, authorities=answer.ca, master=master)


async def masters_clock(master: str) -> float | None:
    """What MASTER says, over a connection that nobody vouches for: good for an explanation and for
    nothing else. None if nobody answers.
    """
    try:
        return (await _exchange("GET", f"{master}/v1/ca", _unverified(), None)).clock
    except DisclusterError:
        return None


def clock_trouble(own: float, masters: float) -> str | None:
    """That certificates made by the one clock may not be valid by the other, in words."""
    ahead = own - masters
    if abs(ahead) < BACKDATED:
        return None
    which = "ahead of" if ahead > 0 else "behind"
    return f"this machine's clock is {in_words(abs(ahead))} {which} MASTER's"


async def _fetch_authority(master: str, fingerprint: str, wall: Callable[[], float]) -> str:
    """MASTER's authority, trusted only because its fingerprint is what the operator brought."""
    answer = await _exchange("GET", f"{master}/v1/ca", _unverified(), None)
    if answer.status != 200:
        raise ProtocolError(f"{master} does not answer like a MASTER (HTTP {answer.status})")
    try:
        found = pem.authorities(answer.body.decode("ascii"))
        ours = {pem.fingerprint(one): pem.public_pem(one) for one in found.values()}
    except ValueError:
        ours = {}
    if not ours:
        raise ProtocolError(f"{master} does not answer like a MASTER: no certificate") from None
    if (certificate := ours.get(fingerprint.lower())) is None:
        raise RefusedError(
            f"{master} has another authority than expected: its fingerprint is"
            f" {' and '.join(ours)}",
            hint="is this the right address? If so, somebody is between here and MASTER; or the"
            " authority was replaced since the token was made: make a new one",
            code="fingerprint",
        )
    # Before the token is sent, and used up for a certificate that would not be valid here.
    if answer.clock is not None and (told := clock_trouble(wall(), answer.clock)) is not None:
        raise RefusedError(
            f"{told}: its certificate would not be valid, or not for long",
            hint="set the clock that is wrong ('timedatectl set-ntp true') and join again; the"
            " token was not used",
            code="clock",
        )
    return certificate


async def _ask_to_join(master: str, authority: str, request: JoinRequest) -> JoinAnswer:
    context = ssl.create_default_context(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    answer = await _exchange("POST", f"{master}/v1/join", context, encode(request))
    try:
        if answer.status != 200:
            failure = msgspec.json.decode(answer.body, type=Failure)
            raise RefusedError(failure.message, hint=failure.hint, code=failure.code)
        return msgspec.json.decode(answer.body, type=JoinAnswer)
    except DECODE_ERRORS:
        raise ProtocolError(
            f"{master} does not answer like a MASTER (HTTP {answer.status})"
        ) from None


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _exchange(method: str, url: str, context: ssl.SSLContext, body: bytes | None) -> _Answer:
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.request(method, url, ssl=context, data=body) as response,
        ):
            raw = await response.content.read(_ANSWER_LIMIT)
            while not response.content.at_eof() and len(raw) < _ANSWER_LIMIT:
                raw += await response.content.read(_ANSWER_LIMIT - len(raw))
            return _Answer(response.status, raw, _moment(response.headers.get("Date")))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise explain_connection_error(url, error) from None


def _moment(date: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None


def explain_connection_error(url: str, error: BaseException) -> DisclusterError:
    """What went wrong on the way to MASTER, in words."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return RefusedError(
            f"the certificate of {url} is not accepted: {error.certificate_error}",
            hint="the address must be one of 'names' in master.yaml, and the clocks must agree;"
            " after MASTER's authority was replaced this machine must join again",
            code=CLOCK if _is_untimely(error.certificate_error) else None,
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


def _is_untimely(error: Exception) -> bool:
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _UNTIMELY
