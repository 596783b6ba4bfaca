# SPDX-License-Identifier: Apache-2.0
"""Discord's limit on what one connection may send (Discord: Gateway, Rate Limiting).

A sliding log, not a fixed window: a fixed window lets twice the limit through across its edge.
"""

import math
from collections import deque
from typing import Final, Literal

LIMIT: Final = 120
WINDOW: Final = 60.0  # seconds

Kind = Literal["vital", "answer", "command"]
"""``vital``: regular heartbeats, IDENTIFY and RESUME, which always go. ``answer``: heartbeats that
Discord asks for. ``command``: everything that a user sends."""


class SendLog:
    """What one connection sent in the last minute; starts empty with every connection."""

    __slots__ = ("_limits", "_sent")

    def __init__(self, *, heartbeat_interval: float) -> None:
        """``heartbeat_interval``: seconds; room is kept free for the beats of one window."""
        beats = min(LIMIT // 4, math.ceil(WINDOW / heartbeat_interval) + 1)
        self._limits = {"answer": LIMIT - beats, "command": LIMIT - 2 * beats}
        self._sent: deque[float] = deque()

    def wait(self, kind: Kind, *, now: float) -> float:
        """Seconds until a payload of this kind may be sent; 0 if now."""
        if kind == "vital":
            return 0.0
        self._forget(now)
        surplus = len(self._sent) - self._limits[kind]
        return 0.0 if surplus < 0 else self._sent[surplus] + WINDOW - now

    def sent(self, *, now: float) -> None:
        """A payload went out; all kinds count."""
        self._forget(now)
        self._sent.append(now)

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0] <= now - WINDOW:
            self._sent.popleft()
