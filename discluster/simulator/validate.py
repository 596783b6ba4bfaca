# SPDX-License-Identifier: Apache-2.0
"""What a client may send: one frame in, what it means or how it is refused out. No I/O.

(Discord: Gateway Events, Send Events; Opcodes and Status Codes.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from discluster.simulator.guilds import numbers_on_shard
from discluster.simulator.intents import DEFINED_INTENTS, PRIVILEGED_INTENTS
from discluster.simulator.ledger import Shard

MAX_PAYLOAD_BYTES: Final = 4096
DECODE_ERROR: Final = "Error while decoding payload."
OPERATOR_CODES: Final = frozenset({4004, 4010, 4011, 4013, 4014})
TERMINAL_CODES: Final = OPERATOR_CODES | {4012}
"""Close codes after which a client must not come back. (Discord: Gateway Close Event Codes.)"""

SESSION_ENDING_CODES: Final = TERMINAL_CODES | {4006, 4007, 4009}
"""Close codes after which a session cannot be resumed."""

COMMANDS: Final = frozenset({3, 4, 8, 31, 43})
_CLIENT_OPS: Final = frozenset({1, 2, 6}) | COMMANDS
_REQUIRED: Final[dict[int, dict[str, type | tuple[type, ...]]]] = {
    3: {"activities": list, "status": str, "afk": bool},
    4: {"guild_id": str, "self_mute": bool, "self_deaf": bool},
    8: {"guild_id": (str, list)},
    31: {"guild_ids": list},
    43: {"guild_id": str, "fields": list},
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Close the connection with this code; `rule` names the broken rule in the ledger."""

    code: int
    reason: str
    rule: str


@dataclass(frozen=True, slots=True)
class HeartbeatFrame:
    """Op 1. `odd` says what is strange about it, though it is accepted."""

    seq: int | None
    odd: str = ""


@dataclass(frozen=True, slots=True)
class IdentifyFrame:
    """Op 2, of the right types; token, shard and intents are still to be judged."""

    token: str
    shard: object
    intents: int
    oddities: tuple[tuple[str, str], ...]
    compress: bool = False


@dataclass(frozen=True, slots=True)
class ResumeFrame:
    """Op 6; `seq` is still to be judged."""

    token: str
    session_id: str
    seq: object


@dataclass(frozen=True, slots=True)
class CommandFrame:
    """Op 3, 4, 8, 31 or 43."""

    op: int
    data: dict[str, Any]


Frame = HeartbeatFrame | IdentifyFrame | ResumeFrame | CommandFrame | Refusal


def read_frame(payload: bytes, *, authenticated: bool) -> Frame:
    """Judge one message. Text or binary makes no difference: a known library sends binary JSON."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        return Refusal(4002, DECODE_ERROR, "payload-size")
    try:
        message = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _undecodable("payload-json")
    op = message.get("op") if isinstance(message, dict) else None
    if not _is_int(op):
        return _undecodable("payload-shape")
    if op not in _CLIENT_OPS:
        return Refusal(4001, "Unknown opcode.", "unknown-opcode")
    if op in COMMANDS and not authenticated:
        return Refusal(4003, "Not authenticated.", "not-authenticated")
    if op in (2, 6) and authenticated:
        return Refusal(4005, "Already authenticated.", "already-authenticated")
    return _read_data(op, message)


def _read_data(op: int, message: dict[str, Any]) -> Frame:
    if op == 1:
        return _read_heartbeat(message)
    data = message.get("d")
    if not isinstance(data, dict):
        return _undecodable("payload-shape")
    if op == 2:
        return _read_identify(data)
    if op == 6:
        return _read_resume(data)
    for name, kind in _REQUIRED[op].items():
        if not isinstance(data.get(name), kind):
            return _undecodable("payload-shape")
    return CommandFrame(op, data)


def _read_heartbeat(message: dict[str, Any]) -> HeartbeatFrame | Refusal:
    seq = message.get("d")
    if seq is not None and not _is_int(seq):
        return _undecodable("payload-shape")
    return HeartbeatFrame(seq, "" if "d" in message else "heartbeat without d")


def _read_identify(data: dict[str, Any]) -> IdentifyFrame | Refusal:
    token, properties, intents = data.get("token"), data.get("properties"), data.get("intents")
    if not isinstance(token, str) or not isinstance(properties, dict) or not _is_int(intents):
        return _undecodable("identify-shape")
    if not isinstance(data.get("presence", {}), dict | None):
        return _undecodable("identify-shape")
    assert isinstance(intents, int)
    oddities, compress = tuple(_identify_oddities(data)), data.get("compress") is True
    return IdentifyFrame(token, data.get("shard"), intents, oddities, compress)


def _identify_oddities(data: dict[str, Any]) -> list[tuple[str, str]]:
    oddities = []
    if data["token"].startswith("Bot "):
        oddities.append(("bot-prefix", "the token in IDENTIFY begins with 'Bot '"))
    threshold = data.get("large_threshold", 50)
    if not _is_int(threshold) or not 50 <= threshold <= 250:
        oddities.append(("large-threshold", "large_threshold is not within 50 to 250"))
    return oddities


def _read_resume(data: dict[str, Any]) -> ResumeFrame | Refusal:
    token, session_id = data.get("token"), data.get("session_id")
    if not isinstance(token, str) or not isinstance(session_id, str) or "seq" not in data:
        return _undecodable("resume-shape")
    return ResumeFrame(token, session_id, data["seq"])


def judge_shard(
    shard: object, *, guilds: int, max_guilds: int, assigned_multiple: int
) -> Shard | Refusal:
    """The `[shard_id, num_shards]` of an IDENTIFY, or 4010 or 4011. Absent means `[0, 1]`.

    `guilds`: of the bot. (Discord: Gateway, Sharding.)
    """
    invalid = Refusal(4010, "Invalid shard.", "invalid-shard")
    if shard is None:
        shard = [0, 1]
        if assigned_multiple:
            return Refusal(4011, "Sharding required.", "sharding-required")
    if not isinstance(shard, list) or len(shard) != 2 or not all(map(_is_int, shard)):
        return invalid
    shard_id, num_shards = shard
    if num_shards < 1 or not 0 <= shard_id < num_shards:
        return invalid
    if assigned_multiple and num_shards % assigned_multiple:
        return invalid
    if len(numbers_on_shard(shard_id, num_shards, guilds)) > max_guilds:
        return Refusal(4011, "Sharding required.", "sharding-required")
    return shard_id, num_shards


def judge_intents(intents: int, *, granted: int) -> Refusal | None:
    """4013 for bits that do not exist, 4014 for privileged ones that were not granted."""
    if intents < 0 or intents & ~DEFINED_INTENTS:
        return Refusal(4013, "Invalid intent(s).", "invalid-intents")
    if intents & PRIVILEGED_INTENTS & ~granted:
        return Refusal(4014, "Disallowed intent(s).", "disallowed-intents")
    return None


def judge_resume_seq(seq: object, *, last_seq: int) -> int | Refusal:
    """The sequence of a RESUME, or 4007. READY is 1, so 0 was never sent."""
    if isinstance(seq, bool) or not isinstance(seq, int) or not 1 <= seq <= last_seq:
        return Refusal(4007, "Invalid seq.", "invalid-seq")
    return seq


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _undecodable(rule: str) -> Refusal:
    return Refusal(4002, DECODE_ERROR, rule)
