# SPDX-License-Identifier: Apache-2.0
"""The head of an HTTP request, as bots send it, and what is answered (RFC 9112). No I/O.

Only what a gateway needs: a GET without a body, one on each connection.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

import msgspec

from discluster.errors import ProtocolError

MAXIMUM_HEAD: Final = 16 * 1024  # bytes
_END: Final = b"\r\n\r\n"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_TOKEN: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


class HeadError(ProtocolError):
    """A request that is answered with ``status`` and a sentence, and no more."""

    code = "request"

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request(msgspec.Struct, frozen=True):
    """``headers``: names in lower case. ``rest``: what came after the head."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    rest: bytes = b""

    @property
    def upgrades(self) -> bool:
        """Whether it asks for a WebSocket."""
        return (
            self.headers.get("upgrade", "").lower() == "websocket"
            and "upgrade" in self.headers.get("connection", "").lower()
        )


def read_request(data: bytes) -> Request | None:
    """The request that ``data`` begins with; None: more is needed.

    Raises:
        HeadError: it is none that is served here.
    """
    end = data.find(_END, 0, MAXIMUM_HEAD)
    if end < 0:
        if len(data) >= MAXIMUM_HEAD:
            raise HeadError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the head of a request has at most {MAXIMUM_HEAD} bytes",
            )
        return None
    first, *lines = data[:end].decode("latin-1").split("\r\n")
    method, target = _request_line(first)
    headers = _headers(lines)
    if headers.get("content-length", "0").strip() != "0" or "transfer-encoding" in headers:
        raise HeadError(HTTPStatus.BAD_REQUEST, "a request with a body is not served here")
    path, _, query = target.partition("?")
    try:
        pairs = parse_qs(query, max_num_fields=20)
    except ValueError:
        raise HeadError(HTTPStatus.BAD_REQUEST, "too many query parameters") from None
    return Request(
        method, path, {name: values[-1] for name, values in pairs.items()}, headers, data[end + 4 :]
    )


def _request_line(line: str) -> tuple[str, str]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise HeadError(HTTPStatus.BAD_REQUEST, "the first line is not that of an HTTP/1.1 request")
    method, target, _ = parts
    if method != "GET":
        raise HeadError(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is served here")
    if "://" in target[:8]:  # the absolute form, as to a proxy
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    if not target.startswith("/") or not target.isascii() or not target.isprintable():
        raise HeadError(HTTPStatus.BAD_REQUEST, "the request names no path")
    return method, target


def _headers(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or not _TOKEN.issuperset(name):
            raise HeadError(HTTPStatus.BAD_REQUEST, "a header is malformed")
        name, value = name.lower(), value.strip(" \t")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def answer(status: HTTPStatus, body: object) -> bytes:
    """A whole response with ``body`` as JSON; the connection is closed after it."""
    encoded = msgspec.json.encode(body)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(encoded)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + encoded


def switching(request: Request) -> bytes:
    """The head that turns the connection into a WebSocket (RFC 6455, section 4.2.2). No extension
    and no subprotocol is agreed on.

    Raises:
        HeadError: it is no handshake of a WebSocket of version 13.
    """
    if request.headers.get("sec-websocket-version") != "13":
        raise HeadError(HTTPStatus.UPGRADE_REQUIRED, "only WebSockets of version 13 are served")
    key = request.headers.get("sec-websocket-key", "")
    try:
        usable = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        usable = False
    if not usable:
        raise HeadError(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64")
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    accept = base64.b64encode(digest).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()
