# SPDX-License-Identifier: Apache-2.0
"""How a packet handler reaches Discord through the shards of its cluster."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from discluster.cluster.calls import ClusterCalls
from discluster.cluster.handlers.calls import CallAnswers
from discluster.errors import NotSentError
from discluster.gateway.commands import Command
from discluster.gateway.events import Event
from discluster.gateway.outbox import DEADLINE
from discluster.gateway.shard import Shard
from discluster.secret import Secret


class ShardCommands:
    """Implements ``discluster.cluster.handlers.Commands``."""

    def __init__(
        self,
        *,
        find: Callable[[int], Shard | None],
        shard_count: Callable[[], int | None],
        shards: Callable[[], tuple[int, ...]],
        token: Secret,
        intents: int,
        directory: Path,
        calls: ClusterCalls,
    ) -> None:
        self._find = find
        self._shard_count = shard_count
        self._shards = shards
        self._token = token
        self._intents = intents
        self._directory = directory
        self._calls = calls

    @property
    def token(self) -> Secret:
        return self._token

    @property
    def intents(self) -> int:
        return self._intents

    @property
    def directory(self) -> Path:
        return self._directory

    @property
    def shard_count(self) -> int | None:
        return self._shard_count()

    @property
    def shards(self) -> tuple[int, ...]:
        return self._shards()

    def latency(self, shard: int) -> float | None:
        found = self._find(shard)
        return found.view().latency if found is not None else None

    def taken(self, event: Event) -> None:
        found = self._find(event.shard)
        if found is not None:
            found.taken(event)

    async def send(self, shard: int, command: Command, *, timeout: float = DEADLINE) -> None:
        found = self._find(shard)
        if found is None:
            raise NotSentError(
                f"shard {shard} is not on this cluster",
                hint="a command goes through the shard of its guild: an event names its own",
            )
        await found.send(command, timeout=timeout)

    def renew(self, shard: int, why: str) -> None:
        found = self._find(shard)
        if found is not None:
            found.renew(why)

    async def call(
        self,
        name: str,
        args: Any = None,
        *,
        clusters: Collection[int] | None = None,
        timeout: float = 10.0,
    ) -> CallAnswers:
        return await self._calls.call(name, args, clusters=clusters, timeout=timeout)
