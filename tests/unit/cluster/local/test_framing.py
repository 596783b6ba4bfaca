# SPDX-License-Identifier: Apache-2.0
"""Frames of the local gateway, read by the reader of the gateway's side."""

import pytest

from discluster.cluster.local.framing import header, payload
from discluster.gateway.frames import TEXT, FrameReader


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_frame_of_any_size_is_read_as_it_was_written(size: int) -> None:
    text = b"x" * size
    frame = header(TEXT, size) + text
    assert FrameReader(limit=1 << 20).feed(frame) == [text]
    assert payload(frame) == text
