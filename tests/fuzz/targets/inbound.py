# SPDX-License-Identifier: Apache-2.0
"""Compressed messages of the gateway to envelopes. The first byte picks the compression, and
whether the messages are plain text that is to be compressed; two bytes of length stand before each.
"""

import logging
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import zstandard
from hypothesis import strategies as st

from discluster.gateway.compression import StreamError
from discluster.gateway.identity import Compression
from discluster.gateway.inbound import Inbound
from tests.fuzz import shapes
from tests.fuzz.contract import check_error

LONGEST = 4 * 1024
_KINDS: tuple[Compression, ...] = ("zstd-stream", "zlib-stream", "none")
_LIMITS = (1 << 16, 64 << 20)


def target(data: bytes) -> None:
    how, data = (data[0] if data else 0), data[1:]
    compression = _KINDS[how % 3]
    messages = list(_chunks(data))
    if how & 64:
        messages = list(map(_compressor(compression), messages))
    inbound = Inbound(compression, shard=0, limit=_LIMITS[how >> 7])
    logging.disable(logging.WARNING)
    try:
        for run in inbound.feed(messages):
            for envelope in run:
                assert envelope.s is None or 0 <= envelope.s < 2**63
                assert bytes(envelope.d)
    except StreamError as error:
        check_error(error)
    finally:
        logging.disable(logging.NOTSET)


def _chunks(data: bytes) -> Iterator[bytes]:
    while len(data) > 2:
        size = int.from_bytes(data[:2])
        yield data[2 : 2 + size]
        data = data[2 + size :]


def _compressor(compression: Compression) -> Callable[[bytes], bytes]:
    if compression == "zstd-stream":
        zstd = zstandard.ZstdCompressor().compressobj()
        flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        return lambda text: zstd.compress(text) + zstd.flush(flush)
    if compression == "zlib-stream":
        deflate = zlib.compressobj()
        return lambda text: deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return bytes


def inputs() -> st.SearchStrategy[bytes]:
    body: st.SearchStrategy[Any] = st.one_of(shapes.odd, st.just({"guilds": [{"id": "1"}]}))
    payload = st.fixed_dictionaries(
        {"op": st.one_of(st.sampled_from([0, 1, 7, 9, 10, 11]), shapes.odd)},
        optional={"d": body, "s": st.one_of(shapes.numbers, shapes.odd), "t": shapes.words},
    )
    text = shapes.damaged(shapes.as_json(payload))
    message = st.lists(text, min_size=1, max_size=3).map(b"".join)
    sized = message.map(lambda m: len(m).to_bytes(2) + m if len(m) < 2**16 else b"")
    return st.builds(
        lambda how, parts: bytes([how]) + b"".join(parts),
        st.integers(0, 255),
        st.lists(sized, max_size=6),
    )
