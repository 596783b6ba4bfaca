# SPDX-License-Identifier: Apache-2.0
"""Which event types a client gets by its intents (Discord: Gateway, List of Intents)."""

from collections.abc import Mapping
from typing import Final, get_args

from discluster.gateway.intents import Intent, intent_bits

_BITS: Final[Mapping[str, int]] = {name: intent_bits([name]) for name in get_args(Intent)}
_BY_INTENTS: Final[Mapping[tuple[Intent, ...], tuple[str, ...]]] = {
    ("GUILDS",): (
        *("GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE"),
        *("GUILD_ROLE_CREATE", "GUILD_ROLE_UPDATE", "GUILD_ROLE_DELETE"),
        *("CHANNEL_CREATE", "CHANNEL_UPDATE", "CHANNEL_DELETE"),
        *("THREAD_CREATE", "THREAD_UPDATE", "THREAD_DELETE"),
        *("THREAD_LIST_SYNC", "THREAD_MEMBER_UPDATE"),
        *("STAGE_INSTANCE_CREATE", "STAGE_INSTANCE_UPDATE", "STAGE_INSTANCE_DELETE"),
        *("VOICE_CHANNEL_STATUS_UPDATE", "VOICE_CHANNEL_START_TIME_UPDATE"),
    ),
    ("GUILDS", "DIRECT_MESSAGES"): ("CHANNEL_PINS_UPDATE",),
    ("GUILDS", "GUILD_MEMBERS"): ("THREAD_MEMBERS_UPDATE",),
    ("GUILD_MEMBERS",): ("GUILD_MEMBER_ADD", "GUILD_MEMBER_REMOVE"),
    ("GUILD_MODERATION",): ("GUILD_AUDIT_LOG_ENTRY_CREATE", "GUILD_BAN_ADD", "GUILD_BAN_REMOVE"),
    ("GUILD_EXPRESSIONS",): (
        *("GUILD_EMOJIS_UPDATE", "GUILD_STICKERS_UPDATE"),
        *("GUILD_SOUNDBOARD_SOUND_CREATE", "GUILD_SOUNDBOARD_SOUND_UPDATE"),
        *("GUILD_SOUNDBOARD_SOUND_DELETE", "GUILD_SOUNDBOARD_SOUNDS_UPDATE"),
    ),
    ("GUILD_INTEGRATIONS",): (
        *("GUILD_INTEGRATIONS_UPDATE", "INTEGRATION_CREATE"),
        *("INTEGRATION_UPDATE", "INTEGRATION_DELETE"),
    ),
    ("GUILD_WEBHOOKS",): ("WEBHOOKS_UPDATE",),
    ("GUILD_INVITES",): ("INVITE_CREATE", "INVITE_DELETE"),
    ("GUILD_VOICE_STATES",): ("VOICE_STATE_UPDATE", "VOICE_CHANNEL_EFFECT_SEND"),
    ("GUILD_PRESENCES",): ("PRESENCE_UPDATE",),
    ("GUILD_MESSAGES", "DIRECT_MESSAGES"): (
        *("MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE"),
    ),
    ("GUILD_MESSAGES",): ("MESSAGE_DELETE_BULK",),
    ("GUILD_MESSAGE_REACTIONS", "DIRECT_MESSAGE_REACTIONS"): (
        *("MESSAGE_REACTION_ADD", "MESSAGE_REACTION_REMOVE"),
        *("MESSAGE_REACTION_REMOVE_ALL", "MESSAGE_REACTION_REMOVE_EMOJI"),
    ),
    ("GUILD_MESSAGE_TYPING", "DIRECT_MESSAGE_TYPING"): ("TYPING_START",),
    ("GUILD_SCHEDULED_EVENTS",): (
        *("GUILD_SCHEDULED_EVENT_CREATE", "GUILD_SCHEDULED_EVENT_UPDATE"),
        *("GUILD_SCHEDULED_EVENT_DELETE", "GUILD_SCHEDULED_EVENT_USER_ADD"),
        "GUILD_SCHEDULED_EVENT_USER_REMOVE",
    ),
    ("AUTO_MODERATION_CONFIGURATION",): (
        *("AUTO_MODERATION_RULE_CREATE", "AUTO_MODERATION_RULE_UPDATE"),
        "AUTO_MODERATION_RULE_DELETE",
    ),
    ("AUTO_MODERATION_EXECUTION",): ("AUTO_MODERATION_ACTION_EXECUTION",),
    ("GUILD_MESSAGE_POLLS", "DIRECT_MESSAGE_POLLS"): (
        *("MESSAGE_POLL_VOTE_ADD", "MESSAGE_POLL_VOTE_REMOVE"),
    ),
}
# Not GUILD_MEMBER_UPDATE, which Discord sends of the bot itself without any intent; not what
# Discord sends without one anyway. Types that are not listed go to everybody.


def unwanted(intents: int, *, of: int) -> frozenset[str]:
    """The types that a client with ``intents`` does not get of a cluster that has those in ``of``.
    Empty if it has the same.
    """
    if not of & ~intents:
        return frozenset()
    return frozenset(
        name
        for needed, names in _BY_INTENTS.items()
        if not intents & intent_bits(needed)
        for name in names
    )


def missing(intents: int, *, of: int) -> list[str]:
    """Names of the intents in ``intents`` that are not in ``of``; bits without one as a number."""
    beyond = intents & ~of
    found = [name for name, bit in _BITS.items() if beyond & bit]
    if rest := beyond & ~sum(_BITS.values()):
        found.append(f"{rest:#x}")
    return found
