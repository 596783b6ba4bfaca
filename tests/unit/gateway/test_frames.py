# SPDX-License-Identifier: Apache-2.0
"""WebSocket frames as a client reads and writes them."""

import random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.gateway import frames
from discluster.gateway.frames import BINARY, CLOSE, PING, PONG, TEXT, Control, FrameError
from discluster.gateway.frames import FrameReader as Reader
from discluster.gateway.sockets import Message

LIMIT: Final = 1 << 20
SIZES: Final = (0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000)


def frame(opcode: int, data: bytes, *, final: bool = True, longer: bool = False) -> bytes:
    """As a server sends it. ``longer``: with a longer length field than is needed."""
    first = (0x80 if final else 0) | opcode
    size = len(data)
    if size < 126 and not longer:
        return bytes((first, size)) + data
    if size < 1 << 16 and not (longer and size >= 126):
        return bytes((first, 126)) + size.to_bytes(2) + data
    return bytes((first, 127)) + size.to_bytes(8) + data


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Message], list[Control]]:
    """Any frames that a server may send, and what they hold."""
    stream, expected, controls = b"", list[Message](), list[Control]()
    for _ in range(draw(st.integers(0, 8))):
        text = draw(st.booleans())
        size = draw(st.sampled_from(SIZES) | st.integers(0, 400))
        data = random.Random(size).randbytes(size)
        data = data.hex().encode()[:size] if text else data
        kind = draw(st.sampled_from(["whole", "parts", "control"]))
        if kind == "control":
            opcode = draw(st.sampled_from([PING, PONG, CLOSE]))
            stream += frame(opcode, data[:125])
            controls.append(Control(opcode, data[:125]))
            continue
        pieces = [data] if kind == "whole" else [data[: size // 3], b"", data[size // 3 :]]
        for index, piece in enumerate(pieces):
            opcode = (TEXT if text else BINARY) if index == 0 else 0
            last = index == len(pieces) - 1
            stream += frame(opcode, piece, final=last, longer=draw(st.booleans()))
            if not last and draw(st.booleans()):
                stream += frame(PING, b"between")
                controls.append(Control(PING, b"between"))
        expected.append(memoryview(data) if text else data)
    return stream, expected, controls


@given(streams(), st.data())
def test_frames_are_read_alike_however_they_are_cut(
    sent: tuple[bytes, list[Message], list[Control]], data: st.DataObject
) -> None:
    stream, expected, controls = sent
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = Reader(limit=LIMIT)
    seen: list[Message] = []
    for start, stop in zip([0, *places], [*places, len(stream)], strict=True):
        seen += reader.feed(stream[start:stop])
    assert (seen, reader.controls) == (expected, controls)
    assert list(map(type, seen)) == list(map(type, expected))


@pytest.mark.covers("F17")
def test_f17_frames_of_one_byte_reads() -> None:
    stream = frame(BINARY, b"x" * 300) + frame(TEXT, b'{"op":11}') + frame(BINARY, b"")
    reader = Reader(limit=LIMIT)
    seen = [message for byte in stream for message in reader.feed(bytes((byte,)))]
    assert seen == [b"x" * 300, b'{"op":11}', b""]


@pytest.mark.parametrize("size", SIZES)
def test_message_of_any_size_and_what_follows(size: int) -> None:
    data = random.Random(size).randbytes(size)
    stream = frame(BINARY, data) + frame(BINARY, b"next")
    for first in (1, 2, 5, 11, len(stream) - 1):
        reader = Reader(limit=LIMIT)
        assert reader.feed(stream[:first]) + reader.feed(stream[first:]) == [data, b"next"]


@pytest.mark.covers("F18")
def test_f18_thirty_megabytes_in_small_reads_are_collected_without_copying_them_each_time() -> None:
    data = bytes(30_000_000)
    stream = frame(BINARY, data) + frame(BINARY, b"next")
    reader = Reader(limit=1 << 26)
    seen: list[Message] = []
    for start in range(0, len(stream), 16_384):
        seen += reader.feed(stream[start : start + 16_384])
    assert seen == [data, b"next"]


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(bytes((0x82, 0x85)), id="masked"),
        pytest.param(bytes((0x82, 0xFE, 0, 200)), id="masked, long"),
        pytest.param(bytes((0xC2, 1, 0)), id="reserved bit"),
        pytest.param(bytes((0x83, 1, 0)), id="unknown opcode"),
        pytest.param(bytes((0x8B, 0)), id="unknown control opcode"),
        pytest.param(bytes((0x09, 0)), id="ping in parts"),
        pytest.param(bytes((0x89, 126, 0, 126)) + bytes(126), id="long ping"),
        pytest.param(bytes((0x80, 0)), id="continuation of nothing"),
        pytest.param(bytes((0x02, 0, 0x82, 0)), id="message within a message"),
        pytest.param(bytes((0x82, 127)) + (LIMIT + 1).to_bytes(8), id="too large"),
        pytest.param(bytes((0x82, 127)) + (1 << 63).to_bytes(8), id="absurdly large"),
        pytest.param(frame(BINARY, bytes(LIMIT)) + bytes((2, 1, 0, 0x80, 127)) + LIMIT.to_bytes(8),
                     id="too large in parts"),
    ],
)  # fmt: skip
def test_what_no_server_may_send_is_refused_by_its_header(stream: bytes) -> None:
    reader = Reader(limit=LIMIT)
    with pytest.raises(FrameError):
        reader.feed(stream)


@given(st.binary(max_size=300) | st.sampled_from([bytes(n) for n in SIZES]))
def test_frame_that_we_send_is_masked_and_reads_back(data: bytes) -> None:
    sent = frames.encode(TEXT, data)
    assert sent[0] == 0x80 | TEXT
    assert sent[1] & 0x80
    length = sent[1] & 0x7F
    start = 2 + {126: 2, 127: 8}.get(length, 0)
    size = int.from_bytes(sent[2:start]) if length >= 126 else length
    mask, masked = sent[start : start + 4], sent[start + 4 :]
    assert size == len(masked) == len(data)
    assert bytes(b ^ mask[n % 4] for n, b in enumerate(masked)) == data


def test_two_frames_do_not_share_their_mask() -> None:
    assert len({frames.encode(TEXT, b"same")[2:6] for _ in range(20)}) > 15


def test_close_frame_code_and_reason() -> None:
    assert frames.close_code(b"") == (None, "")
    assert frames.close_code(b"\x0f") == (None, "")
    assert frames.close_code(frames.close_data(4004) + b"no\xff") == (4004, "no\ufffd")
