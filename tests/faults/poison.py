# SPDX-License-Identifier: Apache-2.0
"""Packet handlers that note what they take, and cannot bear one event."""

import asyncio
import math
import os
from typing import Final

from discluster.gateway.events import Event, Later
from tests.chaos.recorder import Recorder

TIMES: Final = "POISON_TIMES"
"""Environment variable: how often the event is not borne; without it, never."""
SHARD: Final = 0
SEQ: Final = 40


class Poisoned(Recorder):
    """Raises at the event SEQ of SHARD."""

    def __init__(self) -> None:
        super().__init__()
        self._left = float(os.environ.get(TIMES, math.inf))

    def handle(self, event: Event) -> Later | None:
        if (event.shard, event.seq) == (SHARD, SEQ) and self._left > 0:
            self._left -= 1
            raise ValueError("this one is poison")
        return super().handle(event)


class Gathering(Recorder):
    """Takes batches, and takes its time for each before it notes any of it."""

    handle = None  # type: ignore[assignment]  # events come in one way

    async def handle_batch(self, events: list[Event]) -> None:
        await asyncio.sleep(0.02)
        for event in events:
            self._note(event)
