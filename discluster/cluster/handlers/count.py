# SPDX-License-Identifier: Apache-2.0
"""The default handler: counts events by type."""

import logging
from collections import Counter

from discluster.cluster.handlers import Commands
from discluster.cluster.handlers.builtin import Surroundings
from discluster.gateway.events import Event

log = logging.getLogger(__name__)


def make(surroundings: Surroundings) -> "CountingHandler":
    """The handler ``count``."""
    return CountingHandler()


class CountingHandler:
    """Shows that events arrive, until an operator attaches something that uses them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    async def start(self, cluster: int, commands: Commands) -> None:
        log.info("cluster %d counts events by type; see 'handler' in cluster.yaml", cluster)

    def handle(self, event: Event) -> None:
        self.counts[event.type] += 1

    async def stop(self) -> None:
        log.info("took %s", self.summary() or "no events")

    def summary(self) -> str:
        if not self.counts:
            return ""
        most = ", ".join(f"{name} {count}" for name, count in self.counts.most_common(3))
        return f"{self.counts.total()} events ({most})"
