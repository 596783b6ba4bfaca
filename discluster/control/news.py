# SPDX-License-Identifier: Apache-2.0
"""What in a cluster's report is worth acting on at once. Pure.

A cluster reports every other second, and most of it is ages and latencies.
"""

from discluster.messages import ClusterReport


def footing(report: ClusterReport | None) -> object:
    """What decisions rest on: a pass, which asks the supervisor about every unit, follows."""
    if report is None:
        return None
    return report.generation, frozenset(view.shard for view in report.shards)


def standings(report: ClusterReport | None) -> object:
    """What MASTER should hear of; the rest goes with the next report."""
    if report is None:
        return None
    shards = {(view.shard, view.state, view.problem, view.fatal) for view in report.shards}
    return report.generation, shards
