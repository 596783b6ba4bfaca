# SPDX-License-Identifier: Apache-2.0
"""How payloads are put into WebSocket frames when a script wants it odd. No I/O.

Without a script a payload is one message of one frame; this is the slow way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise

from discluster.simulator.deeds import Frames
from discluster.simulator.frames import Opcode, frame


class Shape:
    """The odd ways of one connection; `frames`, `corrupt` and `truncate` may change any time."""

    def __init__(self) -> None:
        self.frames = Frames()
        self.corrupt = 0
        self.truncate = False
        self._ended = False

    def wire(
        self, payloads: Iterable[bytes], opcode: Opcode, encode: Callable[[bytes], bytes]
    ) -> list[bytes]:
        """The frames of these payloads, which are sent in one go."""
        opcode = Opcode.TEXT if self.frames.text else opcode
        bodies = [body for payload in payloads for body in self._bodies(payload, encode)]
        joined = _joined(bodies, self.frames.join)
        return [part for body in joined for part in self._parts(opcode, body)]

    def _bodies(self, payload: bytes, encode: Callable[[bytes], bytes]) -> Iterator[bytes]:
        middle = len(payload) // 2 if self.frames.false_suffix else 0
        for half in (payload[:middle], payload[middle:]):
            if half and not self._ended:
                yield self._damaged(encode(half))

    def _damaged(self, body: bytes) -> bytes:
        if self.corrupt:
            self.corrupt -= 1
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
        if self.truncate:
            self._ended = True
            body = body[: len(body) // 2]
        return body

    def _parts(self, opcode: Opcode, body: bytes) -> Iterator[bytes]:
        tail = body[-2:] if self.frames.suffix and len(body) > 2 else b""
        for piece in pieces(body[: len(body) - len(tail)], self.frames.split):
            yield from _fragments(opcode, piece, self.frames.fragments)
        if tail:
            yield from _fragments(opcode, tail, self.frames.fragments)


def pieces(body: bytes, count: int) -> list[bytes]:
    """`count` pieces of about one size, or fewer when there are not so many bytes."""
    count = max(1, min(count, len(body)))
    edges = [len(body) * number // count for number in range(count + 1)]
    return [body[begin:end] for begin, end in pairwise(edges)]


def _joined(bodies: list[bytes], count: int) -> Iterator[bytes]:
    rest = iter(bodies)
    while group := list(islice(rest, count)):
        yield b"".join(group)


def _fragments(opcode: Opcode, body: bytes, count: int) -> Iterator[bytes]:
    """One message in so many frames, RFC 6455 section 5.4."""
    parts = pieces(body, count)
    for number, part in enumerate(parts):
        first = opcode if number == 0 else Opcode.CONTINUATION
        whole = frame(first, part)
        final = number == len(parts) - 1
        yield whole if final else bytes([whole[0] & 0x7F]) + whole[1:]
