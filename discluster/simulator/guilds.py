# SPDX-License-Identifier: Apache-2.0
"""The guilds of the simulated bot: their ids, and which shard each belongs to.

Nothing is stored: guild number i has a computed id, and the guilds of a shard are an arithmetic
progression of numbers. A million guilds cost nothing.
"""

from __future__ import annotations

# A multiple of every shard count that people use (1 to 16, 2 to 1024 in powers of two, …), so
# that guild i is on shard `i % num_shards`: evenly spread, and readable in a ledger.
FIRST_TIMESTAMP = 46_126_080 * 4_704

MAX_GUILDS = 1 << 22
"""More guilds than this would make two of them share the low bits of their ids."""


def guild_id(number: int) -> int:
    """Id (snowflake) of guild `number`, which counts from 0 and must be below MAX_GUILDS."""
    return (FIRST_TIMESTAMP + number) << 22 | number


def shard_of(guild: int, num_shards: int) -> int:
    """Shard id of a guild id. (Discord: Gateway, Sharding.)"""
    return (guild >> 22) % num_shards


def numbers_on_shard(shard_id: int, num_shards: int, count: int) -> range:
    """Numbers of the guilds on one shard, of a bot that is in `count` guilds."""
    return range((shard_id - FIRST_TIMESTAMP) % num_shards, count, num_shards)
