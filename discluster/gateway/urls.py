# SPDX-License-Identifier: Apache-2.0
"""Where to dial: the query that every connection carries, and which resume URLs are usable."""

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


def host(url: str) -> str:
    """The host of a URL, for people to read."""
    split = _split(url)
    return split.netloc.rpartition("@")[2] if split is not None else "?"


def _split(url: str) -> SplitResult | None:
    try:
        split = urlsplit(url)
        if not split.hostname or split.port == 0:
            return None
    except ValueError:  # an impossible port or IPv6 address
        return None
    return split
