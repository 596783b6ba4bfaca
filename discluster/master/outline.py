# SPDX-License-Identifier: Apache-2.0
"""What a plan is made from. Pure."""

import hashlib

import msgspec

from discluster.master.desk import DiscordDesk
from discluster.master.placement.balance import Balanced
from discluster.master.planner import HostNeed
from discluster.plan import Failed, FleetPlan


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """A new plan is made when it changes. ``failed``: as in :class:`FleetPlan`."""

    shard_count: int
    gateway_url: str
    max_concurrency: int
    pace_after: float
    needs: dict[str, HostNeed]
    balance: Balanced = "shards"
    failed: dict[int, Failed] = {}


def outline(
    before: FleetPlan | None,
    discord: DiscordDesk,
    needs: dict[str, HostNeed],
    *,
    pace_after: float,
    found: int | None = None,
    balance: Balanced = "shards",
) -> Outline | None:
    """What a plan would be made from now; None while something is not known. ``found``: how many
    shards the hosts run under a plan that MASTER does not have any more.
    """
    # The count of a running fleet never changes by itself.
    count = before.shard_count if before else found or discord.shard_count
    gateway = discord.gateway_url or (before.gateway_url if before else discord.first_gateway_url)
    lanes = discord.max_concurrency or (before.max_concurrency if before else 1)
    if count is None or gateway is None:
        return None
    return Outline(
        shard_count=count,
        gateway_url=gateway,
        max_concurrency=lanes,
        pace_after=pace_after,
        needs=needs,
        balance=balance,
        failed=before.failed if before else {},
    )


def settled(planned: Outline, now: Outline) -> bool:
    """Whether a plan made from ``planned`` still holds. A host that was in touch and is not just
    keeps what it has.
    """
    needs = {
        host: msgspec.structs.replace(need, in_touch=True)
        if host in planned.needs and planned.needs[host].in_touch
        else need
        for host, need in now.needs.items()
    }
    return msgspec.structs.replace(now, needs=needs) == planned


def held(outline: Outline) -> Outline:
    """The same with everybody in touch, so that no host's absence or return calls for a plan."""
    needs = {h: msgspec.structs.replace(n, in_touch=True) for h, n in sorted(outline.needs.items())}
    return msgspec.structs.replace(outline, needs=needs)


def fingerprint(outline: Outline) -> str:
    """Of all that :func:`settled` looks at where a plan is :func:`held`."""
    return hashlib.sha256(msgspec.json.encode(held(outline))).hexdigest()
