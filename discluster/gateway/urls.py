# SPDX-License-Identifier: Apache-2.0
"""Where to dial: the query that every connection carries, and which resume URLs are usable."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from discluster.gateway.identity import Compression

API_VERSION: Final = 10
MAXIMUM_URL: Final = 255  # characters; sessions are stored in records of a fixed size

_SHAPE: Final = re.compile(r"wss?://[^\s/?#@]+[^\s?#@]*", re.ASCII)


def dial_url(base: str, compression: Compression) -> str:
    """``base`` with version, encoding and compression: the same for IDENTIFY and RESUME.

    Discord hands out bases with and without a trailing slash (Discord: Gateway, Connecting).
    """
    split = urlsplit(base)
    compress = "" if compression == "none" else f"&compress={compression}"
    query = f"v={API_VERSION}&encoding=json{compress}"
    return f"{split.scheme}://{split.netloc}{split.path or '/'}?{query}"


def usable_resume_url(offered: object, *, gateway_url: str) -> str | None:
    """The ``resume_gateway_url`` of a READY if it can be dialed, else None.

    One that would send the token unencrypted, where the gateway itself is encrypted, cannot.
    """
    if not isinstance(offered, str) or len(offered) > MAXIMUM_URL or not offered.isascii():
        return None
    if not _SHAPE.fullmatch(offered) or _split(offered) is None:
        return None
    if gateway_url.startswith("wss://") and not offered.startswith("wss://"):
        return None
    return offered


def is_gateways(brought: str, *, gateway_url: str) -> bool:
    """Whether a session's address that somebody else brings is one of the gateway's: below its
    domain, and encrypted if it is. To any other the token would be given away.

    A gateway at an IP address or a bare name is a rehearsal's, and has no domain.
    """
    if usable_resume_url(brought, gateway_url=gateway_url) is None:
        return False
    own, other = (urlsplit(url).hostname or "" for url in (gateway_url, brought))
    _, _, domain = own.partition(".")
    return not domain or _is_ip(own) or other == domain or other.endswith(f".{domain}")


def is_another(url: str, *, gateway_url: str) -> bool:
    """Whether a session's address can be dialed and is not the gateway's. It may have been
    stored by a version that took it from anybody.
    """
    return url != gateway_url and usable_resume_url(url, gateway_url=gateway_url) is not None


def host(url: str) -> str:
    """The host of a URL, for people to read."""
    split = _split(url)
    return split.netloc.rpartition("@")[2] if split is not None else "?"


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _split(url: str) -> SplitResult | None:
    try:
        split = urlsplit(url)
        if not split.hostname or split.port == 0:
            return None
    except ValueError:  # an impossible port or IPv6 address
        return None
    return split
