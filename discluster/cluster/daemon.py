# SPDX-License-Identifier: Apache-2.0
"""The loop around :mod:`discluster.cluster.reconcile`: one process, its shards, one handler."""

import asyncio
import contextlib
import logging
import os
import random
from pathlib import Path
from typing import Final

import msgspec

from discluster.clock import Clock
from discluster.cluster.calls import ClusterCalls
from discluster.cluster.control import ControlLink
from discluster.cluster.flushing import Flushing
from discluster.cluster.footprint import cpu_seconds, resident
from discluster.cluster.gate import ClusterGate
from discluster.cluster.handlers import AnyPacketHandler, TellingHandler
from discluster.cluster.handlers.loading import call_methods, handling
from discluster.cluster.lease import ClusterLease
from discluster.cluster.progress import ProgressWatch
from discluster.cluster.reconcile import Running, decide
from discluster.cluster.sending import ShardCommands
from discluster.cluster.stored import Stored
from discluster.errors import StateError
from discluster.gateway.failing import HandlerFailures
from discluster.gateway.identity import Identity
from discluster.gateway.shard import Shard
from discluster.gateway.sockets import Transport
from discluster.gateway.urls import is_gateways
from discluster.messages import Assignment, ClusterReport, Lease, ShardView
from discluster.notify import Notifier
from discluster.plan import Session
from discluster.sessions import SessionFile, SessionSlot
from discluster.stays import ShardKey

log = logging.getLogger(__name__)

_PASS_AT_LEAST_EVERY: Final = 2.0
_CONTROLS_WORD: Final = 2.0


class _Hosted(msgspec.Struct):
    """A shard with what belongs to it here."""

    shard: Shard
    slot: SessionSlot
    running: Running
    task: asyncio.Task[None]


def _seen(hosted: _Hosted) -> Running:
    if hosted.running.state == "open" and hosted.shard.view().fatal is not None:
        return msgspec.structs.replace(hosted.running, state="over")
    return hosted.running


def _brought(assignment: Assignment, shard: int) -> Session | None:
    """The session that comes with ``shard``. Where it leads to is the word of another machine."""
    session = assignment.handover.get(shard)
    gateway = assignment.gateway_url
    if session is None or is_gateways(session.resume_url, gateway_url=gateway):
        return session
    told = "shard %d: %s is not where Discord's gateway is; it resumes at %s instead"
    log.warning(told, shard, session.resume_url, gateway, extra={"SHARD": shard})
    return msgspec.structs.replace(session, resume_url=gateway)


class ClusterDaemon:
    """Runs the shards of one assignment after the other."""

    def __init__(
        self,
        *,
        cluster: int,
        stored: Stored,
        lease: ClusterLease,
        control_socket: Path,
        identity: Identity,
        handler: AnyPacketHandler,
        failures: HandlerFailures,
        handler_name: str,
        sessions: SessionFile,
        transport: Transport,
        clock: Clock,
        rng: random.Random,
        notifier: Notifier,
        stall_limit: float,
        unacknowledged: int,
        flush_limit: float,
    ) -> None:
        self._cluster = cluster
        self._stored = stored
        self._lease = lease
        self._identity = identity
        self._handler = handler
        self._failures = failures
        self._handler_name = handler_name
        self._sessions = sessions
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._notifier = notifier
        self._progress = ProgressWatch(limit=stall_limit)
        self._unacknowledged = unacknowledged
        self._flushing = Flushing(handler=handler, limit=flush_limit, clock=clock)
        self._began = clock.monotonic()
        self._hosted: dict[int, _Hosted] = {}
        self._assignment: Assignment | None = None
        self._wake = asyncio.Event()
        self._sentence = ""
        self._gate = ClusterGate(lease=lease, clock=clock, rng=rng)
        self._calls = ClusterCalls(
            cluster=cluster, methods=call_methods(handler_name, handler), clock=clock
        )
        self._control = self._link(control_socket)

    def _link(self, path: Path) -> ControlLink:
        return ControlLink(
            path=path,
            report=self.report,
            on_assignment=self.assign,
            on_lease=self.leased,
            gate=self._gate,
            calls=self._calls,
            clock=self._clock,
            rng=self._rng,
        )

    def report(self) -> ClusterReport:
        """The full snapshot for CONTROL; lists every shard that may have a socket open."""
        return ClusterReport(
            cluster=self._cluster,
            pid=os.getpid(),
            generation=self._assignment.generation if self._assignment else 0,
            uptime=self._clock.monotonic() - self._began,
            handler=self._handler_name,
            shards=tuple(self._view(hosted) for _, hosted in sorted(self._hosted.items())),
            problem=self._gate.unleased,
            cpu_seconds=cpu_seconds(),
            memory=resident(),
        )

    def assign(self, assignment: Assignment) -> None:
        """CONTROL's word; an older one than is followed is out of date."""
        if self._assignment is None or assignment.generation >= self._assignment.generation:
            self._assignment = assignment
            self._wake.set()

    def leased(self, lease: Lease) -> None:
        """CONTROL's newest word on how long the shards may run, also if it is shorter."""
        before = self._lease.left
        self._lease.take(lease)
        left = self._lease.left
        if before == 0.0 < left:
            self._gate.renewed()
            self._wake.set()
        elif left < before:
            self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Runs until ``stop`` is set, then closes every shard with its session kept.

        Raises:
            HandlerError: the handler failed at an event, and is not to go on.
        """
        for complaint in self._sessions.complaints:
            log.error("%s", complaint, extra={"CLUSTER": self._cluster})
        self._failures.on_fatal(stop.set)
        await self._handler.start(self._cluster, self._commands())
        self._look_on_disk()
        async with asyncio.TaskGroup() as tasks:
            parts = [
                tasks.create_task(self._control.run()),
                tasks.create_task(self._reconcile_forever(tasks)),
                tasks.create_task(self._gate.run()),
                tasks.create_task(self._calls.run()),
                tasks.create_task(self._feed_watchdog()),
            ]
            self._notifier.ready()
            await stop.wait()
            self._notifier.stopping()
            parts[1].cancel()
            await asyncio.gather(*(self._close(shard) for shard in tuple(self._hosted)))
            await self._control.say_last()
            for part in parts:
                part.cancel()
        fatal = self._failures.fatal
        try:
            await self._handler.stop()
        except Exception:
            if fatal is None:
                raise
            log.exception("the handler failed to stop", extra={"CLUSTER": self._cluster})
        self._sessions.close()
        if fatal is not None:
            raise fatal

    def _commands(self) -> ShardCommands:
        def find(shard: int) -> Shard | None:
            hosted = self._hosted.get(shard)
            return hosted.shard if hosted is not None else None

        return ShardCommands(
            find=find,
            shard_count=lambda: self._assignment.shard_count if self._assignment else None,
            shards=lambda: self._assignment.shards if self._assignment else (),
            token=self._identity.token,
            intents=self._identity.intents,
            directory=self._sessions.directory,
            calls=self._calls,
        )

    # --- the loop ---

    async def _reconcile_forever(self, tasks: asyncio.TaskGroup) -> None:
        await self._gate.informed(_CONTROLS_WORD)
        while True:
            self._wake.clear()
            self._reconcile_once(tasks)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()

    def _pause(self) -> float:
        left = self._lease.left
        return min(left, _PASS_AT_LEAST_EVERY) if left > 0 else _PASS_AT_LEAST_EVERY

    def _reconcile_once(self, tasks: asyncio.TaskGroup) -> None:
        if not self._control.connected:
            self._look_on_disk()
        running = {shard: _seen(hosted) for shard, hosted in self._hosted.items()}
        decision = decide(self._assignment, running, unleased=self._gate.unleased)
        for shard in decision.close:
            self._hosted[shard].running = msgspec.structs.replace(running[shard], state="closing")
            tasks.create_task(self._close(shard))
        for shard in decision.open:
            self._open(shard, tasks)
        if decision.sentence != self._sentence:
            log.info("%s", decision.sentence, extra={"CLUSTER": self._cluster})
        self._sentence = decision.sentence
        if decision.open or decision.close:
            self._control.report_soon()
        for number, hosted in self._hosted.items():
            if (guilds := hosted.shard.view().guilds) is not None:
                hosted.slot.note_guilds(guilds)
            entered = self._assignment.entered.get(number) if self._assignment else None
            if entered is not None and hosted.running.state == "open":
                # What runs is the newest stay, also where CONTROL lost its record and stamps anew.
                hosted.slot.stamp(entered)
        self._notifier.status(self._status())

    def _open(self, number: int, tasks: asyncio.TaskGroup) -> None:
        assignment = self._assignment
        assert assignment is not None
        try:
            slot = self._sessions.slot(number, assignment.shard_count, self._kept_records())
        except StateError as error:
            log.warning("shard %d waits for others to be closed: %s", number, error)
            return
        slot.take_over(_brought(assignment, number), assignment.entered.get(number, 0))
        shard = Shard(
            shard=number,
            shard_count=assignment.shard_count,
            gateway_url=assignment.gateway_url,
            identity=self._identity,
            transport=self._transport,
            clock=self._clock,
            rng=self._rng,
            permits=self._control,
            sessions=slot,
            handler=handling(self._handler, self._failures),
            on_change=self._control.report_soon,
            gate=self._gate,
            unacknowledged=self._unacknowledged,
        )
        self._hosted[number] = _Hosted(
            shard,
            slot,
            Running(assignment.shard_count, assignment.gateway_url),
            tasks.create_task(shard.run(), name=f"shard-{number}"),
        )

    def _kept_records(self) -> frozenset[ShardKey]:
        """Whose records no other shard may get: of those that run here, and that shall."""
        assert self._assignment is not None
        count = self._assignment.shard_count
        running = {(n, hosted.running.shard_count) for n, hosted in self._hosted.items()}
        return frozenset({*running, *((number, count) for number in self._assignment.shards)})

    async def _close(self, number: int) -> None:
        hosted = self._hosted[number]
        await hosted.shard.stop(keep_session=True)
        await hosted.task
        await self._flushing.flush(number)
        if self._hosted.get(number) is not hosted:
            return  # it was being closed already when the cluster was stopped
        # Only now nothing of it can reach Discord or the handler any more.
        del self._hosted[number]
        self._gate.left(number)
        self._wake.set()
        self._control.report_soon()

    # --- what is told ---

    def _view(self, hosted: _Hosted) -> ShardView:
        view = hosted.shard.view()
        if view.state == "closing" and (unleased := self._gate.unleased) is not None:
            return msgspec.structs.replace(view, problem=unleased)
        denial = self._control.denials.get(view.shard)
        if denial is not None and view.state == "waiting":
            return msgspec.structs.replace(view, problem=denial)
        told = self._told(view.shard)
        if told is None or (view.problem is not None and view.state != "ready"):
            return view
        # Of a shard that is ready, the handler knows the reason for what the shard sees.
        problem = told if view.problem is None else f"{told}; {view.problem}"
        return msgspec.structs.replace(view, problem=problem)

    def _told(self, shard: int) -> str | None:
        handler = self._handler
        return handler.problem(shard) if isinstance(handler, TellingHandler) else None

    def _status(self) -> str:
        views = [hosted.shard.view() for hosted in self._hosted.values()]
        ready = sum(view.state == "ready" for view in views)
        told = [f"{ready} of {len(views)} shards ready"]
        if self._assignment is None:
            told = ["no assignment: CONTROL does not plan this cluster"]
        unleased = self._gate.unleased
        if unleased is not None:
            told.append(unleased)
        elif fatal := next((view for view in views if view.fatal is not None), None):
            told.append(fatal.problem or f"shard {fatal.shard} was closed with {fatal.fatal}")
        elif held := [view for view in views if view.state == "held"]:
            told.append(f"{len(held)} held back: {held[0].problem}")
        if unleased is None and not self._control.connected:
            told.append("CONTROL is away")
        told += filter(None, (self._failures.summary(), self._handler.summary()))
        return "; ".join(told)

    async def _feed_watchdog(self) -> None:
        """Feeds it only while every shard shows signs of life: then a hang is systemd's to end."""
        interval = self._notifier.watchdog_interval
        while interval is not None:
            alive = {
                number: hosted.shard.progress
                for number, hosted in self._hosted.items()
                if hosted.shard.view().state not in ("idle", "fatal")
            }
            stalled = self._progress.stalled(alive, self._clock.monotonic())
            if stalled:
                log.error("shards %s show no sign of life; the watchdog is not fed", stalled)
            else:
                self._notifier.watchdog()
            await self._clock.sleep(interval)

    # --- what is on disk ---

    def _look_on_disk(self) -> None:
        """What CONTROL would say if it was there. Without a lease only: one that holds came from
        CONTROL itself, and so did the assignment.
        """
        if self._lease.may_run():
            return
        assignment, lease = self._stored.read()
        if assignment is not None and assignment != self._assignment:
            self.assign(assignment)
        if lease is not None:
            self.leased(lease)
