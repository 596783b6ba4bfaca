# SPDX-License-Identifier: Apache-2.0
"""The loop around :mod:`discluster.control.reconcile`: observe, decide, act, report."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any, Final

from discluster import __version__
from discluster.clock import Clock
from discluster.console import HostStatus
from discluster.control.checkpointing import Checkpointing
from discluster.control.clusters import ClusterConnection, ClusterHub
from discluster.control.farewell import Farewell
from discluster.control.jobs import Jobs
from discluster.control.leasing import Leasing
from discluster.control.link import MasterLink
from discluster.control.load import Load
from discluster.control.mastertime import MasterTime
from discluster.control.news import footing, standings
from discluster.control.permits import PermitDesk
from discluster.control.pushes import read_push
from discluster.control.reconcile import Assign, Observed, Settle, Step, decide, obeys
from discluster.control.reports import build_report, host_status
from discluster.control.standing import Standing
from discluster.control.store import ControlStore
from discluster.control.supervisor import Supervisor, UnitView
from discluster.control.witness import Witness
from discluster.errors import DisclusterError, SupervisorError
from discluster.messages import (
    PROTOCOL,
    Allowance,
    Clearance,
    ClearanceCase,
    ClusterReport,
    Halt,
    Held,
    Hello,
    HostReport,
    MasterToControl,
    Permit,
    PermitDenied,
    PermitMessage,
    PermitRequest,
    PermitUsed,
    PlanPush,
    PlanRefused,
)
from discluster.notify import Notifier
from discluster.plan import HostPlan

log = logging.getLogger(__name__)

_PASS_AT_LEAST_EVERY: Final = 5.0
_PASS_AT_MOST_EVERY: Final = 0.05
_PASS_HANGS_AFTER: Final = 60.0
_REPORT_PAUSE: Final = 0.2


class ControlDaemon:
    """Holds what CONTROL knows; every change wakes the next pass."""

    def __init__(
        self,
        *,
        host: str,
        store: ControlStore,
        supervisor: Supervisor,
        permits: PermitDesk,
        leasing: Leasing,
        clock: Clock,
        notifier: Notifier,
        checkpoint_interval: float,
    ) -> None:
        self._host = host
        self._store = store
        self._supervisor = supervisor
        self._permits = permits
        self._leasing = leasing
        self._standing = Standing(clock=clock)
        self._farewell = Farewell(supervisor)
        self._load = Load()
        self._checkpointing = Checkpointing(
            read=store.read_stays, clock=clock, interval=checkpoint_interval
        )
        self._clock = clock
        self._notifier = notifier
        self._link: MasterLink | None = None
        self._hub: ClusterHub | None = None
        self._witness: Witness | None = None
        self._plan: HostPlan | None = None
        self._held: dict[int, Held] = {}
        self._units: dict[int, UnitView] = {}
        self._reports: dict[int, ClusterReport] = {}
        self._supervisor_trouble: str | None = None
        self._wake = asyncio.Event()
        self._jobs = Jobs(supervisor=supervisor, clock=clock, on_end=self._wake.set)
        self._report_due = asyncio.Event()
        self._sentence = ""
        self._passed_at = clock.monotonic()

    # --- what the others call ---

    @property
    def plan(self) -> HostPlan | None:
        return self._plan

    def hello(self) -> Hello:
        return Hello(protocol=PROTOCOL, version=__version__, report=self.report())

    def report(self) -> HostReport:
        return build_report(
            plan=self._plan,
            observed=self._observed(),
            load=self._load.of_all(self._clock.monotonic()),
            troubles=self._jobs.troubles,
            host_troubles=self._host_troubles(),
            sentence=self._sentence,
            rejected=self._standing.rejected,
            leaving=self._farewell.leaving,
            witness=self._witness_address(),
            keeps=self._leasing.keeps,
        )

    def status(self) -> HostStatus:
        return host_status(
            host=self._host,
            plan=self._plan,
            report=self.report(),
            master=self._master_in_words(),
        )

    def cluster_reported(
        self, report: ClusterReport, connection: ClusterConnection, introduces: bool
    ) -> None:
        before = self._reports.get(report.cluster)
        self._reports[report.cluster] = report
        self._load.reported(report, self._clock.monotonic())
        held = self._held.get(report.cluster)
        if introduces and held is not None and report.generation != held.assignment.generation:
            connection.send(held.assignment)
        if introduces:
            connection.send(self._leasing.lease)
            if before is not None:
                # Its predecessor's socket was not seen to close yet.
                self._standing.gone(before, self._units.get(report.cluster))
            self._standing.introduced(connection)
        self._tell_standing()
        # Neither a pass, which asks the supervisor about every unit, nor a report, which is long,
        # for each shard's latency.
        if introduces or footing(report) != footing(before):
            self._wake.set()
        if introduces or standings(report) != standings(before):
            self._report_due.set()

    def cluster_gone(self, cluster: int) -> None:
        if (report := self._reports.pop(cluster, None)) is not None:
            self._standing.gone(report, self._units.get(cluster))
            self._tell_standing()
        self._permits.cluster_gone(cluster)
        self.changed()

    def permit_message(
        self, connection: ClusterConnection, message: PermitMessage | ClearanceCase
    ) -> None:
        if isinstance(message, ClearanceCase):
            self._standing.case(connection, message)
        elif isinstance(message, PermitRequest):
            self._permits.request(message.shard, cluster=connection.cluster, reply=connection.send)
        elif isinstance(message, PermitUsed):
            self._permits.used(message.shard, at=message.at)
        else:
            self._permits.returned(message.shard)

    def changed(self) -> None:
        self._wake.set()
        self._report_due.set()

    def master_connected(self, time: MasterTime) -> None:
        assert self._link is not None
        self._permits.master_connected(self._link.send, time)
        self._standing.master_connected(self._link.send)
        self._checkpointing.begin_anew()
        self.changed()

    def master_lost(self) -> None:
        self._permits.master_lost()
        self._standing.master_lost()
        self._leasing.parted()
        self.changed()

    def master_said(self, message: MasterToControl) -> None:
        if isinstance(message, PlanPush):
            self._take_plan(message)
        elif isinstance(message, (Permit, PermitDenied, Allowance)):
            self._permits.answer(message)
        elif isinstance(message, (Clearance, Halt)):
            self._standing.master_said(message)
            self._tell_standing()

    # --- the loop ---

    async def run(
        self,
        *,
        hub: ClusterHub,
        link: MasterLink | None,
        stop: asyncio.Event,
        witness: Witness | None = None,
    ) -> None:
        """Runs until ``stop`` is set; the clusters run on.

        Raises:
            SupervisorError: the supervisor cannot be reached at the start.
            UnavailableError: the socket for the clusters cannot be made.
        """
        self._hub, self._link, self._witness = hub, link, witness
        self._plan = self._store.load_plan()
        self._held = self._store.load_held()
        if self._plan is not None:
            self._permits.follow(self._plan.identify)
        self._leasing.open(plan=lambda: self._plan, tell=hub.tell)
        await self._supervisor.open(self._wake.set)
        try:
            await hub.open()
            async with asyncio.TaskGroup() as tasks:
                parts: list[Coroutine[Any, Any, None]] = [
                    self._reconcile_forever(),
                    self._report_forever(),
                    self._permits.run(),
                    self._standing.run(self._tell_standing),
                    self._leasing.run(),
                    self._feed_watchdog(),
                ]
                parts += [witness.run()] if witness is not None else []
                if link is not None:
                    parts += [link.run(), self._checkpoint_forever(link)]
                else:
                    self._standing.without_master()
                running = [tasks.create_task(part) for part in parts]
                self._notifier.ready()
                await stop.wait()
                await self._leave()
                for task in running:
                    task.cancel()
        finally:
            await hub.close()
            await self._jobs.cancel()
            await self._supervisor.close()

    async def _leave(self) -> None:
        self._notifier.stopping()
        await self._farewell.begin()
        self._wake.set()
        if self._link is not None:
            # Before the goodbye, so that MASTER knows how it is meant.
            self._link.send(self.report())
        sentence = await self._farewell.take_leave(self._link)
        if self._farewell.unattended:
            self._leasing.unattended()
        self._leasing.close()
        log.info("stopping; %s", sentence)

    async def _reconcile_forever(self) -> None:
        while True:
            self._wake.clear()
            await self._reconcile_once()
            self._passed_at = self._clock.monotonic()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PASS_AT_LEAST_EVERY):
                    await self._wake.wait()
            await self._clock.sleep(_PASS_AT_MOST_EVERY)

    async def _reconcile_once(self) -> None:
        settled, came = self._jobs.unsettled, self._standing.unsettled
        try:
            self._units = dict(await self._supervisor.units())
            self._load.looked(self._units)
            await self._farewell.look()
            self._supervisor_trouble = None
            self._jobs.settle(settled)
        except SupervisorError as error:
            # Without knowing what runs, no step is safe.
            self._supervisor_trouble = error.render()
            self._say(f"cannot see the clusters: {error.render()}")
            return
        observed = self._observed()
        decision = self._farewell.confine(decide(self._plan, observed), self._plan, observed)
        for step in decision.steps:
            self._take(step)
        if obeys(self._plan, self._held):
            self._leasing.plan_carried_out()
        self._say(decision.sentence)
        planned = self._plan.clusters if self._plan is not None else ()
        self._standing.settle(came, self._units, planned)
        self._tell_standing()
        self._forget_old_clusters()
        self._report_due.set()

    def _observed(self) -> Observed:
        return Observed(
            units=self._units,
            reports=self._reports,
            held=self._held,
            stays=self._store.stays(self._held.keys()),
            busy=self._jobs.busy,
        )

    def _say(self, sentence: str) -> None:
        """Logs what this pass did, once."""
        if sentence != self._sentence:
            generation = self._plan.generation if self._plan else None
            log.info("%s", sentence, extra={"HOST": self._host, "GENERATION": generation})
        self._sentence = sentence
        master = self._master_in_words()
        told = sentence if master == "connected" else f"{sentence}; MASTER: {master}"
        self._notifier.status(told)

    def _master_in_words(self) -> str:
        state = self._link.state if self._link else "this machine has not joined a fleet"
        if not (lease := self._leasing.words()):
            return state
        return f"{state}, but {lease}" if state == "connected" else f"{state}; {lease}"

    def _host_troubles(self) -> tuple[str | None, ...]:
        witness = self._witness.trouble if self._witness else None
        return (self._supervisor_trouble, witness, self._leasing.trouble)

    def _witness_address(self) -> str | None:
        local = self._link.local_address if self._link else None
        return self._witness.address(local) if self._witness else None

    def _take(self, step: Step) -> None:
        if isinstance(step, (Assign, Settle)):
            self._store.save_held(step.held)
            cluster = step.held.assignment.cluster
            self._held[cluster] = step.held
            connection = self._hub.connection(cluster) if self._hub else None
            if isinstance(step, Assign) and connection is not None:
                connection.send(step.held.assignment)
            self._wake.set()
            return
        self._jobs.begin(step)

    def _forget_old_clusters(self) -> None:
        planned = self._plan.clusters.keys() if self._plan else self._held.keys()
        for cluster in self._held.keys() - planned:
            gone = not self._units.get(cluster, UnitView(state="inactive")).may_run
            if gone and cluster not in self._jobs.busy and self._store.forget(cluster):
                del self._held[cluster]

    def _take_plan(self, push: PlanPush) -> None:
        """Stores the plan before anything is done about it; a bad one leaves the last in force."""
        try:
            plan = read_push(push, host=self._host, current=self._plan)
        except DisclusterError as error:
            log.error("refused the plan of MASTER: %s", error.render())
            if self._link is not None:
                self._link.send(PlanRefused(generation=push.generation, errors=error.message))
            return
        self._store.save_plan(push.text)
        self._plan = plan
        self._leasing.plan_taken()
        self._permits.follow(plan.identify)
        self.changed()

    def _tell_standing(self) -> None:
        """Every cluster hears at once what Discord rejected, and MASTER with the next report."""
        connections = self._hub.connections if self._hub is not None else ()
        if self._standing.tell(self._reports, connections):
            self._report_due.set()
        self._permits.block(self._standing.reason is not None)

    # --- reporting ---

    async def _checkpoint_forever(self, link: MasterLink) -> None:
        await self._checkpointing.run(
            link,
            shard_count=lambda: self._plan.shard_count if self._plan else 0,
            clusters=lambda: set(self._held),
        )

    async def _report_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PASS_AT_LEAST_EVERY):
                    await self._report_due.wait()
            self._report_due.clear()
            if self._link is not None and self._link.connected:
                self._link.send(self.report())
            await self._clock.sleep(_REPORT_PAUSE)

    async def _feed_watchdog(self) -> None:
        interval = self._notifier.watchdog_interval
        while interval is not None:
            # Each call to the supervisor has its own time limit; a pass that takes this long hangs.
            if self._clock.monotonic() - self._passed_at < _PASS_HANGS_AFTER:
                self._notifier.watchdog()
            await self._clock.sleep(interval)
