# SPDX-License-Identifier: Apache-2.0
"""What a client that asked for a compression reads, and what it costs."""

import random
import zlib
from collections.abc import Callable

import pytest
import zstandard

from discluster.cluster.local.encoding import encoder
from discluster.cluster.local.framing import header
from discluster.gateway.frames import TEXT, FrameReader

PAYLOADS = [random.Random(size).randbytes(size) for size in (2, 100, 1000, 20_000, 1_000_000)]


def decompressors() -> dict[str, Callable[[bytes], bytes]]:
    return {
        "zlib-stream": zlib.decompressobj().decompress,
        "zstd-stream": zstandard.ZstdDecompressor().decompressobj().decompress,
    }


@pytest.mark.parametrize("compress", ["zlib-stream", "zstd-stream"])
def test_each_payload_can_be_read_as_soon_as_its_message_came(compress: str) -> None:
    chosen, decompress = encoder(compress), decompressors()[compress]
    assert chosen is not None
    frames = [header(TEXT, len(payload)) + payload for payload in PAYLOADS]
    sent = chosen.say(PAYLOADS[2]) + chosen.forward(frames)
    messages = FrameReader(limit=1 << 24).feed(sent)
    assert all(isinstance(message, bytes) for message in messages)
    read = [decompress(message) for message in messages if isinstance(message, bytes)]
    assert read == [PAYLOADS[2], *PAYLOADS]


def test_message_of_zlib_ends_as_libraries_look_for_it() -> None:
    chosen = encoder("zlib-stream")
    assert chosen is not None
    (message,) = FrameReader(limit=1 << 24).feed(chosen.say(b'{"op":11}'))
    assert isinstance(message, bytes)
    assert message.endswith(b"\0\0\xff\xff")


def test_unknown_compression_is_none() -> None:
    assert encoder("brotli") is None
