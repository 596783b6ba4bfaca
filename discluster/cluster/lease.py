# SPDX-License-Identifier: Apache-2.0
"""Whether this cluster may run its shards at this instant.

CONTROL says until when (:class:`discluster.messages.Lease`), and again and again until when from
then on. After that the shards may be somebody else's.
"""

import math
from collections.abc import Callable

from discluster.messages import Lease


class ClusterLease:
    """The newest lease that this cluster was given, beside the clock in which it is told."""

    def __init__(self, *, boottime: Callable[[], float]) -> None:
        """``boottime``: seconds of CLOCK_BOOTTIME, which runs on while the machine sleeps, as it
        does while a process is stopped.
        """
        self._boottime = boottime
        self._lease: Lease | None = None
        self._until = -math.inf

    def take(self, lease: Lease) -> None:
        """Replaces the lease, also by one that ends earlier."""
        self._lease = lease
        ends = lease.until if lease.then == "stop" else None
        self._until = ends if ends is not None else math.inf

    def may_run(self) -> bool:
        """As :func:`discluster.lease.holds`, and asked for all that is read from a socket."""
        return self._boottime() < self._until

    @property
    def left(self) -> float:
        """Seconds until the shards must not run any more; 0 if that is now, inf if never."""
        return max(0.0, self._until - self._boottime())

    def obstacle(self, *, control_away: bool) -> str | None:
        """Why no shard may run, in words for an operator; None if they may."""
        if self.may_run():
            return None
        had = self._lease is not None and self._lease.until != 0.0
        told = "the lease ended" if had else "no lease yet"
        why = "CONTROL is away" if control_away else "this machine is out of touch with MASTER"
        return f"{told}: {why}; the sessions are kept"
