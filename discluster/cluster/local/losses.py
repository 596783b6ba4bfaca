# SPDX-License-Identifier: Apache-2.0
"""What clients of the local gateway will never get, and why."""

from collections import Counter
from enum import StrEnum


class Why(StrEnum):
    """The reason that events were given up."""

    SIZE = "size"
    """No room was left: ``keep_size``."""
    AGE = "age"
    """Nobody fetched them in time: ``keep_age``."""
    LEFT = "left"
    """The shard left, or the cluster stopped, and Discord does not repeat them."""
    RESTART = "restart"
    """A client asked for what came before this cluster had the shard."""


class Losses:
    """Numbers of events by client and reason, since the cluster started."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, Why]] = Counter()

    def add(self, client: str, why: Why, count: int) -> None:
        """``count`` more."""
        self._counts[client, why] += count

    def of(self, client: str) -> dict[Why, int]:
        """By reason, those that there were."""
        return {why: count for (name, why), count in self._counts.items() if name == client}

    @property
    def total(self) -> int:
        """Over all clients and reasons."""
        return self._counts.total()
