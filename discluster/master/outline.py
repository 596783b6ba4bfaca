# SPDX-License-Identifier: Apache-2.0
"""What a plan is made from. Pure."""

import msgspec

from discluster.master.desk import DiscordDesk
from discluster.master.planner import HostNeed
from discluster.plan import FleetPlan


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """A new plan is made when it changes."""

    shard_count: int
    gateway_url: str
    max_concurrency: int
    pace_after: float
    needs: dict[str, HostNeed]


def outline(
    before: FleetPlan | None, discord: DiscordDesk, needs: dict[str, HostNeed], *, pace_after: float
) -> Outline | None:
    """What a plan would be made from now; None while something is not known."""
    # The count of a running fleet never changes by itself.
    count = before.shard_count if before else discord.shard_count
    gateway = discord.gateway_url or (before.gateway_url if before else None)
    lanes = discord.max_concurrency or (before.max_concurrency if before else 1)
    if count is None or gateway is None:
        return None
    return Outline(
        shard_count=count,
        gateway_url=gateway,
        max_concurrency=lanes,
        pace_after=pace_after,
        needs=needs,
    )
