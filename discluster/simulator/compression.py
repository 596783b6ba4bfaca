# SPDX-License-Identifier: Apache-2.0
"""Transport compression towards the client: one context for each connection, never reused.

(Discord: Gateway, Transport Compression.)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import zstandard

from discluster.simulator.frames import Opcode

Encoder = Callable[[bytes], bytes]
"""Turns one payload into the body of one WebSocket message."""

SCHEMES: Final = ("zlib-stream", "zstd-stream")

# What captures of the real gateway show: a window of 256 KiB, neither size nor checksum.
_ZSTD_WINDOW_LOG: Final = 18


def _plain(payload: bytes) -> bytes:
    return payload


def _zlib_stream(level: int) -> Encoder:
    context = zlib.compressobj(level, zlib.DEFLATED, 15, 8)

    def encode(payload: bytes) -> bytes:
        return context.compress(payload) + context.flush(zlib.Z_SYNC_FLUSH)

    return encode


def _zstd_stream(level: int) -> Encoder:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=_ZSTD_WINDOW_LOG, write_content_size=False, write_checksum=False
    )
    context = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    def encode(payload: bytes) -> bytes:
        # A block flush leaves the frame open: it never ends while the connection lives.
        return context.compress(payload) + context.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    return encode


def make_encoder(scheme: str | None, *, zlib_level: int, zstd_level: int) -> tuple[Opcode, Encoder]:
    """The frame opcode and the encoder of a connection that asked for `compress=scheme`.

    A scheme that is not in SCHEMES means no compression.
    """
    if scheme == "zlib-stream":
        return Opcode.BINARY, _zlib_stream(zlib_level)
    if scheme == "zstd-stream":
        return Opcode.BINARY, _zstd_stream(zstd_level)
    return Opcode.TEXT, _plain
