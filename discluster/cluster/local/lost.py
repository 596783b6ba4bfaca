# SPDX-License-Identifier: Apache-2.0
"""Tells what was lost to clients: in the log, once a minute at most, and for a while in status."""

import logging
from collections.abc import Sequence
from typing import Final

from discluster.clock import Clock
from discluster.cluster.local.losses import Losses, Why

log = logging.getLogger(__name__)

_EVERY: Final = 60.0  # seconds
_RECENT: Final = 600.0  # seconds

_WORDS: Final[dict[Why, str]] = {
    Why.SIZE: "'keep_size' was not enough",
    Why.AGE: "nobody fetched them within 'keep_age'",
    Why.LEFT: "their shard left, and Discord does not repeat them",
    Why.RESTART: "they came before the cluster had their shard",
}


class LossWatch:
    """Looks at ``losses`` now and then."""

    def __init__(self, losses: Losses, *, clients: Sequence[str], clock: Clock) -> None:
        self._losses = losses
        self._clients = clients
        self._clock = clock
        self._told: dict[str, dict[Why, int]] = {client: {} for client in clients}
        self._told_total = self._seen_total = 0
        self._told_at = float("-inf")
        self._lost_at = float("-inf")

    def tell(self) -> None:
        """Of what is new."""
        now = self._clock.monotonic()
        total = self._losses.total
        if total != self._seen_total:
            self._seen_total, self._lost_at = total, now
        if total == self._told_total or now - self._told_at < _EVERY:
            return
        self._told_at, self._told_total = now, total
        for client in self._clients:
            counts = self._losses.of(client)
            for why, count in counts.items():
                if more := count - self._told[client].get(why, 0):
                    log.warning("%d events are lost to %s: %s", more, client, _WORDS[why])
            self._told[client] = counts

    def recent(self) -> str | None:
        """What was lost since the start, if the last of it was not long ago."""
        if self._clock.monotonic() - self._lost_at > _RECENT:
            return None
        counts = {client: sum(self._losses.of(client).values()) for client in self._clients}
        told = [f"{count} events were lost to {c}" for c, count in counts.items() if count]
        return "; ".join(told) or None
