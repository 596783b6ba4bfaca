# SPDX-License-Identifier: Apache-2.0
"""A rolling restart in words and as a bar. Pure: where it stands in, lines out."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from discluster.console import RolloutCluster, RolloutStatus
from discluster.ctl import progress, tables, words

CONTINUE: Final = "disclusterctl restart --rolling --continue"
_MOST_LINES: Final = 8


def of_state(status: RolloutStatus, *states: str) -> list[RolloutCluster]:
    """Its clusters that are in one of ``states``."""
    return [cluster for cluster in status.clusters if cluster.state in states]


def counts(status: RolloutStatus) -> str:
    """``12 of 40 clusters restarted``."""
    restarted, gone = len(of_state(status, "restarted")), len(of_state(status, "gone"))
    more = f", {gone:,} not in the plan any more" if gone else ""
    return f"{restarted:,} of {words.count(len(status.clusters), 'cluster')} restarted{more}"


def remaining(status: RolloutStatus) -> float | None:
    """Seconds until all are back, going by those that are; None while none is."""
    taken = [c.seconds for c in of_state(status, "restarted") if c.seconds is not None]
    left = len(of_state(status, "waiting", "underway"))
    return fmean(taken) * math.ceil(left / status.at_a_time) if taken and left else None


def bar(status: RolloutStatus, *, width: int, away: str | None = None) -> RenderableType:
    """What a terminal shows while it goes on. ``away``: why nothing newer is known."""
    done = len(of_state(status, "restarted", "gone"))
    left = remaining(status)
    about = f", about {words.duration(left)} left" if left is not None else ""
    counted = f"{done:,}/{words.count(len(status.clusters), 'cluster')}{about}"
    return progress.bar(
        "Restarting",
        counted,
        done=done,
        total=len(status.clusters),
        details=_underway(status),
        width=width,
        away=away,
    )


def _underway(status: RolloutStatus) -> list[RenderableType]:
    underway = of_state(status, "underway")
    grid = Table.grid(padding=(0, 2))
    for cluster in underway[:_MOST_LINES]:
        lacks = words.one_line(cluster.lacks or "")
        grid.add_row(
            Text(f"  {place(cluster)}"),
            Text(words.duration(cluster.seconds), justify="right"),
            Text(lacks, style=tables.FAINT, overflow="ellipsis", no_wrap=True),
        )
    lines: list[RenderableType] = [grid] if underway else []
    if len(underway) > _MOST_LINES:
        lines.append(Text(f"  and {len(underway) - _MOST_LINES} more", style=tables.FAINT))
    if not underway and (waiting := of_state(status, "waiting")):
        held_up = ", ".join(sorted({cluster.host for cluster in waiting}))
        lines.append(Text(f"  waits for {words.one_line(held_up)}", style=tables.FAINT))
    return lines


def place(cluster: RolloutCluster) -> str:
    """``cluster 17 on beta``."""
    host = words.one_line(cluster.host)
    return f"cluster {cluster.cluster} on {host}" if host else f"cluster {cluster.cluster}"


def back(cluster: RolloutCluster, number: int, total: int) -> str:
    """The line in a file or pipe for a cluster that is back."""
    after = "" if cluster.seconds is None else f" after {cluster.seconds:.1f}s"
    return f"{place(cluster)} is back{after}{_identified([cluster])} ({number:,} of {total:,})"


def _identified(clusters: Iterable[RolloutCluster]) -> str:
    number = sum(cluster.identified for cluster in clusters)
    return f"; {words.count(number, 'shard')} had to identify" if number else ""


def order(status: RolloutStatus) -> str:
    """``--dry-run``: what would be restarted, in which order."""
    total = words.count(len(status.clusters), "cluster")
    head = f"{total} would be restarted, {status.at_a_time} at a time, in this order:"
    return "\n".join([head, *(f"  {place(cluster)}" for cluster in status.clusters)]) + "\n"


def head(status: RolloutStatus) -> str:
    """The first line in a file or pipe."""
    total = words.count(len(status.clusters), "cluster")
    before = len(of_state(status, "restarted")) if status.state == "running" else 0
    already = f"; {before:,} of them were restarted before" if before else ""
    return f"restarting {total}, {status.at_a_time} at a time{already}"


def done(status: RolloutStatus) -> str:
    """The last line when all are back."""
    restarted = of_state(status, "restarted")
    return f"{counts(status)}{_times(restarted)}{_identified(restarted) or _all_resumed(restarted)}"


def _times(restarted: Sequence[RolloutCluster]) -> str:
    taken = [cluster.seconds for cluster in restarted if cluster.seconds is not None]
    if not taken:
        return ""
    if len(taken) == 1:
        return f"; back after {taken[0]:.1f}s"
    return f"; back after {median(taken):.1f}s (median), {max(taken):.1f}s (longest)"


def _all_resumed(restarted: Sequence[RolloutCluster]) -> str:
    return "; no session was lost" if restarted else ""


def paused(status: RolloutStatus) -> str:
    """The last line after Ctrl-C, or when somebody else paused it."""
    underway = words.named("cluster", (c.cluster for c in of_state(status, "underway")))
    coming = f"; {underway} still coming back" if of_state(status, "underway") else ""
    return f"paused: {counts(status)}{coming}; continue with: {CONTINUE}"
