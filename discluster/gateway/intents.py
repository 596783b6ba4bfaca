# SPDX-License-Identifier: Apache-2.0
"""Names of the intents (Discord: Gateway, List of Intents)."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

Intent = Literal[
    "GUILDS",
    "GUILD_MEMBERS",
    "GUILD_MODERATION",
    "GUILD_EXPRESSIONS",
    "GUILD_INTEGRATIONS",
    "GUILD_WEBHOOKS",
    "GUILD_INVITES",
    "GUILD_VOICE_STATES",
    "GUILD_PRESENCES",
    "GUILD_MESSAGES",
    "GUILD_MESSAGE_REACTIONS",
    "GUILD_MESSAGE_TYPING",
    "DIRECT_MESSAGES",
    "DIRECT_MESSAGE_REACTIONS",
    "DIRECT_MESSAGE_TYPING",
    "MESSAGE_CONTENT",
    "GUILD_SCHEDULED_EVENTS",
    "AUTO_MODERATION_CONFIGURATION",
    "AUTO_MODERATION_EXECUTION",
    "GUILD_MESSAGE_POLLS",
    "DIRECT_MESSAGE_POLLS",
]

_BITS: Final[Mapping[Intent, int]] = {
    "GUILDS": 0,
    "GUILD_MEMBERS": 1,
    "GUILD_MODERATION": 2,
    "GUILD_EXPRESSIONS": 3,
    "GUILD_INTEGRATIONS": 4,
    "GUILD_WEBHOOKS": 5,
    "GUILD_INVITES": 6,
    "GUILD_VOICE_STATES": 7,
    "GUILD_PRESENCES": 8,
    "GUILD_MESSAGES": 9,
    "GUILD_MESSAGE_REACTIONS": 10,
    "GUILD_MESSAGE_TYPING": 11,
    "DIRECT_MESSAGES": 12,
    "DIRECT_MESSAGE_REACTIONS": 13,
    "DIRECT_MESSAGE_TYPING": 14,
    "MESSAGE_CONTENT": 15,
    "GUILD_SCHEDULED_EVENTS": 16,
    "AUTO_MODERATION_CONFIGURATION": 20,
    "AUTO_MODERATION_EXECUTION": 21,
    "GUILD_MESSAGE_POLLS": 24,
    "DIRECT_MESSAGE_POLLS": 25,
}


def intent_names(bits: int) -> str:
    """What a bit field asks for, in words; bits without a name by their number."""
    names = {bit: name for name, bit in _BITS.items()}
    told = [names.get(n, f"bit {n}") for n in range(bits.bit_length()) if bits >> n & 1]
    return ", ".join(told)


def intent_bits(names: Iterable[Intent]) -> int:
    """The ``intents`` of IDENTIFY."""
    bits = 0
    for name in names:
        bits |= 1 << _BITS[name]
    return bits
