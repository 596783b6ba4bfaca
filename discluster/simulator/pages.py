# SPDX-License-Identifier: Apache-2.0
"""Bodies of refusals over HTTP, as Discord and the Cloudflare edge in front of it write them."""

from __future__ import annotations

import http
from typing import Final

from discluster.simulator.deeds import Status
from discluster.simulator.templates import dump

VIA: Final = {"Via": "1.1 google"}
"""Tells Discord's own answers from those of the edge in front of it."""

CLOUDFLARE: Final = (
    b"<!DOCTYPE html><html><head><title>Access denied | discord.com used Cloudflare to restrict "
    b"access</title></head><body><h1>Error 1015</h1><p>You are being rate limited</p></body></html>"
)


def refusal_page(deed: Status) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a scripted status."""
    headers = {} if deed.retry_after is None else {"Retry-After": deed.retry_after}
    if deed.html:
        return _page(deed.code), {**headers, "Content-Type": "text/html"}
    body: dict[str, object] = {"message": f"{deed.code}: {_phrase(deed.code)}", "code": 0}
    if deed.code == 429:
        body = {"message": "You are being rate limited.", "global": False}
        wait = _number(deed.retry_after)
        body |= {} if wait is None else {"retry_after": wait}
    return dump(body), {**headers, **VIA, "Content-Type": "application/json"}


def _page(code: int) -> bytes:
    if code == 429:
        return CLOUDFLARE
    title = f"{code} {_phrase(code)}".encode()
    return b"<html><head><title>%b</title></head><body><h1>%b</h1></body></html>" % (title, title)


def _phrase(code: int) -> str:
    try:
        return http.HTTPStatus(code).phrase
    except ValueError:
        return "A Timeout Occurred" if code == 524 else "Unknown"


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
