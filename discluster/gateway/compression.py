# SPDX-License-Identifier: Apache-2.0
"""Transport compression (Discord: Gateway, Transport Compression).

One inflater lives exactly as long as its connection: a context that meets the bytes of another
connection is broken for good. All inflaters bound what one message may grow to.
"""

import zlib
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import zstandard

from discluster.errors import ProtocolError
from discluster.gateway.identity import Compression

MAXIMUM_PAYLOAD: Final = 64 * 1024 * 1024  # bytes; the largest guilds are said to reach 30 MB
MAXIMUM_WINDOW: Final = 8 * 1024 * 1024  # bytes of memory that a zstd stream may ask for

_SUFFIX: Final = b"\x00\x00\xff\xff"  # ends a zlib sync flush
# 1 KiB of zstd grows to 32 MiB at the very most (128 KiB for four bytes), so that checking the
# size after each slice bounds the memory; python-zstandard has no limit of its own.
_SLICE: Final = 1024
_SLICE_GROWS_TO: Final = _SLICE // 4 * 128 * 1024


class StreamError(ProtocolError):
    """The stream of this connection cannot be read any further; only a new connection helps."""

    code = "stream"


class Shortcut(msgspec.Struct, frozen=True):
    """A way around :meth:`Inflater.feed` for short messages, which are nearly all: what is felt in
    the event path is each call. ``call`` may raise ``errors``, which then are a StreamError.
    ``below``: it is good for messages of fewer bytes.
    """

    below: int
    call: Callable[[bytes], bytes]
    errors: tuple[type[Exception], ...]


NO_SHORTCUT: Final = Shortcut(0, bytes, ())


class Inflater(Protocol):
    """Turns the binary messages of one connection into text."""

    shortcut: Shortcut

    def feed(self, message: bytes) -> bytes:
        """The text that ``message`` completes, empty if that needs more messages.

        Raises:
            StreamError: corrupt, or larger than the limit.
        """
        ...


class Plain:
    """No compression."""

    shortcut = NO_SHORTCUT

    def __init__(self, limit: int = MAXIMUM_PAYLOAD) -> None:
        self._limit = limit

    def feed(self, message: bytes) -> bytes:
        if len(message) > self._limit:
            raise _too_large(self._limit)
        return message


class ZlibStream:
    """``zlib-stream``: messages are collected until their end is the end of a sync flush."""

    shortcut = NO_SHORTCUT

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
            raise corrupt(error) from None
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
        self._decompress = decompressor.decompressobj(write_size=4096).decompress
        # What one slice can grow to at most is within the limit anyway.
        below = _SLICE + 1 if limit >= _SLICE_GROWS_TO else 0
        self.shortcut = Shortcut(below, self._decompress, (zstandard.ZstdError,))

    def feed(self, message: bytes) -> bytes:
        try:
            small = len(message) <= _SLICE
            text = self._decompress(message) if small else self._sliced(message)
        except zstandard.ZstdError as error:
            raise corrupt(error) from None
        if len(text) > self._limit:
            raise _too_large(self._limit)
        return text

    def _sliced(self, message: bytes) -> bytes:
        parts: list[bytes] = []
        size = 0
        for start in range(0, len(message), _SLICE):
            part = self._decompress(message[start : start + _SLICE])
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


def corrupt(error: Exception) -> StreamError:
    """What a decompressor raised, as what it means."""
    return StreamError(f"the compressed stream is corrupt: {error}")


def _too_large(limit: int) -> StreamError:
    return StreamError(f"a payload is larger than {limit >> 20} MiB")
