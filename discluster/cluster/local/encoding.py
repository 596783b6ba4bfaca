# SPDX-License-Identifier: Apache-2.0
"""What goes to one client, as bytes for its socket: as it lies in the log, or as compressed.

Discord: Gateway, Transport Compression. One context for each connection; every payload is one
message, which ends with a flush.

Libraries insist on a compression, but within one machine a smaller message gains nothing. Both
formats have blocks that carry their text as it is: these cost the cluster and the bot a copy, a
fifteenth of zlib's fastest compression, and take no memory for what might be repeated.
"""

import zlib
from collections.abc import Sequence
from typing import Final, Protocol

import zstandard

from discluster.cluster.local import framing
from discluster.cluster.local.entries import Frame
from discluster.cluster.local.frames import encode
from discluster.gateway.frames import BINARY, TEXT

_STORED: Final = 0
# zstd has no level for that, but one so fast that it finds nothing in texts of some kilobytes.
_NEARLY_STORED: Final = zstandard.ZstdCompressionParameters.from_level(-1000, window_log=14)


class Encoder(Protocol):
    """Of one connection; the order of the calls is that of the messages. ``by_itself``: it must
    have each frame so.
    """

    by_itself: bool

    def say(self, payload: bytes) -> bytes:
        """The frame of one payload."""
        ...

    def forward(self, frames: Sequence[Frame]) -> Frame:
        """Text frames of the log."""
        ...


class Plain:
    """No compression: one copy of a frame serves all such clients."""

    by_itself = False

    def say(self, payload: bytes) -> bytes:
        return encode(TEXT, payload)

    def forward(self, frames: Sequence[Frame]) -> Frame:
        return frames[0] if len(frames) == 1 else b"".join(frames)


class _Compressed:
    by_itself = True

    def forward(self, frames: Sequence[Frame]) -> Frame:
        return b"".join([self.say(framing.payload(frame)) for frame in frames])

    def say(self, payload: bytes | memoryview) -> bytes:
        return encode(BINARY, self._message(payload))

    def _message(self, payload: bytes | memoryview) -> bytes:
        raise NotImplementedError


class ZlibStream(_Compressed):
    """``zlib-stream``."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_STORED, memLevel=1)

    def _message(self, payload: bytes | memoryview) -> bytes:
        return self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class ZstdStream(_Compressed):
    """``zstd-stream``."""

    def __init__(self) -> None:
        self._compress = zstandard.ZstdCompressor(compression_params=_NEARLY_STORED).compressobj()

    def _message(self, payload: bytes | memoryview) -> bytes:
        text = self._compress.compress(payload)
        return text + self._compress.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


def encoder(compress: str) -> Encoder | None:
    """By the ``compress`` of the URL, empty for none. None: that is not known."""
    match compress:
        case "" | "none":
            return Plain()
        case "zlib-stream":
            return ZlibStream()
        case "zstd-stream":
            return ZstdStream()
    return None
