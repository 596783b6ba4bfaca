# SPDX-License-Identifier: Apache-2.0
"""One request to MASTER over TLS, and what went wrong with it in words."""

import os
import ssl
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

from discluster.ctl.transport import too_slow
from discluster.errors import DisclusterError, RefusedError, UnavailableError
from discluster.operators import TRUST_HEADER


class Reply(NamedTuple):
    """``trust``: the value of :data:`discluster.operators.TRUST_HEADER`, if it came."""

    status: int
    body: bytes
    trust: str | None


async def ask(
    method: str,
    url: str,
    context: ssl.SSLContext,
    body: bytes | None,
    *,
    timeout: float,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """``timeout``: seconds for all of it. Raises what
    :func:`explained` makes.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session,
            session.request(
                method, url, ssl=context, data=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            trust = response.headers.get(TRUST_HEADER)
            return Reply(response.status, await response.read(), trust)
    except TimeoutError:
        raise too_slow("MASTER", timeout) from None
    except (aiohttp.ClientError, OSError) as error:
        raise explained(url, error) from None
    except ValueError as error:
        raise DisclusterError(f"{url} is no address of a MASTER: {error}") from None


def explained(url: str, error: aiohttp.ClientError | OSError) -> DisclusterError:
    """What went wrong on the way to MASTER."""
    place = "/".join(url.split("/", 3)[:3])
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return RefusedError(
            f"the certificate of {place} is not accepted: {error.certificate_error}",
            hint="the address must be one of 'names' in master.yaml, and the clocks must agree;"
            " if MASTER's authority was replaced, log in again",
        )
    text = str(error)
    if isinstance(error, ssl.SSLError | aiohttp.ClientSSLError) or "alert" in text.lower():
        return RefusedError(
            f"{place} refused this login's certificate: {text}",
            hint="it has expired, or is of another fleet; log in again with a new token",
        )
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return UnavailableError(
            f"{place} ended the connection before it answered",
            hint="MASTER is being stopped, or it does not accept this login's certificate",
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        number = cause.errno or 0
        text = os.strerror(number) if number > 0 else cause.strerror or str(cause)
    return UnavailableError(
        f"MASTER cannot be reached at {place}: {text or type(error).__name__}",
        hint="is discluster-master running there, and the port open?",
    )
