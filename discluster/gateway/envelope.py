# SPDX-License-Identifier: Apache-2.0
"""The outside of a payload: ``op``, ``s``, ``t`` and the raw ``d`` (Discord: Gateway Events,
Payload Structure). The body is not parsed.
"""

import re
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from discluster.decoding import DECODE_ERRORS as DECODE_ERRORS
from discluster.decoding import reason_of as reason_of

DISPATCH: Final = 0  # also by itself: reading it from the enumeration is felt in the hot path

_NULL: Final = msgspec.Raw(b"null")


class Op(IntEnum):
    """Opcodes that a bot receives (Discord: Opcodes and Status Codes)."""

    DISPATCH = DISPATCH
    HEARTBEAT = 1
    RECONNECT = 7
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11


class Envelope(msgspec.Struct, gc=False):
    """One payload. Only dispatches have ``s`` and ``t``; an ACK may be just ``{"op":11}``."""

    op: int
    d: msgspec.Raw = _NULL
    # 63 bits, since sessions store it in eight bytes; Discord's own never come near that.
    s: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    t: str | None = None


decode: Final = msgspec.json.Decoder(Envelope).decode
"""As :func:`parse`, but raises DECODE_ERRORS: for the event path, where each call counts."""


class MalformedError(Exception):
    """This is not a payload. The text says what is wrong, and quotes nothing of it."""


def parse(payload: bytes | str | memoryview) -> Envelope:
    """The envelope of one payload.

    Raises:
        MalformedError: not JSON, or a field that cannot be what Discord documents.
    """
    try:
        return decode(payload)
    except DECODE_ERRORS as error:
        raise MalformedError(reason_of(error)) from None


def from_ready(run: list[Envelope]) -> list[Envelope]:
    """What came of the session that READY begins, from READY on."""
    for index, envelope in enumerate(run):
        if envelope.t == "READY":
            return run[index:]
    return []


# A whole string, the start of one that does not end, or a bracket.
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|"|[{}\[\]]', re.DOTALL)


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole JSON objects at the start of ``data``, and what follows them.

    The rest is the beginning of a further object, or no object at all, or empty. Only brackets and
    strings are looked at: whether an object is well-formed is for :func:`parse` to find out.
    """
    payloads: list[bytes] = []
    start = depth = 0
    for token in _TOKEN.finditer(data):
        mark = token.group()
        if mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if depth <= 0:
                payloads.append(data[start : token.end()].strip())
                start, depth = token.end(), 0
        elif mark == b'"':
            break
    return payloads, data[start:].lstrip()
