# SPDX-License-Identifier: Apache-2.0
"""Heads of requests, as libraries and others write them."""

import pytest

from discluster.cluster.local.head import MAXIMUM_HEAD, HeadError, read_request, switching

# RFC 6455, section 1.2 and 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = (
    "GET /stats/?v=10&encoding=json&compress=zlib-stream HTTP/1.1\r\n"
    "Host: 127.0.0.1:7500\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_handshake_is_read_whole_with_what_came_after_it() -> None:
    request = read_request(HANDSHAKE.encode() + b"\x81")
    assert request is not None
    assert (request.path, request.query["compress"]) == ("/stats/", "zlib-stream")
    assert request.headers["host"] == "127.0.0.1:7500"
    assert request.upgrades
    assert request.rest == b"\x81"
    assert f"Sec-WebSocket-Accept: {ACCEPT}\r\n" in switching(request).decode()


def test_head_that_is_not_whole_yet_is_waited_for() -> None:
    assert read_request(HANDSHAKE[:-1].encode()) is None


def test_target_in_absolute_form_is_read() -> None:
    request = read_request(b"GET http://127.0.0.1:7500/gateway/bot HTTP/1.1\r\n\r\n")
    assert request is not None
    assert request.path == "/gateway/bot"


@pytest.mark.parametrize(
    ("head", "status", "words"),
    [
        ("POST / HTTP/1.1\r\n\r\n", 405, "only GET"),
        ("GET /\r\n\r\n", 400, "first line"),
        ("GET / HTTP/2\r\n\r\n", 400, "first line"),
        ("GET x HTTP/1.1\r\n\r\n", 400, "no path"),
        ("GET / HTTP/1.1\r\nnonsense\r\n\r\n", 400, "header is malformed"),
        ("GET / HTTP/1.1\r\na b: c\r\n\r\n", 400, "header is malformed"),
        ("GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400, "with a body"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "with a body"),
        (f"GET /?{'a=1&' * 30} HTTP/1.1\r\n\r\n", 400, "too many query"),
        ("x" * MAXIMUM_HEAD, 431, "at most"),
    ],
)
def test_request_that_is_not_served_is_refused_in_words(head: str, status: int, words: str) -> None:
    with pytest.raises(HeadError, match=words) as caught:
        read_request(head.encode())
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [("Version: 13", "Version: 8", 426), (KEY, "short", 400), (KEY, "%%%", 400)],
)
def test_handshake_that_is_wrong_is_refused(old: str, new: str, status: int) -> None:
    request = read_request(HANDSHAKE.replace(old, new).encode())
    assert request is not None
    with pytest.raises(HeadError) as caught:
        switching(request)
    assert caught.value.status == status
