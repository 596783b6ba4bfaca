# SPDX-License-Identifier: Apache-2.0
"""The order of a cold start: shards 0 to max_concurrency-1 first, then the next so many. Pure; the
caller passes the time. (Discord: Gateway, Max Concurrency.)

Clusters start, and their shards connect, at different instants. A shard is held back while one of
its own bucket (``shard_id // max_concurrency``), or of an earlier one, is still on its way. That
costs a start nothing, since it is over when the lane that began last is. Nobody is waited for who
does not come: once nobody new has asked for some seconds, those that are missing are given up, and
take their turn whenever they ask.
"""

from collections.abc import Collection
from typing import Final

from discluster.messages import ShardView
from discluster.plan import FleetPlan

QUIET: Final = 3.0
LONGEST: Final = 20.0
_ON_ITS_WAY: Final = ("idle", "dialing", "hello", "waiting", "backoff", "held")


class ColdStart:
    """Which shards have not asked for a permit yet, and never needed one."""

    def __init__(self) -> None:
        self._missing: dict[int, str] = {}
        self._held_since: float | None = None
        self._asked_at = float("-inf")

    @property
    def over(self) -> bool:
        """Nobody is on the way any more."""
        return not self._missing

    def expect(self, fleet: FleetPlan) -> None:
        """The shards of a plan that this MASTER has just begun with; those that have a session
        resume it.
        """
        grants = fleet.granted.items()
        self._missing = {s: grant.host for s, grant in grants if s not in fleet.sessions}

    def there(self, shard: int, now: float) -> None:
        """It asks for a permit, has identified, or resumes."""
        if self._missing.pop(shard, None) is not None:
            self._asked_at = now

    def limit(
        self, waiting: int, now: float, *, max_concurrency: int, present: Collection[str]
    ) -> int | None:
        """Shards from this one on must wait; None: nobody. ``waiting``: the lowest that waits.
        ``present``: hosts in touch; one that is not is not on its way.
        """
        first = min((s for s, host in self._missing.items() if host in present), default=None)
        if first is None:
            return None
        begins = first - first % max_concurrency
        if waiting < begins:
            self._held_since = None
            return begins
        if self._held_since is None:
            self._held_since = now
        quiet_since = max(self._held_since, self._asked_at)
        if now < min(quiet_since + QUIET, self._held_since + LONGEST):
            return begins
        self._missing.clear()
        return None


def has_begun(view: ShardView) -> bool:
    """Whether a shard has, or had, a session, and does not count as one that starts."""
    return view.state not in _ON_ITS_WAY or view.identifies > 0 or view.seq is not None
