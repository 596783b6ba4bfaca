# SPDX-License-Identifier: Apache-2.0
"""The state of one shard as others see it."""

import logging
from collections.abc import Callable
from typing import Final

from discluster.clock import Clock
from discluster.gateway.connection import Connection
from discluster.gateway.intake import Intake
from discluster.messages import ShardState, ShardView

# What a shard is about that has not had a problem lately.
_BUSY_WITH: Final[dict[ShardState, str]] = {
    "dialing": "it is connecting to Discord",
    "hello": "Discord has not said HELLO yet",
    "waiting": "it waits for its turn to identify",
    "identifying": "Discord has not sent READY yet",
    "resuming": "Discord is replaying what was missed",
    "backoff": "it waits before the next attempt",
    "closing": "it is being stopped",
}

_log = logging.getLogger(__name__)


class Status:
    """``steps`` counts the changes. ``since``: monotonic seconds at the last one."""

    def __init__(self, *, shard: int, clock: Clock, on_change: Callable[[], None]) -> None:
        self.state: ShardState = "idle"
        self.since = clock.monotonic()
        self.steps = 0
        self.fatal: int | None = None
        self._trouble: str | None = None
        self._obstacle: str | None = None
        self._shard = shard
        self._clock = clock
        self._on_change = on_change

    @property
    def problem(self) -> str | None:
        """Why the shard is not ready, in words."""
        if self.state == "waiting":  # can last for an hour, whatever led here
            return _BUSY_WITH["waiting"]
        if self.state == "held":
            return self._obstacle
        return self._trouble or _BUSY_WITH.get(self.state)

    def enter(self, state: ShardState, sentence: str) -> None:
        """A change of state, with one sentence for the journal."""
        self.state = state
        self.since = self._clock.monotonic()
        self.steps += 1
        if state in ("ready", "idle"):
            self._trouble = None
        level = logging.ERROR if state == "fatal" else logging.INFO
        _log.log(level, "Shard %d %s", self._shard, sentence, extra={"SHARD": self._shard})
        self._on_change()

    def hold(self, obstacle: str) -> None:
        """It waits at its cluster's gate, and still does."""
        if self.state == "held" and obstacle == self._obstacle:
            self.steps += 1
            return
        self._obstacle = obstacle
        self.enter("held", f"waits: {obstacle}")

    def troubled(self, text: str, *, fatal: int | None = None) -> None:
        """Why the shard will not be ready soon; stays until it is. To be followed by enter()."""
        self._trouble = text
        self.fatal = fatal

    def view(
        self, intake: Intake, connection: Connection | None, identifies: int, resumes: int
    ) -> ShardView:
        """A snapshot. ``identifies`` and ``resumes``: payloads of the kind that were sent."""
        now = self._clock.monotonic()
        return ShardView(
            shard=self._shard,
            state=self.state,
            since=now - self.since,
            latency=connection.latency if connection is not None else None,
            guilds=intake.guilds.count,
            seq=intake.seq,
            event_age=now - intake.last_event if intake.last_event is not None else None,
            events=intake.events,
            identifies=identifies,
            resumes=resumes,
            problem=self.problem or intake.obstacle,
            fatal=self.fatal,
        )
