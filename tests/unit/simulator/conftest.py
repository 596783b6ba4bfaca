# SPDX-License-Identifier: Apache-2.0
"""A running simulator and the means to misuse it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from discluster.simulator.client import SimulatorClient
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.unit.simulator.client import Client, Dialer, dialing

# Fast enough for a test, slow enough that a busy machine changes nothing.
QUIET = {
    "events_per_second": 0.0,
    "guilds": 16,
    "identify_interval": 0.0,
    "rejected_identify_delay": 0.0,
    "gateway_bot_limit": 0,
}


@dataclass
class Rig:
    """A simulator, its control API, and a dialer."""

    simulator: Simulator
    control: SimulatorClient
    dialer: Dialer

    async def dial(self, url: str | None = None, **options: Any) -> Client:
        return await self.dialer.dial(url, **options)

    async def ready(self, shard: tuple[int, int] | None = (0, 4), **options: Any) -> Client:
        return await self.dialer.ready(shard, **options)

    async def resumed(self, other: Client, **options: Any) -> Client:
        return await self.dialer.resumed(other, **options)

    async def oracles(self) -> set[str]:
        """Names of the violated oracles."""
        return {verdict.oracle for verdict in await self.control.judgement()}


StartRig = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def start() -> AsyncIterator[StartRig]:
    """`rig = await start(setting=value, …)`."""
    async with AsyncExitStack() as stack:

        async def start_rig(**settings: Any) -> Rig:
            merged: dict[str, Any] = {**QUIET, **settings}
            simulator = await stack.enter_async_context(Simulator(SimulatorSettings(**merged)))
            control = await stack.enter_async_context(SimulatorClient(simulator.control_url))
            dialer = await stack.enter_async_context(dialing(simulator.gateway_url))
            return Rig(simulator, control, dialer)

        yield start_rig
