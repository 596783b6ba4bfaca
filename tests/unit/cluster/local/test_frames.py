# SPDX-License-Identifier: Apache-2.0
"""Frames of clients, read strictly."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.cluster.local import frames
from discluster.cluster.local.frames import ClientFrameError, ClientFrames, Frame
from discluster.gateway.frames import PING, TEXT, masked

MASK = b"\x01\x02\x03\x04"


def client_frame(first: int, data: bytes, *, mask: bytes = MASK, form: int = 0) -> bytes:
    """``form``: 0 the shortest length, 1 at least 16 bits, 2 of 64 bits."""
    size = len(data)
    if form == 0 and size < 126:
        head = bytes((first, 0x80 | size))
    elif form < 2 and size < 1 << 16:
        head = struct.pack(">BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, size)
    return head + mask + masked(data, mask)


def read(data: bytes, *, step: int = 0, limit: int = 4096) -> list[Frame]:
    reader = ClientFrames(limit=limit)
    step = step or max(1, len(data))
    return [
        frame
        for start in range(0, len(data), step)
        for frame in reader.feed(data[start : start + step])
    ]


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 9, 10]), st.binary(max_size=125)), max_size=5),
    st.integers(1, 40),
    st.binary(min_size=4, max_size=4),
)
def test_what_a_client_sends_is_read_however_it_is_cut(
    sent: list[tuple[int, bytes]], step: int, mask: bytes
) -> None:
    stream = b"".join(client_frame(0x80 | op, data, mask=mask) for op, data in sent)
    assert read(stream, step=step) == [Frame(op, data) for op, data in sent]


@pytest.mark.parametrize("form", [0, 1, 2])
def test_every_form_of_a_length_is_read(form: int) -> None:
    assert read(client_frame(0x81, b"{}", form=form)) == [Frame(TEXT, b"{}")]


def test_message_in_several_frames_is_put_together_around_a_ping() -> None:
    stream = client_frame(0x01, b'{"op"') + client_frame(0x89, b"x") + client_frame(0x80, b":1}")
    assert read(stream) == [Frame(PING, b"x"), Frame(TEXT, b'{"op":1}')]


@pytest.mark.parametrize(
    ("stream", "words", "close"),
    [
        (b"\x81\x02{}", "not masked", 1002),
        (client_frame(0xC1, b"{}"), "extension", 1002),
        (client_frame(0x83, b""), "unknown opcode 3", 1002),
        (client_frame(0x89, b"x" * 126), "malformed", 1002),
        (client_frame(0x09, b""), "malformed", 1002),
        (client_frame(0x80, b""), "mixed", 1002),
        (client_frame(0x01, b"a") + client_frame(0x81, b"b"), "mixed", 1002),
        (client_frame(0x81, b"x" * 4097), "larger than 4096", 1009),
        (client_frame(0x01, b"x" * 4096) + client_frame(0x80, b"x"), "larger than 4096", 1009),
    ],
)
def test_frame_that_no_client_may_send_is_refused(stream: bytes, words: str, close: int) -> None:
    with pytest.raises(ClientFrameError, match=words) as caught:
        read(stream)
    assert caught.value.close == close


def test_frame_that_is_too_large_is_refused_by_its_header() -> None:
    with pytest.raises(ClientFrameError, match="larger"):
        read(struct.pack(">BBQ", 0x81, 0xFF, 1 << 62))


def test_reason_of_a_close_is_cut_to_what_a_control_frame_holds() -> None:
    frame = frames.close_frame(4000, "ä" * 200)
    assert frame[0] == 0x88
    assert len(frame) == 2 + frame[1] <= 127
    assert frame[4:].decode() == "ä" * 61
