# SPDX-License-Identifier: Apache-2.0
"""The WebSocket frames of a server, cut into reads in any way.

The first byte tells how: what is read must not depend on it.
"""

import struct

from hypothesis import strategies as st

from discluster.gateway.frames import Control, FrameError, FrameReader
from discluster.gateway.sockets import Messages
from tests.fuzz import shapes
from tests.fuzz.contract import check_error

LONGEST = 4 * 1024
_LIMIT = 1 << 16

Read = tuple[Messages, list[Control]]


def target(data: bytes) -> None:
    step, data = (data[0] % 37 + 1 if data else 1), data[1:]
    whole, pieces = _read([data]), _read([data[i : i + step] for i in range(0, len(data), step)])
    assert whole == pieces
    if whole is not None:
        assert sum(len(message) for message in whole[0]) <= 3 * len(data)
        assert all(len(control.data) <= 125 for control in whole[1])


def _read(reads: list[bytes]) -> Read | None:
    """Messages and control frames; None: refused."""
    reader = FrameReader(limit=_LIMIT)
    found: Messages = []
    try:
        for data in reads:
            found += reader.feed(data)
    except FrameError as error:
        check_error(error)
        return None
    return found, reader.controls


def _frame(first: int, payload: bytes, form: int) -> bytes:
    size = len(payload)
    if form == 0 and size < 126:
        return struct.pack(">BB", first, size) + payload
    if form < 2:
        return struct.pack(">BBH", first, 126, size) + payload
    return struct.pack(">BBQ", first, 127, size) + payload


def inputs() -> st.SearchStrategy[bytes]:
    usual = st.sampled_from([0x81, 0x82, 0x82, 0x01, 0x02, 0x00, 0x80, 0x80, 0x88, 0x89, 0x8A])
    first = st.one_of(usual, usual, usual, st.integers(0, 255))
    payload = st.one_of(st.binary(max_size=30), st.just(b'{"op":11}'), st.just(b"x" * 200))
    frame = st.builds(_frame, first, payload, shapes.small)
    lies = st.builds(struct.pack, st.just(">BBQ"), first, st.just(127), st.integers(0, 2**64 - 1))
    stream = st.lists(st.one_of(frame, frame, frame, lies), max_size=6).map(b"".join)
    return st.builds(
        lambda how, all_: bytes([how]) + all_, st.integers(0, 255), shapes.damaged(stream)
    )
