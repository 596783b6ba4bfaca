# SPDX-License-Identifier: Apache-2.0
"""The last word of a packet handler on a shard: time to acknowledge what it still has."""

import asyncio
import logging

from discluster.clock import Clock, at_most
from discluster.cluster.handlers import AnyPacketHandler, FlushingHandler

log = logging.getLogger(__name__)


class Flushing:
    """Asks the handler, if it wants to be asked, once for each stay of a shard."""

    def __init__(self, *, handler: AnyPacketHandler, limit: float, clock: Clock) -> None:
        """``limit``: seconds that the handler gets for a shard."""
        self._handler = handler if isinstance(handler, FlushingHandler) else None
        self._limit = limit
        self._clock = clock
        self._going: dict[int, asyncio.Task[None]] = {}

    async def flush(self, shard: int) -> None:
        """Returns when the handler is done with ``shard``, or failed, or its time is over. Who
        asks meanwhile waits for the same.

        To be called after the last event of the shard was handed over.
        """
        if self._handler is None:
            return
        going = self._going.get(shard)
        if going is None:
            work = self._ask(self._handler, shard)
            going = self._going[shard] = asyncio.create_task(work, name=f"flush-{shard}")
            going.add_done_callback(lambda _: self._going.pop(shard))
        await asyncio.shield(going)

    async def _ask(self, handler: FlushingHandler, shard: int) -> None:
        if not await at_most(self._limit, _flushed(handler, shard), clock=self._clock):
            log.error(
                "Shard %d: the handler did not flush it within %g seconds; what it has not"
                " acknowledged will be replayed",
                shard,
                self._limit,
                extra={"SHARD": shard},
            )


async def _flushed(handler: FlushingHandler, shard: int) -> None:
    try:
        await handler.flush(shard)
    except Exception as error:  # whatever a handler raises, the shard leaves
        log.error(
            "Shard %d: the handler failed to flush it; what it has not acknowledged will be"
            " replayed",
            shard,
            exc_info=error,
            extra={"SHARD": shard},
        )
