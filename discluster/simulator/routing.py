# SPDX-License-Identifier: Apache-2.0
"""Which sessions Discord would send an event to. Pure. (Discord: Gateway, Sharding.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from discluster.simulator.guilds import shard_of
from discluster.simulator.intents import Intent
from discluster.simulator.sessions import SessionFacts

_DIRECT: Final = (
    ("MESSAGE_REACTION_", Intent.DIRECT_MESSAGE_REACTIONS),
    ("MESSAGE_POLL_", Intent.DIRECT_MESSAGE_POLLS),
    ("MESSAGE_", Intent.DIRECT_MESSAGES),
    ("CHANNEL_PINS_", Intent.DIRECT_MESSAGES),
    ("TYPING_START", Intent.DIRECT_MESSAGE_TYPING),
)


def reaches(
    facts: SessionFacts, name: str, guild: int | None, guild_intents: Mapping[str, int]
) -> bool:
    """Whether a session gets an event of this guild, or of none.

    An event of a guild goes to the guild's shard, in each shard count that is in use; direct
    messages, entitlements and all else without a guild go to shard 0 of each.
    """
    shard_id, num_shards = facts.shard
    if guild is None:
        intent = _direct_intent(name)
        return shard_id == 0 and facts.intents & intent == intent
    intent = guild_intents.get(name, 0)
    return shard_of(guild, num_shards) == shard_id and facts.intents & intent == intent


def _direct_intent(name: str) -> int:
    return next((intent for prefix, intent in _DIRECT if name.startswith(prefix)), 0)
