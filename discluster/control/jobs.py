# SPDX-License-Identifier: Apache-2.0
"""Starts and stops that the supervisor is carrying out, and what became of the last ones."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from discluster.clock import Clock
from discluster.control.reconcile import Start, Stop
from discluster.control.supervisor import Supervisor
from discluster.errors import SupervisorError

log = logging.getLogger(__name__)

_REFUSAL_PAUSE: Final = 2.0


class Jobs:
    """At most one job for each cluster."""

    def __init__(self, *, supervisor: Supervisor, clock: Clock, on_end: Callable[[], None]) -> None:
        """``on_end``: called when a job is over, however it ended."""
        self._supervisor = supervisor
        self._clock = clock
        self._on_end = on_end
        self._running: dict[int, asyncio.Task[None]] = {}
        self._unsettled: set[int] = set()
        self._troubles: dict[int, str] = {}

    @property
    def busy(self) -> frozenset[int]:
        """Clusters of which nobody knows for sure whether they run: with a job under way, or with
        one that ended after the units were last asked for.
        """
        return frozenset(self._running) | self._unsettled

    @property
    def unsettled(self) -> frozenset[int]:
        """Clusters whose job ended since the last :meth:`settle`."""
        return frozenset(self._unsettled)

    @property
    def troubles(self) -> Mapping[int, str]:
        """Why the last job of a cluster failed, in words."""
        return self._troubles

    def settle(self, seen: frozenset[int]) -> None:
        """The units were asked for after the jobs of ``seen`` had ended."""
        self._unsettled -= seen

    def begin(self, step: Start | Stop) -> None:
        """Carries out ``step`` in the background."""
        starts = isinstance(step, Start)
        act = self._supervisor.start if starts else self._supervisor.stop
        self._running[step.cluster] = asyncio.create_task(
            self._carry_out(step.cluster, act(step.cluster)),
            name=f"{type(step).__name__.lower()}-{step.cluster}",
        )

    async def cancel(self) -> None:
        """Waits for none of them any more; the supervisor goes on."""
        tasks = tuple(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_out(self, cluster: int, job: Coroutine[Any, Any, None]) -> None:
        try:
            await job
            self._troubles.pop(cluster, None)
        except SupervisorError as error:
            if self._troubles.get(cluster) != error.render():
                log.error("%s", error.render(), extra={"CLUSTER": cluster})
            self._troubles[cluster] = error.render()
            # A refused step is tried again by a later pass, but not in a tight loop.
            await self._clock.sleep(_REFUSAL_PAUSE)
        finally:
            del self._running[cluster]
            self._unsettled.add(cluster)
            self._on_end()
