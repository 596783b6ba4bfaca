# SPDX-License-Identifier: Apache-2.0
"""Whether a client may have what it asks for. Pure.

The reason of a close reaches the bot's log where its library shows it: 123 bytes at most.
"""

import hmac
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from discluster.cluster.local.interests import missing
from discluster.cluster.local.requests import Identify, Refusal
from discluster.secret import Secret


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the cluster has. ``shard_count``: of the fleet, None before it is known. ``shards``:
    that are this cluster's. ``intents``: that it sends to Discord.
    """

    shard_count: int | None
    shards: Collection[int]
    intents: int


def known_token(said: str, tokens: Iterable[Secret]) -> bool:
    """In a time that does not tell how much of it was right."""
    given, right = said.encode(errors="replace"), False
    for token in tokens:
        right |= hmac.compare_digest(given, token.reveal().encode())
    return right


WRONG_TOKEN: Final = Refusal(
    4004, "Authentication failed: neither the bot's token nor the local one"
)


def judge(identify: Identify, facts: Facts) -> Refusal | None:
    """Of an IDENTIFY with a right token: None: it is to be answered, at once or when its shard is
    there (``identify.shard[0]``).
    """
    number, count = identify.shard
    if facts.shard_count is None:
        return Refusal(4000, "The cluster has no assignment yet; try again")
    if count != facts.shard_count:
        return Refusal(4010, f"Invalid shard: the shard count is {facts.shard_count}, not {count}")
    if not 0 <= number < count:
        return Refusal(4010, f"Invalid shard: {number} is not below {count}")
    beyond = missing(identify.intents, of=facts.intents)
    if beyond:
        return Refusal(4014, f"Not in 'intents' of cluster.yaml: {', '.join(beyond)}")
    return None


def not_here(shard: int, facts: Facts) -> Refusal:
    """Of a shard that did not come in time."""
    here = ", ".join(map(str, sorted(facts.shards))) or "none"
    return Refusal(4000, f"Shard {shard} is not on this cluster, which has {here}; try again")
