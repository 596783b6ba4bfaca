# SPDX-License-Identifier: Apache-2.0
"""Transport compression (Discord: Gateway, Transport Compression).

One inflater lives exactly as long as its connection: a context that meets the bytes of another
connection is broken for good. All inflaters bound what one message may grow to.
"""

import zlib
from typing import Final, Protocol

import zstandard

from discluster.errors import ProtocolError
from discluster.gateway.identity import Compression

MAXIMUM_PAYLOAD: Final = 64 * 1024 * 1024  # bytes; the largest guilds are said to reach 30 MB
MAXIMUM_WINDOW: Final = 8 * 1024 * 1024  # bytes of memory that a zstd stream may ask for

_SUFFIX: Final = b"\x00\x00\xff\xff"  # ends a zlib sync flush
# 1 KiB of zstd grows to 32 MiB at the very most (128 KiB for four bytes), so that checking the
# size after each slice bounds the memory; python-zstandard has no limit of its own.
_SLICE: Final = 1024


class StreamError(ProtocolError):
    """The stream of this connection cannot be read any further; only a new connection helps."""

    code = "stream"


class Inflater(Protocol):
    """Turns the binary messages of one connection into text."""

    def feed(self, message: bytes) -> bytes:
        """The text that ``message`` completes, empty if that needs more messages.

        Raises:
            StreamError: corrupt, or larger than the limit.
        """
        ...


class Plain:
    """No compression."""

    def __init__(self, limit: int = MAXIMUM_PAYLOAD) -> None:
        self._limit = limit

    def feed(self, message: bytes) -> bytes:
        if len(message) > self._limit:
            raise _too_large(self._limit)
        return message


class ZlibStream:
    """``zlib-stream``: messages are collected until their end is the end of a sync flush."""

    def __init__(self, limit: int = MAXIMUM_PAYLOAD) -> None:
        self._limit = limit
        self._inflate = zlib.decompressobj()
        self._pending = bytearray()

    def feed(self, message: bytes) -> bytes:
        if not self._pending and message.endswith(_SUFFIX):
            return self._inflated(message)
        self._pending += message
        if len(self._pending) > self._limit:
            raise _too_large(self._limit)
        # The suffix itself may be spread over two messages: look at what was collected.
        if not self._pending.endswith(_SUFFIX):
            return b""
        collected = bytes(self._pending)
        self._pending.clear()
        return self._inflated(collected)

    def _inflated(self, data: bytes) -> bytes:
        try:
            text = self._inflate.decompress(data, self._limit + 1)
        except zlib.error as error:
            raise StreamError(f"the zlib stream is corrupt: {error}") from None
        if len(text) > self._limit:
            raise _too_large(self._limit)
        if self._inflate.eof:
            raise StreamError("the zlib stream ended")
        return text


class ZstdStream:
    """``zstd-stream``: every message is flushed, the frame never ends."""

    def __init__(self, limit: int = MAXIMUM_PAYLOAD) -> None:
        self._limit = limit
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAXIMUM_WINDOW)
        self._inflate = decompressor.decompressobj(write_size=16384)

    def feed(self, message: bytes) -> bytes:
        try:
            if len(message) <= _SLICE:
                text = self._inflate.decompress(message)
            else:
                text = self._sliced(message)
        except zstandard.ZstdError as error:
            raise StreamError(f"the zstd stream is corrupt: {error}") from None
        if len(text) > self._limit:
            raise _too_large(self._limit)
        return text

    def _sliced(self, message: bytes) -> bytes:
        parts: list[bytes] = []
        size = 0
        for start in range(0, len(message), _SLICE):
            part = self._inflate.decompress(message[start : start + _SLICE])
            size += len(part)
            if size > self._limit:
                raise _too_large(self._limit)
            parts.append(part)
        return b"".join(parts)


def inflater(compression: Compression, *, limit: int = MAXIMUM_PAYLOAD) -> Inflater:
    """A fresh inflater for one connection."""
    if compression == "zstd-stream":
        return ZstdStream(limit)
    return ZlibStream(limit) if compression == "zlib-stream" else Plain(limit)


def _too_large(limit: int) -> StreamError:
    return StreamError(f"a payload is larger than {limit >> 20} MiB")
