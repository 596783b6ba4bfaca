# SPDX-License-Identifier: Apache-2.0
"""A fleet in one process, as far as identifies go: MASTER's office and ledger, and a desk and a
purse for each host, with the real shards of a stage. Only the wire between them is left out.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from discluster.clock import at_most
from discluster.console import FleetStatus, ResumeRequest
from discluster.control.allowance import Purse, Share
from discluster.control.mastertime import MasterTime
from discluster.control.permits import PermitDesk
from discluster.master.desk import DiscordDesk
from discluster.master.discord import GatewayBot, SessionStartLimit
from discluster.master.hosts.book import HostBook, HostConnection
from discluster.master.identify.lanes import Lanes
from discluster.master.identify.permits import PermitOffice
from discluster.master.records.events import EventLog
from discluster.master.settings import MasterSettings
from discluster.master.status import MasterView, fatal_block, fleet_status
from discluster.messages import (
    Allowance,
    ClusterView,
    HostReport,
    Message,
    Permit,
    PermitDenied,
)
from discluster.plan import FleetPlan, Grant, IdentifySlots, SlotClaim
from tests.faults.stage import Stage
from tests.unit.master.fleets import fleet
from tests.unit.master.ledgers import MemoryStore

SLOTS: Final = 4
AFTER: Final = 45.0
MASTER: Final = MasterSettings()


class Cluster:
    """Implements ``gateway.contracts.Permits`` for the shards of one host."""

    def __init__(self, desk: PermitDesk, stage: Stage) -> None:
        self.denials: dict[int, str] = {}
        self._desk = desk
        self._stage = stage
        self._waiting: dict[int, asyncio.Future[Permit]] = {}
        self._permits: dict[int, Permit] = {}

    async def acquire(self, shard: int) -> None:
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._waiting[shard] = future
        self._ask(shard)
        try:
            permit = self._permits[shard] = await future
            await self._stage.clock.sleep(permit.since - self._stage.now)
        except asyncio.CancelledError:
            self.returned(shard)
            raise
        finally:
            if self._waiting.get(shard) is future:
                del self._waiting[shard]
            self.denials.pop(shard, None)

    def valid(self, shard: int) -> bool:
        return shard in self._permits and self._stage.now < self._permits[shard].until

    def used(self, shard: int) -> None:
        self._permits.pop(shard, None)
        self._desk.used(shard, at=self._stage.now)

    def returned(self, shard: int) -> None:
        self._permits.pop(shard, None)
        self._desk.returned(shard)

    def _ask(self, shard: int) -> None:
        if shard in self._waiting:
            self._desk.request(shard, cluster=0, reply=self._answer)

    def _answer(self, message: Message) -> None:
        if isinstance(message, Permit):
            future = self._waiting.pop(message.shard, None)
            if future is None or future.done():
                self._desk.returned(message.shard)
            else:
                future.set_result(message)
        elif isinstance(message, PermitDenied):
            self.denials[message.shard] = message.reason
            asyncio.get_running_loop().call_later(message.retry_after, self._ask, message.shard)


class Host:
    """A CONTROL with one cluster; its share outlives it."""

    def __init__(self, name: str, number: int, stage: Stage) -> None:
        self.name = name
        self.share = Share()
        self._stage = stage
        self._slots = IdentifySlots(
            max_concurrency=stage.simulator.settings.max_concurrency,
            slot=number,
            slots=SLOTS,
            after=AFTER,
        )
        self.connection: HostConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """CONTROL, from what is on its disk."""
        purse = Purse(self.share, save=self._save, clock=self._stage.clock)
        self.desk = PermitDesk(
            clock=self._stage.clock, interval=MASTER.identify_interval, purse=purse
        )
        self.desk.follow(self._slots)
        self.cluster = Cluster(self.desk, self._stage)
        self._tasks = [asyncio.create_task(self.desk.run())]

    def _save(self, share: Share) -> None:
        self.share = share

    async def hear(self, connection: HostConnection) -> None:
        """What MASTER sends."""
        while True:
            message = await connection.outbox.get()
            if isinstance(message, Permit | PermitDenied | Allowance):
                self.desk.answer(message)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hears(self, connection: HostConnection) -> None:
        self.connection = connection
        self._tasks.append(asyncio.create_task(self.hear(connection)))


class Fleet:
    """``hosts`` share the shards of the stage evenly; implements Permits for all of them."""

    def __init__(self, stage: Stage, *, shards: int, hosts: int = 1) -> None:
        self.stage = stage
        self._store = MemoryStore()
        self._names = [f"host{number}" for number in range(hosts)]
        self._of = [self._names[shard * hosts // shards] for shard in range(shards)]
        self.hosts = {name: Host(name, n, stage) for n, name in enumerate(self._names)}
        self._plan = self._planned(stage.simulator.settings.max_concurrency)
        self.office: PermitOffice | None = None
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.fetch: Callable[[], Awaitable[GatewayBot]] = self._ask_discord
        self.asked = 0

    def _planned(self, max_concurrency: int) -> FleetPlan:
        targets = {
            name: {n: [s for s, of in enumerate(self._of) if of == name]}
            for n, name in enumerate(self._names)
        }
        plan = fleet(
            targets,
            granted={shard: Grant(host=host) for shard, host in enumerate(self._of)},
            max_concurrency=max_concurrency,
        )
        claims = {name: (SlotClaim(slot=n, slots=SLOTS),) for n, name in enumerate(self._names)}
        return msgspec.structs.replace(plan, slots=claims)

    async def _ask_discord(self) -> GatewayBot:
        """As ``GET /gateway/bot`` would answer; of the simulator's own count."""
        self.asked += 1
        world = self.stage.simulator.world
        budget = world.bots[0].budget.view(world.timing.now())
        return GatewayBot(
            url="wss://gateway.example.net",
            shards=len(self._of),
            session_start_limit=SessionStartLimit(
                total=budget.total,
                remaining=budget.remaining,
                reset_after=int(budget.reset_after * 1000),
            ),
        )

    # --- starting, stopping, losing touch ---

    async def start(self) -> None:
        """MASTER and all hosts, in touch."""
        for host in self.hosts.values():
            host.start()
        await self.master_starts()

    async def master_starts(self) -> None:
        """From what is on its disk."""
        clock = self.stage.clock
        events = EventLog(None, keep=100, clock=clock)
        self.discord = DiscordDesk(
            settings=MASTER,
            store=self._store,
            fetch=self.fetch,
            events=events,
            clock=clock,
            rng=random.Random(1),
        )
        self._book = HostBook(clock=clock)
        self.office = PermitOffice(
            lanes=Lanes(
                interval=MASTER.identify_interval,
                rest_until=clock.monotonic() + MASTER.identify_interval,
            ),
            interval=MASTER.identify_interval,
            discord=self.discord,
            book=self._book,
            events=events,
            clock=clock,
        )
        self._book.expect(self._names)
        self.office.follow(self._plan)
        self._tasks = [
            asyncio.create_task(self.discord.run(self._wake.set)),
            asyncio.create_task(self._serve(self.office)),
        ]
        for host in self.hosts.values():
            self.connect(host)

    async def master_stops(self) -> None:
        for host in self.hosts.values():
            self.lose(host)
        self.office = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def connect(self, host: Host) -> None:
        office = self.office
        assert office is not None
        connection = HostConnection(host.name, lambda _: None)
        self._book.connect(connection, "1", self._report(host))
        office.host_connected(host.name)
        host.hears(connection)

        def send(message: Message) -> None:
            if host.connection is connection:
                office.said(host.name, message)  # type: ignore[arg-type]
                self._wake.set()

        now = self.stage.now
        host.desk.master_connected(send, MasterTime(asked=now, told=now, heard=now))

    def lose(self, host: Host) -> None:
        """MASTER and the host do not hear of each other any more."""
        if host.connection is None or self.office is None:
            return
        self._book.disconnect(host.connection)
        self.office.host_gone(host.name)
        host.connection = None
        host.desk.master_lost()

    async def stop(self) -> None:
        if self.office is not None:
            await self.master_stops()
        for host in self.hosts.values():
            await host.stop()

    async def _serve(self, office: PermitOffice) -> None:
        while True:
            self._wake.clear()
            reports = {name: self._report(host) for name, host in self.hosts.items()}
            for name, report in reports.items():
                if (connection := self.hosts[name].connection) is not None:
                    self._book.reported(connection, report)
                    office.reported(report)
            office.grant(blocked=self.discord.rejected or fatal_block(reports))
            chance = office.next_chance()
            pause = 30.0 if chance is None else min(chance, 30.0)
            await at_most(pause, self._wake.wait(), clock=self.stage.clock)

    def _report(self, host: Host) -> HostReport:
        views = tuple(s.view() for s in self.stage.shards if self._of[s.shard] == host.name)
        clusters = (ClusterView(cluster=0, unit="active", connected=True, shards=views),)
        return HostReport(plan_generation=1, clusters=clusters)

    # --- looking, and the operator ---

    def status(self) -> FleetStatus:
        """What ``disclusterctl status`` shows."""
        assert self.office is not None
        return fleet_status(
            MasterView(
                fleet=self._plan,
                hosts=self._book.views(),
                shards_per_cluster={},
                weights={},
                identify=self.office.status(),
                waiting_for=None,
                recommended=None,
                discord_trouble=self.discord.trouble,
                uptime=0.0,
            )
        )

    @property
    def troubles(self) -> str:
        return "\n".join(trouble.text for trouble in self.status().troubles)

    def resume(self, *shards: int, reserve: bool = False) -> tuple[str, ...]:
        """``disclusterctl identify resume``."""
        assert self.office is not None
        return self.office.resume(ResumeRequest(shards=shards or None, reserve=reserve)).done

    # --- gateway.contracts.Permits ---

    def _cluster(self, shard: int) -> Cluster:
        return self.hosts[self._of[shard]].cluster

    async def acquire(self, shard: int) -> None:
        await self._cluster(shard).acquire(shard)

    def valid(self, shard: int) -> bool:
        return self._cluster(shard).valid(shard)

    def used(self, shard: int) -> None:
        self._cluster(shard).used(shard)

    def returned(self, shard: int) -> None:
        self._cluster(shard).returned(shard)

    async def kill_processes(self) -> None:
        """The clusters of all hosts, as a process manager does."""
        await self.stage.kill()
        for host in self.hosts.values():
            host.desk.cluster_gone(0)
