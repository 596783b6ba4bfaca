# SPDX-License-Identifier: Apache-2.0
"""What in a host's report MASTER decides by. Pure.

A host reports every few seconds. Most of that is latencies and counters, for whoever looks at the
fleet; without this, each such report of a thousand hosts would cost a look at all shards.
"""

from collections import Counter
from typing import Final

import msgspec

from discluster.clearance import rejection
from discluster.messages import HostReport, ShardState


class Gist(msgspec.Struct, frozen=True, kw_only=True):
    """One report in short. ``states``: how many shards are in each; ``rejected``: why nobody may
    dial, in words; ``footing``: two reports that are equal in this lead to the same decisions.
    """

    states: Counter[ShardState]
    rejected: str | None
    footing: tuple[object, ...]


NOTHING: Final = Gist(states=Counter(), rejected=None, footing=())


def gist(report: HostReport) -> Gist:
    """Of a report."""
    shards = [shard for cluster in report.clusters for shard in cluster.shards]
    return Gist(
        states=Counter(shard.state for shard in shards),
        rejected=rejection(shards) or report.rejected,
        footing=(
            report.plan_generation,
            report.holding,
            report.released,
            report.entered,
            report.shard_count,
            report.problems,
            report.rejected,
            report.slots,
            report.leaving,
            report.witness,
            report.panel,
            [(c.cluster, c.unit, c.connected, c.generation, c.run) for c in report.clusters],
            [(c.restarts, c.problem) for c in report.clusters],
            [(shard.shard, shard.state, shard.problem, shard.fatal) for shard in shards],
        ),
    )
