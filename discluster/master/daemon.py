# SPDX-License-Identifier: Apache-2.0
"""The loop around planner, ownership and identify lanes: reports in, plans and permits out."""

import asyncio
import time
from collections.abc import Callable, Iterable

from discluster import __version__
from discluster.clock import Clock, at_most
from discluster.console import FleetStatus, PlanDiff, Trouble
from discluster.master.adoption import caught_up, is_behind
from discluster.master.desk import DiscordDesk
from discluster.master.expectation import Expectation, nothing_to_wait_for
from discluster.master.hosts.book import PARTINGS, HostBook, HostConnection
from discluster.master.hosts.plausible import denial, heeded, objection
from discluster.master.hosts.pushing import Pusher
from discluster.master.hosts.standing import FleetStanding
from discluster.master.hosts.watch import Watch
from discluster.master.identify.lanes import Lanes, taken_at_most
from discluster.master.identify.permits import PermitOffice
from discluster.master.orders.ordering import OrderDesk
from discluster.master.orders.restarts import Restarts
from discluster.master.ownership import Advance, advance
from discluster.master.planning import Planning
from discluster.master.records.checkpointing import CheckpointKeeper
from discluster.master.records.events import EventLog
from discluster.master.records.history import History
from discluster.master.rhythm import TICK, rest
from discluster.master.sentence import state_in_words
from discluster.master.settings import MasterSettings
from discluster.master.shared import Shared
from discluster.master.status import MasterView, fleet_status
from discluster.master.steps import describe_step
from discluster.master.store import MasterStore
from discluster.messages import (
    AllowanceReport,
    Checkpoint,
    ClearanceCase,
    ControlToMaster,
    Goodbye,
    Hello,
    HostReport,
    PermitMessage,
    PlanRefused,
)
from discluster.notify import Notifier
from discluster.plan import FleetPlan


class MasterDaemon:
    """Holds what MASTER knows; every word of a host wakes the next pass."""

    def __init__(
        self,
        *,
        settings: MasterSettings,
        store: MasterStore,
        history: History,
        discord: DiscordDesk,
        events: EventLog,
        clock: Clock,
        boottime: Callable[[], float],
        notifier: Notifier,
    ) -> None:
        """Reads the stored plan; raises DocumentError or StateError if it is damaged.
        ``boottime``: seconds, also of those in which the machine sleeps.
        """
        self._store = store
        self._discord = discord
        self._events = events
        self._clock = clock
        self._notifier = notifier
        self._began = clock.monotonic()
        self._patience_ends = clock.wall() + settings.start_wait
        self._fleet = store.load()
        count = self._fleet.shard_count if self._fleet else 0
        self._checkpoints = CheckpointKeeper(store=store, clock=clock, shard_count=count)
        self._book = HostBook(clock=clock)
        self._book.expect(settings.hosts, self._fleet)
        self._permits = self._open_office(settings)
        self._standing = FleetStanding(
            clock=clock, events=events, connections=lambda: self._book.connections
        )
        self._canary_pause: float | None = None
        self._wake = asyncio.Event()
        self._stops = self._behind = False
        shared = self._shared()
        self._planning = Planning(
            shared,
            settings=settings,
            store=store,
            history=history,
            discord=discord,
            settle=self._settle,
        )
        self.orders = OrderDesk(shared, planning=self._planning, history=history)
        self.restarts = Restarts(shared)
        self._watch = self._open_watch(boottime)
        self._pusher = Pusher(book=self._book, fleet=lambda: self._fleet, clock=clock)
        self._settled_with: tuple[FleetPlan | None, int, dict[str, int]] = (None, 0, {})
        self.advisers: list[Callable[[], Iterable[Trouble]]] = []

    def _open_office(self, settings: MasterSettings) -> PermitOffice:
        # A predecessor may have granted a permit that is used only now.
        rest = taken_at_most(settings.identify_interval) if self._fleet is not None else 0.0
        office = PermitOffice(
            lanes=Lanes(interval=settings.identify_interval, rest_until=self._began + rest),
            interval=settings.identify_interval,
            discord=self._discord,
            book=self._book,
            events=self._events,
            clock=self._clock,
        )
        office.follow(self._fleet)
        return office

    def _open_watch(self, boottime: Callable[[], float]) -> Watch:
        return Watch(
            book=self._book,
            events=self._events,
            clock=self._clock,
            boottime=boottime,
            settings=lambda: self._planning.settings,
            lease=lambda: self._planning.longest_lease,
            asserted=lambda: self._planning.orders.lost,
        )

    def _shared(self) -> Shared:
        return Shared(
            book=self._book,
            events=self._events,
            clock=self._clock,
            fleet=lambda: self._fleet,
            adopt=self._adopt,
            waiting_for=self._waiting_for,
            blocked=self._blocked,
            refused=lambda: self._permits.status().blocked,
            wake=self._wake.set,
        )

    # --- what hosts say (see link.Controls) ---

    def refusal(self, host: str) -> str | None:
        return self.orders.refusal(host)

    def host_connected(self, connection: HostConnection, hello: Hello) -> None:
        known = connection.host in self._book.views()
        self._book.connect(connection, hello.version, hello.report)
        self._permits.host_connected(connection.host)
        came = f"{'connected' if known else 'joined'}, version {hello.version}"
        words = f"{connection.host} {came}, with plan {hello.report.plan_generation}"
        self._events.record("host", words, host=connection.host, rarely=True)
        self._wake.set()

    def host_heard(self, connection: HostConnection) -> None:
        self._book.heard(connection)

    def objection(self, host: str, report: HostReport) -> str | None:
        return objection(host, report, self._fleet, self._book.reports)

    def host_said(self, connection: HostConnection, said: ControlToMaster) -> None:
        host = connection.host
        message = heeded(host, said, self._fleet, self._book.report(host))
        if message is None and (answer := denial(said)) is not None:
            connection.send(answer)
        if isinstance(message, HostReport):
            self._permits.reported(message)
            if not self._book.reported(connection, message):
                return
        elif isinstance(message, PermitMessage | AllowanceReport):
            self._permits.said(host, message)
            return
        elif isinstance(message, Checkpoint):
            self._checkpoints.said(host, message)
            return
        elif isinstance(message, ClearanceCase):
            self._standing.said(host, message)
        elif isinstance(message, PlanRefused):
            words = f"{host} refused plan {message.generation}: {message.errors}"
            self._events.record("host", words, host=host, severity="error", rarely=True)
            self._book.refused_plan(connection, message.errors)
        elif isinstance(message, Goodbye):
            self._book.goodbye(connection)
        self._wake.set()

    def host_gone(self, connection: HostConnection) -> None:
        if self._book.disconnect(connection):
            self._permits.host_gone(connection.host)
            self._standing.host_gone(connection.host)
            words = f"{connection.host} {PARTINGS[self._book.state(connection.host)]}"
            if not self._stops:
                self._events.record("host", words, host=connection.host, rarely=True)
        self._wake.set()

    # --- what operators ask ---

    @property
    def fleet(self) -> FleetPlan | None:
        return self._fleet

    @property
    def permits(self) -> PermitOffice:
        """Identify lanes, budget and guard."""
        return self._permits

    def status(self) -> FleetStatus:
        return fleet_status(self._view())

    def diff(self, settings: MasterSettings) -> PlanDiff:
        """What would change if MASTER planned now with ``settings``.

        Raises:
            ConfigurationError: there is no plan yet, or no host could take a shard.
        """
        return self._planning.diff(settings)

    # --- the loop ---

    async def run(self, stop: asyncio.Event) -> None:
        """Plans, pushes and grants until ``stop`` is set."""
        async with asyncio.TaskGroup() as tasks:
            parts = [
                tasks.create_task(self._discord.run(self._wake.set)),
                tasks.create_task(self._feed_watchdog()),
                tasks.create_task(self._checkpoints.run()),
                tasks.create_task(self._loop()),
                tasks.create_task(self._permits.run(self._blocked)),
            ]
            self._notifier.ready()
            self._events.record("master", f"MASTER starts, version {__version__}")
            await stop.wait()
            self._events.record("master", "MASTER stops")
            self._notifier.stopping()
            for part in parts:
                part.cancel()
        await self._part()
        self._checkpoints.save()

    async def _part(self) -> None:
        """Whoever knows at once that MASTER stops loses nothing of its lease."""
        self._stops = True
        if not self._behind:
            await self._pusher.push(to_all=True)
        for connection in self._book.connections:
            connection.close("MASTER stops")

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            began = self._clock.monotonic()
            self._pass()
            if not self._behind:
                await self._pusher.push()
            rested = await rest(began, clock=self._clock)
            pauses = (TICK, self._canary_pause, self._watch.next_change)
            soonest = min(pause for pause in pauses if pause is not None)
            await at_most(soonest - rested, self._wake.wait(), clock=self._clock)

    def _pass(self) -> None:
        """One reconcile pass; systemd shows in a sentence what it did."""
        self._look_around()
        told = [self._planning.plan_if_due(), self._advance_ownership()]
        told.append(self.restarts.advance())
        told.append(self.orders.advance())
        self._answer_goodbyes()
        self._tell_standing()
        self._permits.look()
        self._notifier.status("; ".join(words for words in told if words) or self._state())

    def _state(self) -> str:
        """As :meth:`status` says it, without a look at each shard."""
        waiting = self._waiting_for()
        if self._fleet is None:
            return waiting or "about to plan"
        states, away = self._book.tally()
        count = self._fleet.shard_count
        return state_in_words(
            states,
            count=count,
            ready=min(count, states["ready"]),
            away=away,
            identify=self._permits.status(),
            waiting=waiting,
        )

    def _look_around(self) -> None:
        fleet = self._watch.look(self._fleet)
        self._behind = False
        if fleet is not None and is_behind(fleet, self._book.reports()):
            # Files from a backup: what is the past there, and what is not, all hosts know together.
            self._behind = bool(self._expectation().missing)
            fleet = fleet if self._behind else caught_up(fleet, self._book.reports())
        if fleet is not None and fleet is not self._fleet:
            self._adopt(fleet)

    def _adopt(self, fleet: FleetPlan) -> None:
        self._store.save(fleet)
        self._fleet = fleet
        self._permits.follow(fleet)
        self._checkpoints.follow(fleet.shard_count)

    def _settle(self, fleet: FleetPlan) -> Advance:
        step = advance(
            fleet,
            self._book.reports(),
            self._checkpoints.by_shard,
            connected=self._book.connected,
            lost=self._watch.losses.lost,
            moves_at_once=self._planning.settings.moves_at_once,
        )
        return self._watch.name_witnesses(step)

    def _is_settled(self, fleet: FleetPlan) -> bool:
        """Whether nothing was heard since a look at all shards that changed nothing. Checkpoints
        matter only to sessions that are on their way.
        """
        before, news, lost = self._settled_with
        heard = news != self._book.news or lost != self._watch.losses.lost
        return fleet is before and not heard and not fleet.sessions

    def _advance_ownership(self) -> str:
        if self._fleet is None or self._behind or self._is_settled(self._fleet):
            return ""
        step = self._settle(self._fleet)
        if not step.changed:
            self._settled_with = (self._fleet, self._book.news, self._watch.losses.lost)
            return ""
        self._adopt(step.fleet)
        told = describe_step(step, lost=self._watch.losses.lost)
        for words in told:
            self._events.record("shards", words, generation=step.fleet.generation)
        return "; ".join(told)

    def _answer_goodbyes(self) -> None:
        for connection in self._book.parting:
            needs, leaving = self._planning.needs(), self._book.leaving
            if not nothing_to_wait_for(connection.host, self._expectation(), needs, leaving):
                continue
            if self._fleet is not None and connection.host not in leaving:
                # A MASTER that is restarted must not take it for lost: its clusters run on.
                self._adopt(self._watch.unattended(self._fleet, connection.host))
            self._book.answer_goodbye(connection)

    def _blocked(self) -> str | None:
        """Why nobody may dial, in words."""
        return self._discord.rejected or self._book.rejection

    def _tell_standing(self) -> None:
        # A host that was not heard yet may be the one that was rejected.
        known = not self._expectation().missing
        self._canary_pause = self._standing.tell(self._blocked(), all_known=known)

    # --- what this MASTER waits for ---

    def _expectation(self) -> Expectation:
        return Expectation(
            fleet=self._fleet,
            configured=self._planning.settings.hosts.keys(),
            connected=self._book.connected,
            unattended=self._book.unattended,
            removed=frozenset(self._planning.orders.removed),
            patient=self._clock.monotonic() - self._began < self._planning.settings.start_wait,
            until=time.strftime("%H:%M:%S UTC", time.gmtime(self._patience_ends)),
        )

    def _waiting_for(self) -> str | None:
        """Why nothing is planned now, in words."""
        return self._expectation().obstacle(self._discord.waiting_for)

    def _view(self) -> MasterView:
        needs = self._planning.needs()
        return MasterView(
            fleet=self._fleet,
            hosts=self._book.views(),
            shards_per_cluster={name: need.shards_per_cluster for name, need in needs.items()},
            weights={name: need.weight for name, need in needs.items()},
            identify=self._permits.status(),
            waiting_for=self._waiting_for(),
            recommended=self._discord.recommended,
            discord_trouble=self._discord.trouble,
            losses=self._watch.losses,
            needs=needs,
            notes=self._planning.notes,
            crashed=self._watch.crashed,
            rollout=self.restarts.unfinished(),
            moves=self.orders.unfinished,
            troubles=tuple(trouble for adviser in self.advisers for trouble in adviser()),
            uptime=self._clock.monotonic() - self._began,
        )

    async def _feed_watchdog(self) -> None:
        interval = self._notifier.watchdog_interval
        while interval is not None:
            self._notifier.watchdog()
            await self._clock.sleep(interval)
