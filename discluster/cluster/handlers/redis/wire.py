# SPDX-License-Identifier: Apache-2.0
"""Redis's protocol, RESP2, as its documentation has it (Redis serialization protocol
specification). No I/O.

Debian has a client, python3-redis. With it (6.1) an event costs three times the whole event path:
22,000 to 24,000 XADDs per CPU-second in pipelines of 32, of bodies of 800 bytes, where this and
:mod:`~discluster.cluster.handlers.redis.streams` do 117,000 to 146,000 on the same machine; in
pipelines of 8 it is 18,000 to 23,000 and 65,000 to 77,000.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from discluster.decoding import legible
from discluster.errors import ProtocolError

LONGEST_LINE: Final = 64 * 1024  # bytes
LONGEST_BULK: Final = 64 * 1024  # bytes; the largest that is asked for is a section of INFO

_END: Final = b"\r\n"


class RedisProtocolError(ProtocolError):
    """This is not what a Redis server says, or not in answer to what we ask."""

    code = "redis-protocol"


class Error(msgspec.Struct, frozen=True):
    """An error reply. ``code``: its first word, in capitals."""

    code: str
    text: str


Reply = bytes | int | Error | None
"""A simple or bulk string, a number, an error, or nothing. Nothing that we ask has a list for an
answer, so one is refused."""


class Reader:
    """Bytes in, replies out."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that ``data`` completes.

        Raises:
            RedisProtocolError: what was completed before is lost too; only a new connection helps.
        """
        if self._rest:
            data = self._rest + data
        found: list[Reply] = []
        position = 0
        while (end := data.find(_END, position)) >= 0:
            after = end + 2
            if data[position] == 36:  # $
                size = _size(data[position + 1 : end])
                if size >= 0:
                    stop = after + size
                    if len(data) < stop + 2:
                        break
                    if data[stop : stop + 2] != _END:
                        raise RedisProtocolError("a bulk string does not end where it should")
                    found.append(data[after:stop])
                    position = stop + 2
                    continue
                found.append(None)
            else:
                found.append(_simple(data[position:end]))
            position = after
        self._rest = data[position:]
        if end < 0 and len(self._rest) > LONGEST_LINE:
            raise RedisProtocolError("a line does not end")
        return found


def _size(word: bytes) -> int:
    if word == b"-1":
        return -1
    if not word.isdigit() or len(word) > 9 or int(word) > LONGEST_BULK:
        raise RedisProtocolError("a bulk string has no usable size")
    return int(word)


def _simple(line: bytes) -> Reply:
    kind, rest = line[:1], line[1:]
    match kind:
        case b"+":
            return rest
        case b"-":
            text = legible(rest.decode(errors="replace"))
            return Error(text.partition(" ")[0], text or "an error without words")
        case b":":
            if rest.removeprefix(b"-").isdigit() and len(rest) <= 20:
                return int(rest)
    raise RedisProtocolError("an unknown kind of reply")


def command(*words: bytes) -> bytes:
    """A command as Redis reads it."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def infos(section: bytes) -> dict[str, str]:
    """The lines ``name:value`` of a section of INFO."""
    lines = section.decode(errors="replace").split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def first_error(replies: Sequence[Reply]) -> Error | None:
    """The first one among ``replies``."""
    return next((reply for reply in replies if isinstance(reply, Error)), None)
