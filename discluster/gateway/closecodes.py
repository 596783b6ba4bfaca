# SPDX-License-Identifier: Apache-2.0
"""What a close code of Discord's means for a session, as data.

Discord: Opcodes and Status Codes, Gateway Close Event Codes. Codes that are not listed there (1000
and 1001 from Discord's edge, 1006 and other codes of the WebSocket layer, unknown ones) leave the
session resumable as far as anybody knows, so RESUME is tried: it costs no identify.
"""

from enum import Enum
from typing import Final

import msgspec

KEEP_SESSION: Final = 4000
"""The code that we close with: any but 1000 and 1001 leaves the session resumable."""

END_SESSION: Final = 1000
"""The code that ends the session at once (Discord: Gateway, Disconnecting)."""


class Action(Enum):
    """What to do after a close."""

    RESUME = "resume"
    IDENTIFY = "identify"  # the session is gone
    FATAL = "fatal"  # no retry can mend it


class CloseRule(msgspec.Struct, frozen=True):
    """One row of the table. ``advice``: what the operator is to do, where he is to do anything."""

    name: str
    action: Action
    advice: str = ""


_RESTART: Final = "restart the clusters"
_OURS: Final = "this is a fault in discluster, please report it"

RULES: Final[dict[int, CloseRule]] = {
    1000: CloseRule("Closed by Discord, often for missing heartbeats", Action.RESUME),
    1001: CloseRule("Discord's edge is going away", Action.RESUME),
    4000: CloseRule("Unknown error", Action.RESUME),
    4001: CloseRule("Unknown opcode", Action.RESUME, _OURS),
    4002: CloseRule("Decode error", Action.RESUME, _OURS),
    4003: CloseRule(
        "Not authenticated",
        Action.RESUME,
        "if it happens on many shards, the token was reset or an intent was withdrawn:"
        " look at the bot's page in Discord's developer portal",
    ),
    4004: CloseRule(
        "Authentication failed",
        Action.FATAL,
        f"put a valid token into the credential discluster.token and {_RESTART}",
    ),
    4005: CloseRule("Already authenticated", Action.RESUME, _OURS),
    4006: CloseRule("Session no longer valid", Action.IDENTIFY),
    4007: CloseRule("Invalid seq", Action.IDENTIFY),
    4008: CloseRule("Rate limited", Action.RESUME),
    4009: CloseRule("Session timed out", Action.IDENTIFY),
    4010: CloseRule(
        "Invalid shard",
        Action.FATAL,
        "let MASTER read Discord's recommendation again: a large bot's shard count must be a"
        " multiple of the number that Discord assigned",
    ),
    4011: CloseRule(
        "Sharding required",
        Action.FATAL,
        "a shard has more than 2500 guilds: raise the shard count",
    ),
    4012: CloseRule(
        "Invalid API version", Action.FATAL, "install a discluster that speaks today's version"
    ),
    4013: CloseRule(
        "Invalid intents", Action.FATAL, f"correct the intents in the settings and {_RESTART}"
    ),
    4014: CloseRule(
        "Disallowed intents",
        Action.FATAL,
        "enable the privileged intents for the bot in Discord's developer portal, or take them"
        f" out of the settings, and {_RESTART}",
    ),
}

_UNKNOWN: Final = CloseRule("no meaning known", Action.RESUME)
_NO_CODE: Final = CloseRule("no close code", Action.RESUME)

_REJECTED: Final[dict[int, str]] = {
    4004: "the bot token",
    4010: "the shard",
    4011: "the shard count",
    4012: "the API version",
    4013: "the intents",
    4014: "the intents",
}


def rule_for(code: int | None) -> CloseRule:
    """The rule of a close code; None: the connection was lost without one."""
    return _NO_CODE if code is None else RULES.get(code, _UNKNOWN)


def describe(code: int | None, reason: str = "") -> str:
    """A close in words for an operator, with what to do. ``reason``: text of the close frame."""
    if code is None:
        return "the connection was lost without a close code" + (f" ({reason})" if reason else "")
    rule = rule_for(code)
    advice = f"; {rule.advice}" if rule.advice else ""
    if rule.action is Action.FATAL:
        return f"Discord rejected {_REJECTED[code]} ({code} {rule.name}){advice}"
    said = f": {reason}" if reason and reason.rstrip(".") != rule.name else ""
    return f"Discord closed the connection ({code} {rule.name}{said}){advice}"
