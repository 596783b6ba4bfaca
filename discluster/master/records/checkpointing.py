# SPDX-License-Identifier: Apache-2.0
"""Keeps the checkpoints of the hosts: in memory for whoever hands shards on, and on disk."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from discluster.clock import Clock
from discluster.errors import StateError
from discluster.master.records.checkpoints import Checkpointed, Checkpoints
from discluster.master.store import MasterStore
from discluster.messages import Checkpoint

log = logging.getLogger(__name__)

_WRITTEN_AT_MOST_EVERY: Final = 10.0


class CheckpointKeeper:
    """The loop around :class:`discluster.master.records.checkpoints.Checkpoints`."""

    def __init__(self, *, store: MasterStore, clock: Clock, shard_count: int) -> None:
        """Takes up what is on disk. ``shard_count``: of the fleet, 0 before its first plan."""
        self._store = store
        self._clock = clock
        self._checkpoints = Checkpoints()
        self._trouble = ""
        try:
            if (stored := store.load_checkpoints()) is not None:
                self._checkpoints.unpack(stored)
        except (StateError, ValueError) as error:
            log.error("the stored checkpoints cannot be used, the hosts tell anew: %s", error)
        self._checkpoints.follow(shard_count)

    @property
    def by_shard(self) -> Mapping[int, Checkpointed]:
        return self._checkpoints.by_shard

    def follow(self, shard_count: int) -> None:
        """Sessions of another number of shards are dropped."""
        self._checkpoints.follow(shard_count)

    def said(self, host: str, message: Checkpoint) -> None:
        """In the order in which ``host`` sent them."""
        self._checkpoints.take(host, message)

    async def run(self) -> None:
        """Saves now and then what changed, until cancelled."""
        while True:
            await self._clock.sleep(_WRITTEN_AT_MOST_EVERY)
            if not self._checkpoints.changed:
                continue
            # A tenth of a second for the largest fleet, and the disk: permits must not wait for it.
            work = asyncio.to_thread(self._write, self._checkpoints.freeze())
            writing = asyncio.ensure_future(work)
            try:
                await asyncio.shield(writing)
            finally:
                # A thread cannot be cancelled, and no two may write the same file.
                await writing

    def save(self) -> None:
        """Saves now what changed. Not to be called while :meth:`run` runs."""
        if self._checkpoints.changed:
            self._write(self._checkpoints.freeze())

    def _write(self, frozen: Checkpoints) -> None:
        """What cannot be written is told once; MASTER does its work without, and tries again."""
        trouble = ""
        try:
            self._store.save_checkpoints(frozen.packed())
        except StateError as error:
            self._checkpoints.changed = True
            trouble = error.render()
            if trouble != self._trouble:
                log.error("checkpoints are not kept over a restart of MASTER: %s", trouble)
        self._trouble = trouble
