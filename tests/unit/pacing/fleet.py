# SPDX-License-Identifier: Apache-2.0
"""MASTER's loop and the permit desks of several hosts in simulated time, with ways that take time,
clocks that differ, and processes that stand still. Clusters follow the rules of cluster/control.py
and gateway/shard.py. What arrives at Discord is kept, and judged by the oracles of the simulator.
"""

import asyncio
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from discluster.clock import Clock
from discluster.control.mastertime import MasterTime
from discluster.control.permits import PermitDesk
from discluster.master.daemon import MasterDaemon
from discluster.master.desk import DiscordDesk
from discluster.master.records.events import EventLog
from discluster.master.records.history import History
from discluster.master.store import MasterStore
from discluster.messages import (
    Allowance,
    HostReport,
    Message,
    Permit,
    PermitDenied,
    PlanPush,
)
from discluster.plan import HostPlan, host_plan_from_yaml
from discluster.simulator import ledger
from discluster.simulator.oracles.evidence import Evidence
from tests.faults.loop import LoopClock
from tests.unit.control.purses import full_purse
from tests.unit.master.fakes import Control, Discord, Recorder, answer, settings
from tests.unit.master.fleets import report

INTERVAL: Final = 5.05  # the default of both settings
PING: Final = 5.0
LEASE: Final = 30.0


class HostClock:
    """A machine's clocks, which differ from those of others."""

    def __init__(self, base: Clock, *, ahead: float, skew: float) -> None:
        """``ahead``: of the monotonic clock. ``skew``: of the wall clock. Seconds."""
        self._base = base
        self._ahead = ahead
        self._skew = skew

    def monotonic(self) -> float:
        return self._base.monotonic() + self._ahead

    def wall(self) -> float:
        return self._base.wall() + self._skew

    async def sleep(self, seconds: float) -> None:
        await self._base.sleep(seconds)


class Process:
    """What it is to do waits while it stands still, and is done in order."""

    def __init__(self) -> None:
        self._frozen = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def do(self, work: Callable[[], None]) -> None:
        self._waiting.append(work)
        self._go_on()

    def freeze(self, seconds: float) -> None:
        self._frozen += 1
        asyncio.get_running_loop().call_later(seconds, self._thaw)

    def _thaw(self) -> None:
        self._frozen -= 1
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and not self._frozen:
            self._waiting.popleft()()


class Way:
    """Things arrive in order, each after a time of its own."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self.delay = delay
        self._last = 0.0

    def send(self, to: Process, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        # Timers that are due at the same instant come in any order.
        self._last = max(self._last + 1e-6, loop.time() + self.delay())
        loop.call_at(self._last, to.do, work)


class Arrivals:
    """What Discord sees."""

    def __init__(self, clock: Clock, lanes: int) -> None:
        self.identifies: list[tuple[float, int]] = []
        self._clock = clock
        self._lanes = lanes

    def arrive(self, shard: int) -> None:
        self.identifies.append((self._clock.monotonic(), shard))

    @property
    def shards(self) -> set[int]:
        return {shard for _, shard in self.identifies}

    @property
    def took(self) -> float:
        """Seconds from the first to the last."""
        return self.identifies[-1][0] - self.identifies[0][0]

    @property
    def closest(self) -> float:
        """The least gap in any lane."""
        lanes: dict[int, list[float]] = {}
        for time, shard in self.identifies:
            lanes.setdefault(shard % self._lanes, []).append(time)
        return min((b - a for times in lanes.values() for a, b in pairwise(times)), default=1e9)

    def evidence(self, shard_count: int) -> Evidence:
        """For the oracles."""
        return Evidence(
            [
                ledger.Identify(
                    n=n, time=time, connection=n, shard=(shard, shard_count), accepted=True
                )
                for n, (time, shard) in enumerate(self.identifies)
            ]
        )


class Host:
    """A CONTROL's desk and one cluster with all shards of the host."""

    def __init__(
        self,
        name: str,
        fleet: "PacedFleet",
        *,
        to_master: Callable[[], float],
        to_discord: Callable[[], float],
        asks_after: Callable[[], float] = lambda: 0.0,
        ahead: float = 0.0,
        skew: float = 0.0,
    ) -> None:
        self.name = name
        self.control, self.cluster = Process(), Process()
        self.clock = HostClock(fleet.clock, ahead=ahead, skew=skew)
        self.desk = PermitDesk(clock=self.clock, interval=INTERVAL, purse=full_purse(self.clock))
        self.plan: HostPlan | None = None
        self.identified: set[int] = set()
        self.late: list[int] = []  # shards whose permit came too late to be used
        self._fleet = fleet
        self._to_discord = to_discord
        self.asks_after = asks_after
        # By the fleet's clock: when the newest ping was sent that MASTER answered; while it is in
        # touch, no lease ends.
        self._confirmed = 0.0
        self._lease_ends = math.inf
        self._without_lease: set[int] = set()  # shards that had a permit, and no lease any more
        self._up, self._down = Way(to_master), Way(to_master)
        self._up_socket, self._down_socket = Way(lambda: 0.0), Way(lambda: 0.0)
        self._master: Control | None = None
        self._asked: set[int] = set()
        self.tasks: list[asyncio.Task[None]] = [asyncio.create_task(self.desk.run())]

    @property
    def waiting(self) -> frozenset[int]:
        """Shards for which CONTROL has asked."""
        return frozenset(self.desk._waiting)

    @property
    def is_deaf(self) -> bool:
        return self._master is None

    # --- the link to MASTER ---

    def connect(self) -> None:
        """The greeting is an exchange over both ways, in which MASTER tells its time."""
        asked = self.clock.monotonic()
        self._up.send(self._fleet.master, lambda: self._greeted(asked))

    def _greeted(self, asked: float) -> None:
        if self._fleet.daemon is None:
            return
        master = Control(self._fleet.daemon, self.name, self._report())
        told = self._fleet.clock.monotonic()
        self._down.send(self.control, lambda: self._welcomed(master, asked, told))

    def _welcomed(self, master: Control, asked: float, told: float) -> None:
        self._master, self._confirmed = master, self._fleet.clock.monotonic()
        self._fleet.count_deaf()
        time = MasterTime(asked=asked, told=told, heard=self.clock.monotonic())
        self.desk.master_connected(lambda message: self._say(master, message), time)
        self.tasks.append(asyncio.create_task(self._listen(master)))
        self.tasks.append(asyncio.create_task(self._ping(master, time)))

    def _report(self) -> HostReport:
        plan = self.plan
        running = self.identified.intersection(plan.shards()) if plan is not None else ()
        return msgspec.structs.replace(
            report(plan.generation if plan is not None else 0, running),
            slots=plan.identify if plan is not None else None,
            witness=f"{self.name}.example.net:7444",
            panel=tuple(sorted(plan.witnesses)) if plan is not None else (),
        )

    def disconnect(self) -> None:
        """The connection breaks, and both ends see it at once."""
        assert self._master is not None
        master, self._master = self._master, None
        self._lease_ends = self._confirmed + LEASE
        self._fleet.count_deaf()
        master.leave()
        self.desk.master_lost()

    def reconnect(self) -> None:
        """The connection breaks, if there is one, and another is made."""
        if self._master is not None:
            self.disconnect()
            self.connect()

    def lose_master(self) -> None:
        """MASTER is gone."""
        if self._master is not None:
            self._lease_ends = self._confirmed + LEASE
        self._master = None
        self._fleet.count_deaf()
        self.desk.master_lost()

    def _say(self, master: Control, message: Message) -> None:
        self._up.send(self._fleet.master, lambda: self._arrived(master, message))

    def _arrived(self, master: Control, message: Message) -> None:
        if master is self._master:
            master.say(message)

    async def _listen(self, master: Control) -> None:
        while master is self._master:
            message = await master.connection.outbox.get()
            self._down.send(self.control, partial(self._heard, master, message))

    async def _ping(self, master: Control, time: MasterTime) -> None:
        for number in itertools.count(1):
            if master is not self._master:
                return
            asked, sent = self.clock.monotonic(), self._fleet.clock.monotonic()
            self._up.send(
                self._fleet.master, partial(self._pong, master, time, number, asked, sent)
            )
            await self.clock.sleep(PING)

    def _pong(
        self, master: Control, time: MasterTime, number: int, asked: float, sent: float
    ) -> None:
        if master is not self._master:
            return
        master.master.host_heard(master.connection)
        told = self._fleet.clock.monotonic()
        # What MASTER asks the other way is answered as fast.
        master.connection.steadiness.pinged(number, sent)
        master.connection.steadiness.answered(number, told, lease=LEASE)

        def answered() -> None:
            time.learn(asked=asked, told=told, heard=self.clock.monotonic())
            self._confirmed = sent

        self._down.send(self.control, answered)

    def most_are_deaf(self, deaf: bool) -> None:
        """Witnesses renew a lease for as long as most do not hear MASTER; not one that has ended:
        they may follow a newer plan.
        """
        now = self._fleet.clock.monotonic()
        if self._master is not None or now >= self._lease_ends:
            return
        if deaf:
            self._lease_ends = math.inf
        elif self._lease_ends == math.inf:
            self._lease_ends = max(now + LEASE / 2, self._confirmed + LEASE)

    def _heard(self, master: Control, message: Message) -> None:
        if master is not self._master:
            return
        if isinstance(message, (Permit, PermitDenied, Allowance)):
            self.desk.answer(message)
        elif isinstance(message, PlanPush):
            self.plan = host_plan_from_yaml(message.text, file="pushed")
            self.desk.follow(self.plan.identify)
            self._say(master, self._report())
            # It is carried out, so MASTER renews a lease that had ended.
            self._lease_ends = math.inf
            for shard in self._without_lease.intersection(self.plan.shards()):
                self.ask(shard)
            self._without_lease.clear()
            self._start_shards(self.plan)

    # --- the cluster ---

    def _start_shards(self, plan: HostPlan) -> None:
        loop = asyncio.get_running_loop()
        for shard in set(plan.shards()) - self._asked:
            self._asked.add(shard)
            loop.call_later(self.asks_after(), self.ask, shard)

    def ask(self, shard: int) -> None:
        """The shard is connected, and has no session."""
        self._up_socket.send(
            self.control,
            lambda: self.desk.request(
                shard,
                cluster=1,
                reply=lambda m: self._down_socket.send(self.cluster, lambda: self._told(shard, m)),
            ),
        )

    def _told(self, shard: int, message: Message) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(message, PermitDenied):
            loop.call_later(message.retry_after, self.ask, shard)
        elif isinstance(message, Permit):
            wait = max(0.0, message.since - self.clock.monotonic())
            loop.call_later(wait, self.cluster.do, lambda: self._identify(shard, message))

    def _identify(self, shard: int, permit: Permit) -> None:
        if self._fleet.clock.monotonic() >= self._lease_ends:
            self._without_lease.add(shard)
            return
        now = self.clock.monotonic()
        if now >= permit.until:
            self.late.append(shard)
            self._up_socket.send(self.control, lambda: self.desk.returned(shard))
            self.ask(shard)
            return
        self.identified.add(shard)
        loop = asyncio.get_running_loop()
        loop.call_later(self._to_discord(), self._fleet.discord.arrive, shard)
        self._up_socket.send(self.control, lambda: self.desk.used(shard, at=now))


class PacedFleet:
    """``async with``; hosts are added, and connect, as the test wants."""

    def __init__(self, directory: Path, *hosts: str, shards: int, lanes: int = 1) -> None:
        self.clock = LoopClock()
        self.shards, self.lanes = shards, lanes
        self.master = Process()
        self.discord = Arrivals(self.clock, lanes)
        self.hosts: list[Host] = []
        self._directory = directory
        self._names = hosts
        self.daemon: MasterDaemon | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "PacedFleet":
        self.start_master()
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for host in self.hosts for task in host.tasks]
        for task in (*tasks, *([self._running] if self._running else [])):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start_master(self) -> None:
        """From its files, if there are any; the hosts do not know yet."""
        chosen = settings(*self._names, shards_per_cluster=64)
        store = MasterStore(self._directory)
        events = EventLog(self._directory, keep=100, clock=self.clock)
        discord = DiscordDesk(
            settings=chosen,
            store=store,
            fetch=Discord(answer(self.shards, max_concurrency=self.lanes)).fetch,
            events=events,
            clock=self.clock,
            rng=random.Random(1),
        )
        self.daemon = MasterDaemon(
            settings=chosen,
            store=store,
            history=History(self._directory / "history", keep=5, clock=self.clock),
            discord=discord,
            events=events,
            clock=self.clock,
            boottime=self.clock.monotonic,
            notifier=Recorder(),
        )
        self._running = asyncio.create_task(self.daemon.run(asyncio.Event()))

    def kill_master(self) -> None:
        """Its hosts see it at once."""
        assert self._running is not None
        self._running.cancel()
        self.daemon = None
        for host in self.hosts:
            host.lose_master()

    def count_deaf(self) -> None:
        """A host found MASTER, or lost it."""
        deaf = sum(host.is_deaf for host in self.hosts)
        for host in self.hosts:
            host.most_are_deaf(2 * deaf > len(self.hosts))

    def add(self, name: str, rng: random.Random, **options: float | Callable[[], float]) -> Host:
        """A host whose ways take no time, unless ``options`` say otherwise."""
        chosen: dict[str, float | Callable[[], float]] = {
            "to_master": lambda: 0.0,
            "to_discord": lambda: 0.02,
            "ahead": rng.uniform(-1e5, 1e5),
            **options,
        }
        host = Host(name, self, **chosen)  # type: ignore[arg-type]
        self.hosts.append(host)
        return host

    async def all_identified(self, timeout: float) -> None:
        """All shards of the fleet have; ``timeout``: simulated seconds."""
        end = self.clock.monotonic() + timeout
        while len(self.discord.shards) < self.shards:
            assert self.clock.monotonic() < end, f"only {sorted(self.discord.shards)}"
            await asyncio.sleep(0.5)
