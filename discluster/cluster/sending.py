# SPDX-License-Identifier: Apache-2.0
"""How a packet handler reaches Discord through the shards of its cluster."""

from collections.abc import Callable

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
        token: Secret,
    ) -> None:
        self._find = find
        self._shard_count = shard_count
        self._token = token

    @property
    def token(self) -> Secret:
        return self._token

    @property
    def shard_count(self) -> int | None:
        return self._shard_count()

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
