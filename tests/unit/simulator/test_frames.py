# SPDX-License-Identifier: Apache-2.0
"""WebSocket framing and the upgrade request, RFC 6455."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.simulator.frames import (
    FrameError,
    FrameReader,
    HandshakeError,
    Message,
    Opcode,
    accept_handshake,
    close_code,
    close_frame,
    frame,
    parse_handshake,
    refuse_handshake,
)
from tests.unit.simulator.client import client_frame

UPGRADE = (
    "GET /edge-a?v=10&encoding=json HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\n"
    "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Agent: me"
)


def reader() -> FrameReader:
    return FrameReader(max_message=1 << 20, too_large=4002)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 300), max_size=5),
    st.integers(1, 500),
    st.binary(min_size=4, max_size=4),
)
def test_messages_survive_any_split_of_the_stream(
    sizes: list[int], chunk: int, mask: bytes
) -> None:
    payloads = [bytes(number % 251 for number in range(size)) for size in sizes]
    stream = b"".join(client_frame(Opcode.BINARY, payload, mask=mask) for payload in payloads)
    frames, got = reader(), []
    for start in range(0, len(stream), chunk):
        got += list(frames.feed(stream[start : start + chunk]))
    assert got == [Message(Opcode.BINARY, payload) for payload in payloads]


def test_long_messages_are_read() -> None:
    stream = client_frame(Opcode.BINARY, b"x" * 70_000)
    frames = reader()
    assert list(frames.feed(stream[:4096])) == []
    assert list(frames.feed(stream[4096:8192])) == []
    assert list(frames.feed(stream[8192:])) == [Message(Opcode.BINARY, b"x" * 70_000)]


def test_fragments_are_joined_around_control_frames() -> None:
    stream = (
        client_frame(Opcode.TEXT, b"he", final=False)
        + client_frame(Opcode.PING, b"?")
        + client_frame(Opcode.CONTINUATION, b"l", final=False)
        + client_frame(Opcode.CONTINUATION, b"lo")
    )
    assert list(reader().feed(stream)) == [
        Message(Opcode.PING, b"?"),
        Message(Opcode.TEXT, b"hello"),
    ]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        pytest.param(frame(Opcode.TEXT, b"{}"), 1002, id="not masked"),
        pytest.param(b"\xc1" + client_frame(Opcode.TEXT, b"x")[1:], 1002, id="compressed bit"),
        pytest.param(b"\x83" + client_frame(Opcode.TEXT, b"x")[1:], 1002, id="unknown opcode"),
        pytest.param(client_frame(Opcode.CONTINUATION, b"x"), 1002, id="nothing to continue"),
        pytest.param(client_frame(Opcode.TEXT, b"x", final=False) * 2, 1002, id="interrupted"),
        pytest.param(client_frame(Opcode.PING, b"x", final=False), 1002, id="split ping"),
        pytest.param(client_frame(Opcode.PING, b"x" * 126), 1002, id="long ping"),
        pytest.param(client_frame(Opcode.TEXT, b"x" * 101), 4002, id="too large"),
        pytest.param(
            client_frame(Opcode.TEXT, b"x" * 60, final=False)
            + client_frame(Opcode.CONTINUATION, b"x" * 60),
            4002,
            id="too large in fragments",
        ),
    ],
)
def test_broken_framing_is_refused(stream: bytes, code: int) -> None:
    strict = FrameReader(max_message=100, too_large=4002)
    with pytest.raises(FrameError) as refusal:
        list(strict.feed(stream))
    assert refusal.value.code == code


def test_what_came_before_a_broken_frame_is_delivered() -> None:
    messages = reader().feed(client_frame(Opcode.TEXT, b"ok") + b"\xff\xff")
    assert next(messages) == Message(Opcode.TEXT, b"ok")
    with pytest.raises(FrameError):
        next(messages)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_lengths_are_written_in_the_shortest_form(size: int) -> None:
    head = frame(Opcode.TEXT, b"x" * size)[: -size or None]
    assert len(head) == (2 if size < 126 else 4 if size < 65_536 else 10)


def test_close_frames_carry_code_and_reason_or_nothing() -> None:
    assert close_frame(4009, "Session timed out.")[2:] == b"\x0f\xa9Session timed out."
    assert close_frame(None) == b"\x88\x00"
    assert close_code(b"") is None
    assert close_code(struct.pack("!H", 4000) + b"why") == 4000
    with pytest.raises(FrameError):
        close_code(b"\x03")


def test_handshake_is_read_and_accepted() -> None:
    asked = parse_handshake(UPGRADE.encode())
    assert asked.path == "/edge-a"
    assert asked.query == {"v": "10", "encoding": "json"}
    assert asked.user_agent == "me"
    # The example of RFC 6455 section 1.3.
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in accept_handshake(asked.key)


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("GET", "POST", 405),
        ("HTTP/1.1", "HTTP/1.0", 405),
        ("Host: x\r\n", "", 400),
        ("Upgrade: WebSocket\r\n", "", 426),
        ("keep-alive, Upgrade", "keep-alive", 426),
        ("Version: 13", "Version: 8", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
        ("GET /edge-a?v=10&encoding=json HTTP/1.1", "nonsense", 400),
        ("User-Agent: me", "User-Agent: \xff", 400),
    ],
)
def test_bad_handshakes_are_refused(old: str, new: str, status: int) -> None:
    with pytest.raises(HandshakeError) as refusal:
        parse_handshake(UPGRADE.replace(old, new).encode("latin-1"))
    assert refusal.value.status == status
    assert refuse_handshake(status, b"no").startswith(f"HTTP/1.1 {status} ".encode())
