# SPDX-License-Identifier: Apache-2.0
"""The cluster as a handler sees it, where a test is not about it."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from discluster.cluster.handlers import CallAnswers
from discluster.errors import NotSentError
from discluster.gateway.commands import Command
from discluster.gateway.events import Event
from discluster.gateway.outbox import DEADLINE
from discluster.secret import Secret


class QuietCommands:
    """Implements ``discluster.cluster.handlers.Commands``: notes what is acknowledged, as (shard,
    sequence), and reaches nobody. What a test is about it overrides.
    """

    shard_count: int | None = 2
    shards: tuple[int, ...] = (0, 1)
    token = Secret("MTAw.simulated.token")
    intents = 0

    def __init__(self, directory: Path = Path("/nonexistent")) -> None:
        self.directory = directory
        self.acknowledged: list[tuple[int, int]] = []

    def latency(self, shard: int) -> float | None:
        return None

    def taken(self, event: Event) -> None:
        self.acknowledged.append((event.shard, event.seq))

    async def send(self, shard: int, command: Command, *, timeout: float = DEADLINE) -> None:
        raise NotSentError(f"shard {shard} is not on this cluster")

    def renew(self, shard: int, why: str) -> None:
        """Nothing is renewed."""

    async def call(
        self,
        name: str,
        args: Any = None,
        *,
        clusters: Collection[int] | None = None,
        timeout: float = 10.0,
    ) -> CallAnswers:
        raise NotSentError("CONTROL is away")
