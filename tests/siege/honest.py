# SPDX-License-Identifier: Apache-2.0
"""A host that does nothing wrong, and notes for how long it has to wait."""

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from discluster import __version__
from discluster.messages import (
    PROTOCOL,
    AllowanceReport,
    ClusterView,
    Hello,
    HostReport,
    Message,
    Permit,
    PermitDenied,
    PermitRequest,
    PermitReturned,
    Ping,
    PlanPush,
    Pong,
    ShardView,
    Welcome,
    decode,
    encode,
    master_to_control,
)
from discluster.plan import HostPlan, host_plan_from_yaml
from tests.waiting import wait_for

_LOOKS_EVERY = 0.1


class HonestHost:
    """``slowest_pong``, ``slowest_permit``: seconds, the longest since :meth:`begin_anew`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._asked: dict[int, float] = {}
        self._wanted: dict[int, float] = {}
        self.plan: HostPlan | None = None
        self.slowest_pong = self.slowest_permit = 0.0
        self.permits = 0
        self.ended = False

    def begin_anew(self) -> None:
        self.slowest_pong = self.slowest_permit = 0.0
        self.permits = 0

    async def _say(self, message: Message) -> None:
        await self._socket.send_bytes(encode(message))

    async def greet(self) -> None:
        await self._say(Hello(protocol=PROTOCOL, version=__version__, report=self._report()))
        await self._say(AllowanceReport(serial=0))
        welcome = decode(master_to_control, await self._socket.receive_bytes(), peer="MASTER")
        assert isinstance(welcome, Welcome), welcome

    def _report(self) -> HostReport:
        plan = self.plan
        if plan is None:
            return HostReport(plan_generation=0)
        return HostReport(
            plan_generation=plan.generation,
            holding=tuple(sorted(plan.shards())),
            shard_count=plan.shard_count,
            clusters=tuple(
                ClusterView(
                    cluster=number,
                    unit="active",
                    run=cluster.run,
                    shards=tuple(ShardView(shard=s, state="ready", seq=1) for s in cluster.shards),
                )
                for number, cluster in plan.clusters.items()
            ),
            slots=plan.identify,
            panel=tuple(plan.witnesses),
        )

    async def read(self) -> None:
        async for received in self._socket:
            message = decode(master_to_control, received.data, peer="MASTER")
            now = time.monotonic()
            if isinstance(message, Ping):
                await self._say(Pong(number=message.number))
            elif isinstance(message, Pong):
                self.slowest_pong = max(self.slowest_pong, now - self._asked.pop(message.number))
            elif isinstance(message, PlanPush):
                self.plan = host_plan_from_yaml(message.text, file="pushed")
                await self._say(self._report())
            elif isinstance(message, Permit):
                since = self._wanted.pop(message.shard)
                self.slowest_permit = max(self.slowest_permit, now - since)
                self.permits += 1
                await self._say(PermitReturned(shard=message.shard))
            elif isinstance(message, PermitDenied):
                # It moved away just now.
                self._wanted.pop(message.shard)
        self.ended = True

    async def look(self) -> None:
        """Asks again and again: for MASTER, and for a permit."""
        for number in itertools.count(1000):
            self._asked[number] = time.monotonic()
            await self._say(Ping(number=number))
            if self.plan is not None and self.plan.clusters and not self._wanted:
                shards = list(self.plan.shards())
                shard = shards[number % len(shards)]
                self._wanted[shard] = time.monotonic()
                await self._say(PermitRequest(shard=shard))
            await asyncio.sleep(_LOOKS_EVERY)

    @property
    def waits(self) -> float:
        """For how long it has been waiting now, at most, in seconds."""
        now = time.monotonic()
        return max(
            (now - since for since in [*self._asked.values(), *self._wanted.values()]), default=0
        )


@asynccontextmanager
async def honest_host(url: str, context: ssl.SSLContext) -> AsyncIterator[HonestHost]:
    """Connected, greeted, and with a plan."""
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(f"{url}/v1/control", ssl=context)
        host = HonestHost(socket)
        await host.greet()
        tasks = [asyncio.create_task(host.read()), asyncio.create_task(host.look())]
        try:
            await wait_for(lambda: host.plan is not None, 30, what="a plan")
            yield host
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await socket.close()
