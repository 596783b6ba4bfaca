# SPDX-License-Identifier: Apache-2.0
"""What a MASTER in a test is made of: a Discord that answers as told, a CONTROL by hand."""

import asyncio
import random
from pathlib import Path

from discluster.errors import DisclusterError
from discluster.master.daemon import MasterDaemon
from discluster.master.desk import DiscordDesk
from discluster.master.discord import GatewayBot, SessionStartLimit
from discluster.master.hosts.book import HostConnection
from discluster.master.records.events import EventLog
from discluster.master.records.history import History
from discluster.master.settings import HostSettings, MasterSettings
from discluster.master.store import MasterStore
from discluster.messages import PROTOCOL, Hello, HostReport, Message, PlanPush
from discluster.plan import HostPlan, host_plan_from_yaml
from tests.clock import ManualClock
from tests.unit.master.fleets import GATEWAY, report


def answer(
    shards: int = 4, remaining: int = 900, max_concurrency: int = 1, reset_after: int = 3_600_000
) -> GatewayBot:
    limit = SessionStartLimit(
        total=1000,
        remaining=remaining,
        reset_after=reset_after,
        max_concurrency=max_concurrency,
    )
    return GatewayBot(url=GATEWAY, shards=shards, session_start_limit=limit)


class Discord:
    """Says ``next`` to whoever asks; ``asked`` counts."""

    def __init__(self, answered: GatewayBot | DisclusterError) -> None:
        self.next = answered
        self.asked = 0

    async def fetch(self) -> GatewayBot:
        self.asked += 1
        if isinstance(self.next, DisclusterError):
            raise self.next
        return self.next


class Recorder:
    """A Notifier that keeps what it was told."""

    watchdog_interval: float | None = 10.0

    def __init__(self) -> None:
        self.told: list[str] = []

    def ready(self) -> None:
        self.told.append("ready")

    def status(self, text: str) -> None:
        self.told.append(text)

    def watchdog(self) -> None:
        self.told.append("watchdog")

    def reloading(self) -> None:
        self.told.append("reloading")

    def stopping(self) -> None:
        self.told.append("stopping")


class Control:
    """The MASTER end of one connection, and what came out of it."""

    def __init__(self, master: MasterDaemon, host: str, first: HostReport | None = None) -> None:
        self.master = master
        self.closed: list[str] = []
        self.connection = HostConnection(host, self.closed.append)
        hello = Hello(protocol=PROTOCOL, version="1", report=first or report(0))
        master.host_connected(self.connection, hello)

    def say(self, message: Message) -> None:
        self.master.host_heard(self.connection)
        self.master.host_said(self.connection, message)  # type: ignore[arg-type]

    def leave(self) -> None:
        self.master.host_gone(self.connection)

    def heard(self) -> list[Message]:
        messages = []
        while not self.connection.outbox.empty():
            messages.append(self.connection.outbox.get_nowait())
        return messages

    def plan(self) -> HostPlan:
        """The last plan that was pushed."""
        (*_, push) = [m for m in self.heard() if isinstance(m, PlanPush)]
        return host_plan_from_yaml(push.text, file="pushed")


def settings(*hosts: str, **changed: object) -> MasterSettings:
    values: dict[str, object] = {
        "start_wait": 45.0,
        "shards_per_cluster": 2,
        "hosts": {host: HostSettings() for host in hosts},
    }
    return MasterSettings(**(values | changed))  # type: ignore[arg-type]


class Running:
    """A MASTER whose loop runs on a clock that stands still: ``async with``."""

    def __init__(
        self, directory: Path, chosen: MasterSettings, discord: Discord, clock: ManualClock
    ) -> None:
        self.clock = clock
        self.notifier = Recorder()
        store = MasterStore(directory)
        self.events = EventLog(directory, keep=1000, clock=clock)
        desk = DiscordDesk(
            settings=chosen,
            store=store,
            fetch=discord.fetch,
            events=self.events,
            clock=clock,
            rng=random.Random(1),
        )
        self.master = MasterDaemon(
            settings=chosen,
            store=store,
            history=History(directory / "history", keep=chosen.history, clock=clock),
            discord=desk,
            events=self.events,
            clock=clock,
            boottime=clock.monotonic,
            notifier=self.notifier,
        )
        self._stop = asyncio.Event()

    async def __aenter__(self) -> "Running":
        self._task = asyncio.create_task(self.master.run(self._stop))
        await self.clock.advance(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task

    def connect(self, host: str, first: HostReport | None = None) -> Control:
        return Control(self.master, host, first)

    async def after(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds)

    @property
    def state(self) -> str:
        return self.master.status().state

    @property
    def troubles(self) -> list[str]:
        return [trouble.text for trouble in self.master.status().troubles]
