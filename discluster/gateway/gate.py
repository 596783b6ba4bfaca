# SPDX-License-Identifier: Apache-2.0
"""How a shard waits: at its cluster's gate, and before its next attempt."""

import asyncio
from typing import Final

from discluster.clock import Clock, at_most
from discluster.gateway.contracts import Gate
from discluster.gateway.ending import Ending
from discluster.gateway.status import Status

STEP: Final = 5.0  # seconds; a shard that waits shows at least this often that it is alive


class OpenGate:
    """Lets everybody pass: for a shard that belongs to no fleet."""

    def may_run(self) -> bool:
        return True

    def obstacle(self, shard: int) -> str | None:
        return None

    async def changed(self) -> None:
        await asyncio.get_running_loop().create_future()

    def accepted(self, shard: int) -> None:
        pass

    def ended(self, shard: int, ending: Ending) -> None:
        pass


async def pass_through(gate: Gate, shard: int, *, status: Status, clock: Clock) -> bool:
    """Returns when nothing is in the way of ``shard``: whether it had to wait."""
    held = False
    while (obstacle := gate.obstacle(shard)) is not None:
        held = True
        status.hold(obstacle)
        await at_most(STEP, gate.changed(), clock=clock)
    return held


async def pause(seconds: float, *, status: Status, clock: Clock) -> None:
    """Sleeps, and shows meanwhile that the shard is alive."""
    while seconds > STEP:
        await clock.sleep(STEP)
        status.steps += 1
        seconds -= STEP
    await clock.sleep(seconds)
