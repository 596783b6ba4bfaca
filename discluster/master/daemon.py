# SPDX-License-Identifier: Apache-2.0
"""The loop around planner, ownership and identify lanes: reports in, plans and permits out."""

import asyncio
import logging
import time

import msgspec

from discluster.clock import Clock, at_most
from discluster.console import FleetStatus, PlanDiff
from discluster.errors import ConfigurationError
from discluster.master.changes import describe_changes, describe_reason
from discluster.master.checkpointing import CheckpointKeeper
from discluster.master.desk import DiscordDesk
from discluster.master.expectation import Expectation, host_needs, nothing_to_wait_for
from discluster.master.hosts import HostBook, HostConnection
from discluster.master.identify import Lanes, taken_at_most
from discluster.master.outline import Outline, outline
from discluster.master.ownership import advance, host_plan
from discluster.master.permits import PermitOffice
from discluster.master.planner import HostNeed, plan_fleet
from discluster.master.restarts import Restarts
from discluster.master.settings import MasterSettings
from discluster.master.standing import FleetStanding
from discluster.master.status import MasterView, fatal_block, fleet_status
from discluster.master.store import MasterStore
from discluster.messages import (
    AllowanceReport,
    Checkpoint,
    ClearanceCase,
    ControlToMaster,
    Goodbye,
    Hello,
    HostReport,
    PermitRequest,
    PermitReturned,
    PermitUsed,
    PlanPush,
    PlanRefused,
)
from discluster.notify import Notifier
from discluster.plan import FleetPlan, HostEntry, digest, host_plan_to_yaml

log = logging.getLogger(__name__)

_TICK = 1.0
_PARTINGS = {
    "unattended": "said goodbye; its clusters run on",
    "down": "said goodbye; it goes down",
    "silent": "is out of touch",
}


class MasterDaemon:
    """Holds what MASTER knows; every word of a host wakes the next pass."""

    def __init__(
        self,
        *,
        settings: MasterSettings,
        store: MasterStore,
        discord: DiscordDesk,
        clock: Clock,
        notifier: Notifier,
    ) -> None:
        """Reads the stored plan.

        Raises:
            DocumentError, StateError: it is damaged.
        """
        self._settings = settings
        self._store = store
        self._discord = discord
        self._clock = clock
        self._notifier = notifier
        self._began = clock.monotonic()
        self._patience_ends = _time_of_day(clock.wall() + settings.start_wait)
        self._fleet = store.load()
        count = self._fleet.shard_count if self._fleet else 0
        self._checkpoints = CheckpointKeeper(store=store, clock=clock, shard_count=count)
        self._book = HostBook(clock=clock)
        self._book.expect({*settings.hosts, *(self._fleet.hosts if self._fleet else ())})
        # A predecessor may have granted a permit that is used only now.
        rest = taken_at_most(settings.identify_interval) if self._fleet is not None else 0.0
        self._permits = PermitOffice(
            lanes=Lanes(interval=settings.identify_interval, rest_until=self._began + rest),
            interval=settings.identify_interval,
            discord=discord,
            book=self._book,
            clock=clock,
        )
        self._permits.follow(self._fleet)
        self._standing = FleetStanding(clock=clock, connections=lambda: self._book.connections)
        self._canary_pause: float | None = None
        self._planned_with: Outline | None = None
        self._wake = asyncio.Event()
        self._sentence = ""
        self.restarts = Restarts(
            book=self._book,
            clock=clock,
            fleet=lambda: self._fleet,
            adopt=self._adopt,
            waiting_for=self._waiting_for,
            blocked=self._blocked,
            wake=self._wake.set,
        )

    # --- what hosts say (see link.Controls) ---

    def host_connected(self, connection: HostConnection, hello: Hello) -> None:
        known = connection.host in self._book.views()
        self._book.connect(connection, hello.version, hello.report)
        self._permits.host_connected(connection.host)
        log.info(
            "%s %s, version %s, with plan %d",
            connection.host,
            "connected" if known else "joined",
            hello.version,
            hello.report.plan_generation,
            extra={"HOST": connection.host},
        )
        self._wake.set()

    def host_heard(self, connection: HostConnection) -> None:
        self._book.heard(connection)

    def host_said(self, connection: HostConnection, message: ControlToMaster) -> None:
        if isinstance(message, HostReport):
            self._book.reported(connection, message)
            self._permits.reported(message)
        elif isinstance(message, (PermitRequest, PermitUsed, PermitReturned, AllowanceReport)):
            self._permits.said(connection.host, message)
        elif isinstance(message, Checkpoint):
            self._checkpoints.said(connection.host, message)
        elif isinstance(message, ClearanceCase):
            self._standing.said(connection.host, message)
        elif isinstance(message, PlanRefused):
            log.error("%s refused plan %d: %s", connection.host, message.generation, message.errors)
            self._book.refused_plan(connection, message.errors)
        elif isinstance(message, Goodbye):
            self._book.goodbye(connection)
        self._wake.set()

    def host_gone(self, connection: HostConnection) -> None:
        if self._book.disconnect(connection):
            self._permits.host_gone(connection.host)
            self._standing.host_gone(connection.host)
            words = _PARTINGS[self._book.views()[connection.host].state]
            log.info("%s %s", connection.host, words, extra={"HOST": connection.host})
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
        if self._fleet is None:
            raise ConfigurationError(self._waiting_for() or "there is no plan yet", code="no-plan")
        needs = self._needs(settings)
        target = plan_fleet(self._fleet.shard_count, needs, self._fleet.hosts)
        return describe_changes(self._fleet, target)

    # --- the loop ---

    async def run(self, stop: asyncio.Event) -> None:
        """Plans, pushes and grants until ``stop`` is set."""
        async with asyncio.TaskGroup() as tasks:
            parts = [
                tasks.create_task(self._discord.run(self._wake.set)),
                tasks.create_task(self._feed_watchdog()),
                tasks.create_task(self._checkpoints.run()),
                tasks.create_task(self._loop()),
            ]
            self._notifier.ready()
            await stop.wait()
            self._notifier.stopping()
            for part in parts:
                part.cancel()
        self._checkpoints.save()

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            self._pass()
            chance = self._permits.next_chance()
            pauses = (_TICK, chance, self._canary_pause)
            soonest = min(pause for pause in pauses if pause is not None)
            await at_most(soonest, self._wake.wait(), clock=self._clock)

    def _pass(self) -> None:
        """One reconcile pass; it says in a sentence what it did."""
        told = [self._drop_silent(), self._plan_if_due(), self._advance_ownership()]
        told.append(self.restarts.advance())
        self._push_plans()
        self._answer_goodbyes()
        blocked = self._tell_standing()
        self._permits.grant(blocked=blocked)
        sentence = "; ".join(words for words in told if words) or self.status().state
        if sentence != self._sentence:
            generation = self._fleet.generation if self._fleet else None
            log.info("%s", sentence, extra={"GENERATION": generation})
        self._sentence = sentence
        self._notifier.status(sentence)

    def _drop_silent(self) -> str:
        silent = self._book.silent_connections(self._settings.lease)
        for connection in silent:
            connection.close(f"nothing was heard for {self._settings.lease:g} s")
        return f"{', '.join(c.host for c in silent)} fell silent" if silent else ""

    def _plan_if_due(self) -> str:
        if self._waiting_for() is not None:
            return ""
        settings, before = self._settings, self._fleet
        needs = self._needs(settings)
        now = outline(before, self._discord, needs, pace_after=settings.pace_after)
        if now is None or now == self._planned_with:
            return ""
        try:
            target = plan_fleet(now.shard_count, now.needs, before.hosts if before else {})
        except ConfigurationError as error:
            return f"cannot plan: {error.render()}"
        self._planned_with = now
        return self._plan(now, target)

    def _plan(self, outline: Outline, target: dict[str, HostEntry]) -> str:
        before = self._fleet
        fleet = FleetPlan(
            generation=before.generation if before else 0,
            shard_count=outline.shard_count,
            gateway_url=outline.gateway_url,
            max_concurrency=outline.max_concurrency,
            pace_after=outline.pace_after,
            reason=before.reason if before else "",
            hosts=target,
            granted=before.granted if before else {},
            slots=before.slots if before else {},
            sessions=before.sessions if before else {},
            rollout=before.rollout if before else None,
            recovery=before.recovery if before else None,
        )
        if fleet == before:
            return ""
        reason = describe_reason(before, fleet, leaving=self._book.leaving)
        # Ownership is settled before anything is stored or pushed: a shard is granted, or it is
        # not in a host's plan.
        step = advance(
            msgspec.structs.replace(fleet, reason=reason),
            self._book.reports(),
            self._checkpoints.by_shard,
        )
        generation = max(step.fleet.generation, fleet.generation + 1)
        self._adopt(msgspec.structs.replace(step.fleet, generation=generation))
        return f"planned generation {generation}: {reason}"

    def _adopt(self, fleet: FleetPlan) -> None:
        self._store.save(fleet)
        self._fleet = fleet
        self._permits.follow(fleet)
        self._checkpoints.follow(fleet.shard_count)

    def _advance_ownership(self) -> str:
        if self._fleet is None:
            return ""
        step = advance(self._fleet, self._book.reports(), self._checkpoints.by_shard)
        if not step.changed:
            return ""
        self._adopt(step.fleet)
        told = []
        if step.withdrawn:
            told.append(f"withdrawing {len(step.withdrawn)} shards")
        if step.granted:
            told.append(f"granted {len(step.granted)} shards")
        return ", ".join(told)

    def _push_plans(self) -> None:
        if self._fleet is None:
            return
        for connection in self._book.connections:
            if connection.pushed_generation < self._fleet.generation:
                text = host_plan_to_yaml(host_plan(self._fleet, connection.host))
                connection.send(
                    PlanPush(generation=self._fleet.generation, sha256=digest(text), text=text)
                )
                connection.pushed_generation = self._fleet.generation
                self._book.refused_plan(connection, None)

    def _answer_goodbyes(self) -> None:
        for connection in self._book.parting:
            needs, leaving = self._needs(self._settings), self._book.leaving
            if nothing_to_wait_for(connection.host, self._expectation(), needs, leaving):
                self._book.answer_goodbye(connection)

    def _blocked(self) -> str | None:
        """Why nobody may dial, in words."""
        return self._discord.rejected or fatal_block(self._book.reports())

    def _tell_standing(self) -> str | None:
        """Tells the hosts whether they may dial; why nobody may, in words."""
        blocked = self._blocked()
        # A host that was not heard yet may be the one that was rejected.
        known = not self._expectation().missing
        self._canary_pause = self._standing.tell(blocked, all_known=known)
        return blocked

    # --- what this MASTER waits for ---

    def _needs(self, settings: MasterSettings) -> dict[str, HostNeed]:
        return host_needs(settings, self._fleet, self._book.connected, self._book.leaving)

    def _expectation(self) -> Expectation:
        return Expectation(
            fleet=self._fleet,
            configured=self._settings.hosts.keys(),
            connected=self._book.connected,
            unattended=self._book.unattended,
            patient=self._clock.monotonic() - self._began < self._settings.start_wait,
            until=self._patience_ends,
        )

    def _waiting_for(self) -> str | None:
        """Why nothing is planned now, in words."""
        return self._expectation().obstacle(self._discord.waiting_for)

    def _view(self) -> MasterView:
        needs = self._needs(self._settings)
        return MasterView(
            fleet=self._fleet,
            hosts=self._book.views(),
            shards_per_cluster={name: need.shards_per_cluster for name, need in needs.items()},
            weights={name: need.weight for name, need in needs.items()},
            identify=self._permits.status(),
            waiting_for=self._waiting_for(),
            recommended=self._discord.recommended,
            discord_trouble=self._discord.trouble,
            rollout=self.restarts.unfinished(),
            uptime=self._clock.monotonic() - self._began,
        )

    async def _feed_watchdog(self) -> None:
        interval = self._notifier.watchdog_interval
        while interval is not None:
            self._notifier.watchdog()
            await self._clock.sleep(interval)


def _time_of_day(wall: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(wall))
