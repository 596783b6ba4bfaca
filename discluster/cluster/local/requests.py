# SPDX-License-Identifier: Apache-2.0
"""What a client sends, read strictly: one payload in, what it asks for or how it is refused out.

Discord: Gateway Events, Send Events; Opcodes and Status Codes, Gateway Close Event Codes.
"""

from typing import Annotated, Final

import msgspec

from discluster.decoding import DECODE_ERRORS, reason_of
from discluster.errors import CommandError
from discluster.gateway.asked import COMMANDS, command_of
from discluster.gateway.commands import Command

HEARTBEAT: Final = 1
IDENTIFY: Final = 2
PRESENCE: Final = 3
RESUME: Final = 6
_Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Refusal(msgspec.Struct, frozen=True):
    """The connection is closed with ``code``; ``reason`` in words, for whoever runs the bot."""

    code: int
    reason: str


class Beat(msgspec.Struct, frozen=True):
    """Op 1. ``seq``: the last sequence that the client got; None: none yet."""

    seq: int | None


class Identify(msgspec.Struct, frozen=True):
    """Op 2. ``shard``: number and count. ``presence``: as op 3 has it."""

    token: str
    intents: int
    shard: tuple[int, int]
    presence: Command | None = None


class Resume(msgspec.Struct, frozen=True):
    """Op 6."""

    token: str
    session_id: str
    seq: _Sequence


class Order(msgspec.Struct, frozen=True):
    """Op 3, 4, 8, 31 or 43: something for Discord."""

    command: Command


Request = Beat | Identify | Resume | Order


class _Payload(msgspec.Struct):
    op: int
    d: msgspec.Raw = msgspec.Raw(b"null")


class _Identify(msgspec.Struct):
    token: str
    intents: Annotated[int, msgspec.Meta(ge=0)]
    shard: tuple[int, int] = (0, 1)
    presence: msgspec.Raw = msgspec.Raw(b"null")


_OPS: Final = frozenset((HEARTBEAT, IDENTIFY, RESUME, *COMMANDS))
_payload: Final = msgspec.json.Decoder(_Payload)
_beat: Final = msgspec.json.Decoder(_Sequence | None)
_identify: Final = msgspec.json.Decoder(_Identify)
_resume: Final = msgspec.json.Decoder(Resume)
_UNREADABLE: Final = Refusal(4002, "Error while decoding payload")


def read(payload: bytes, *, authenticated: bool) -> Request | Refusal:
    """What ``payload`` asks for. ``authenticated``: the client has sent IDENTIFY or RESUME."""
    try:
        message = _payload.decode(payload)
    except DECODE_ERRORS:
        return _UNREADABLE
    if message.op not in _OPS:
        return Refusal(4001, f"Unknown opcode {message.op}")
    if message.op in (IDENTIFY, RESUME):
        if authenticated:
            return Refusal(4005, "Already authenticated")
    elif message.op != HEARTBEAT and not authenticated:
        return Refusal(4003, "Not authenticated")
    try:
        return _read(message.op, message.d)
    except DECODE_ERRORS as error:
        return Refusal(4002, f"Error while decoding op {message.op}: {reason_of(error)}")
    except CommandError as error:
        return Refusal(4002, error.message)


def _read(op: int, body: msgspec.Raw) -> Request:
    if op == HEARTBEAT:
        return Beat(_beat.decode(body))
    if op == RESUME:
        resume = _resume.decode(body)
        return msgspec.structs.replace(resume, token=_bare(resume.token))
    if op == IDENTIFY:
        said = _identify.decode(body)
        absent = bytes(said.presence) == b"null"
        presence = None if absent else command_of(PRESENCE, said.presence)
        return Identify(_bare(said.token), said.intents, said.shard, presence)
    return Order(command_of(op, body))


def _bare(token: str) -> str:
    """Some libraries write ``Bot TOKEN``, as in HTTP."""
    return token.removeprefix("Bot ")
