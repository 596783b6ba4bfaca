# SPDX-License-Identifier: Apache-2.0
"""Stays: which of two sessions of a shard is the newer one. Pure.

A sequence does not tell, since a session that was begun later starts at 1 again. The plan's
generation does: it only grows, and a shard enters a cluster at most once under one generation.
"""

import msgspec

from discluster.plan import Session

ShardKey = tuple[int, int]
"""(shard, shard count): shard 3 of 8 and shard 3 of 16 have nothing in common."""


class Stay(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one stay of a shard in a cluster.

    ``entered``: generation of the host's plan under which the shard entered the cluster; it orders
    all stays of a shard on a host. ``session``: None if it ended in this stay.
    """

    entered: int
    session: Session | None = None


def newest(stay: Stay | None, handed_over: Session | None, since: int) -> Session | None:
    """The session of a shard that came at generation ``since`` with ``handed_over``.

    A stay that began then or later knows best, also that the session ended. What an older one left
    counts where nothing was handed over, or if it is the same session further on: then a handler
    took those events.
    """
    if stay is None:
        return handed_over
    stored = stay.session
    if stay.entered >= since or handed_over is None:
        return stored
    if stored is not None and stored.session_id == handed_over.session_id:
        return max(handed_over, stored, key=lambda session: session.seq)
    return handed_over
