# SPDX-License-Identifier: Apache-2.0
"""Identify permits of the whole fleet: requests of the hosts in, permits and refusals out."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from discluster.clock import Clock, at_most
from discluster.console import (
    HostAllowance,
    IdentifyOverview,
    IdentifyStatus,
    LaneStatus,
    ResumeAnswer,
    ResumeRequest,
    StoppedShard,
    WaitingShard,
)
from discluster.master.desk import DiscordDesk
from discluster.master.hosts.book import HostBook, HostConnection
from discluster.master.identify.coldstart import ColdStart, has_begun
from discluster.master.identify.lanes import Lanes
from discluster.master.identify.ledger import NO_BUDGET
from discluster.master.records.events import EventLog
from discluster.master.rhythm import TICK, rest
from discluster.messages import (
    AllowanceReport,
    HostReport,
    Permit,
    PermitDenied,
    PermitMessage,
    PermitRequest,
    PermitReturned,
    PermitUsed,
)
from discluster.plan import FleetPlan, SlotClaim

_DENIAL_PAUSE: Final = 15.0


class _Denied(NamedTuple):
    """A shard that was sent away, and asks again. ``at``: monotonic seconds."""

    host: str
    reason: str
    at: float


class PermitOffice:
    """The thin loop around :class:`Lanes`: brings them the time, the budget, the guard and who is
    away.
    """

    def __init__(
        self,
        *,
        lanes: Lanes,
        interval: float,
        discord: DiscordDesk,
        book: HostBook,
        events: EventLog,
        clock: Clock,
    ) -> None:
        """``interval``: seconds between two identifies of one lane."""
        self._lanes = lanes
        self._interval = interval
        self._ledger = discord.ledger
        self._book = book
        self._events = events
        self._clock = clock
        self._fleet: FleetPlan | None = None
        self._shards: dict[str, int] = {}  # of each host in the plan
        self._owners: frozenset[str] = frozenset()
        self._start = ColdStart()
        self._refusal: str | None = None
        self._denied: dict[int, _Denied] = {}
        self._endings: dict[int, str] = {}
        self._present: set[str] = set()  # hosts that told their allowance over this connection
        self._due = asyncio.Event()

    def follow(self, fleet: FleetPlan | None) -> None:
        """The plan in force."""
        if fleet is None:
            return
        if self._fleet is None:
            self._start.expect(fleet)
        elif self._free_of_claims(self._fleet, fleet):
            # Such a host may have identified until its lease ended, a moment ago.
            self._lanes.rest(self._clock.monotonic() + self._interval)
        self._fleet = fleet
        self._shards = {
            host: sum(len(cluster.shards) for cluster in entry.clusters.values())
            for host, entry in fleet.hosts.items()
        }
        self._owners = frozenset(grant.host for grant in fleet.granted.values())
        self._lanes.resize(fleet.max_concurrency)

    async def run(self, blocked: Callable[[], str | None]) -> None:
        """Grants when something was asked or has changed, and when a lane is free, until cancelled.
        ``blocked``: why nobody may dial, in words.
        """
        while True:
            self._due.clear()
            began = self._clock.monotonic()
            self.grant(blocked=blocked())
            await rest(began, clock=self._clock)
            chance = self.next_chance()
            pause = TICK if chance is None else min(TICK, chance)
            await at_most(pause, self._due.wait(), clock=self._clock)

    def look(self) -> None:
        """Something changed that permits depend on."""
        self._due.set()

    def host_connected(self, host: str) -> None:
        """Whatever it was sent before does not arrive any more."""
        self._present.discard(host)

    def reported(self, report: HostReport) -> None:
        """Remembers what the sessions of shards ended with, for whom the guard stops; and at a cold
        start, who needs no permit.
        """
        for cluster in report.clusters:
            for shard in cluster.shards:
                if not self._start.over and has_begun(shard):
                    self._start.there(shard.shard, self._clock.monotonic())
                if shard.state == "backoff" and shard.problem:
                    self._endings[shard.shard] = shard.problem

    def said(self, host: str, message: PermitMessage | AllowanceReport) -> None:
        """What a host asks for, or did."""
        self.look()
        if isinstance(message, AllowanceReport):
            self._ledger.host_said(host, message, first=host not in self._present)
            self._present.add(host)
            return
        self._denied.pop(message.shard, None)
        if not isinstance(message, PermitReturned):
            self._start.there(message.shard, self._clock.monotonic())
        if isinstance(message, PermitRequest):
            self._lanes.request(message.shard, host)
        elif isinstance(message, PermitUsed):
            now = self._clock.monotonic()
            counted = self._lanes.used(message.shard, host, now, at=message.at)
            self._ledger.used(message.shard, counted=counted, alone=message.alone)
        elif self._lanes.returned(message.shard, host):
            self._ledger.returned(message.shard)

    def host_gone(self, host: str) -> None:
        """What it asked for is void; what it was granted may be used unseen, and stays counted."""
        self._lanes.host_lost(host)
        self._present.discard(host)
        self._denied = {s: denied for s, denied in self._denied.items() if denied.host != host}

    def grant(self, *, blocked: str | None) -> None:
        """Hands out what may be handed out now. ``blocked``: why nobody may dial, in words."""
        self._lanes.set_away(self._away_slots())
        by_host = {connection.host: connection for connection in self._book.connections}
        if waiting := self._lanes.waiting:
            for told in self._ledger.look(waiting, self._endings):
                hint = "'disclusterctl identify resume' lets go"
                self._events.record("identify", f"{told}; {hint}", severity="error")
        self._refuse(blocked or self._ledger.refusal(self._present))
        for shard, host in sorted(waiting.items()):
            if (reason := self._refusal or self._ledger.hold(shard)) is not None:
                self._deny(shard, by_host[host], reason)
        self._allow(by_host)
        if self._refusal is not None:
            return
        grants = self._lanes.grants(
            self._clock.monotonic(),
            self._clock.wall(),
            limit=self._ledger.to_spend(),
            below=self._held_back(),
        )
        self._ledger.granted([grant.shard for grant in grants])
        for grant in grants:
            permit = Permit(shard=grant.shard, since=grant.since, until=grant.until)
            by_host[grant.host].send(permit)

    def _refuse(self, reason: str | None) -> None:
        """What Discord or the guard have against it is an event of its own."""
        spent = reason is not None and reason.startswith(NO_BUDGET)
        if spent and self._refusal is None:
            self._events.record("identify", f"no permit is given: {reason}", severity="warning")
        self._refusal = reason

    def _held_back(self) -> int | None:
        """Shards from this one on wait for others at a cold start."""
        lowest = min(self._lanes.waiting, default=None)
        if lowest is None or self._fleet is None or self._start.over:
            return None
        return self._start.limit(
            lowest,
            self._clock.monotonic(),
            max_concurrency=self._fleet.max_concurrency,
            present=self._book.connected,
        )

    def _deny(self, shard: int, connection: HostConnection, reason: str) -> None:
        self._lanes.dismiss(shard)
        self._denied[shard] = _Denied(connection.host, reason, self._clock.monotonic())
        connection.send(PermitDenied(shard=shard, reason=reason, retry_after=_DENIAL_PAUSE))

    def _allow(self, by_host: Mapping[str, HostConnection]) -> None:
        """Tells hosts what they may spend while MASTER is away, where that must change."""
        if self._fleet is None:
            return
        planned = {host for host, shards in self._shards.items() if shards}
        able = planned | self._owners | self._present | frozenset(self._fleet.keeping)
        self._ledger.forget(self._ledger.promises.keys() - able)
        due = self._ledger.allow(
            {host: self._shards.get(host, 0) for host in self._present & by_host.keys()},
            all_shards=self._fleet.shard_count,
            demand=len(self._waiting()),
        )
        for host, allowance in due.items():
            by_host[host].send(allowance)

    def next_chance(self) -> float | None:
        """Seconds until :meth:`grant` may hand out something; None if nobody waits."""
        return self._lanes.next_chance(self._clock.monotonic())

    # --- what operators see and do ---

    def status(self) -> IdentifyStatus:
        """For ``disclusterctl status``."""
        ledger = self._ledger
        budget, now, closed = ledger.budget, ledger.now(), ledger.closed
        return IdentifyStatus(
            max_concurrency=self._fleet.max_concurrency if self._fleet else 1,
            waiting=len(self._waiting()),
            total=budget.total if budget else None,
            remaining=budget.remaining if budget else None,
            reset_after=max(0.0, budget.resets_at - now) if budget else None,
            reserve=ledger.reserve,
            reserve_is_free=ledger.reserve_is_free,
            blocked=self._refusal,
            stopped=tuple(
                StoppedShard(shard=shard, age=now - stop.since, why=stop.why)
                for shard, stop in sorted(ledger.stopped.items())
            ),
            closed=closed.why if closed else None,
        )

    def overview(self) -> IdentifyOverview:
        """For ``disclusterctl identify status``."""
        waiting = sorted(self._waiting().items())
        return IdentifyOverview(
            identify=self.status(),
            spendable=self._ledger.to_spend(),
            again=self._ledger.again,
            waste=self._ledger.waste,
            lanes=tuple(
                LaneStatus(lane=lane, waiting=count, granted=granted, free_in=free_in)
                for lane, count, granted, free_in in self._lanes.busy(self._clock.monotonic())
            ),
            waiting=tuple(
                WaitingShard(shard=shard, host=host, reason=reason)
                for shard, (host, reason) in waiting
            ),
            allowances=tuple(
                HostAllowance(
                    host=host,
                    present=host in self._present,
                    limit=promise.limit,
                    left=promise.left,
                    daily=promise.daily,
                )
                for host, promise in sorted(self._ledger.promises.items())
            ),
        )

    def resume(self, request: ResumeRequest) -> ResumeAnswer:
        """``disclusterctl identify resume``."""
        done = self._ledger.release(request.shards, reserve=request.reserve)
        if done:
            self._events.record("order", f"the operator resumes identifying: {' '.join(done)}")
        return ResumeAnswer(done=done)

    def _waiting(self) -> dict[int, tuple[str, str | None]]:
        """Shards that want to identify: for whom, and why they were sent away, if they were."""
        since = self._clock.monotonic() - 2 * _DENIAL_PAUSE
        sent_away = {s: (d.host, d.reason) for s, d in self._denied.items() if d.at >= since}
        return {**sent_away, **{s: (host, None) for s, host in self._lanes.waiting.items()}}

    def _free_of_claims(self, before: FleetPlan, after: FleetPlan) -> frozenset[str]:
        """Hosts of whose windows we kept clear, and need to no more."""
        if before.slots is after.slots:
            return frozenset()
        gone = before.slots.keys() - after.slots.keys()
        return frozenset(gone) - self._book.paced_by_us(self._interval)

    def _away_slots(self) -> list[SlotClaim]:
        if self._fleet is None:
            return []
        # What a host used of its slot just before it connected still counts.
        ours = self._book.paced_by_us(self._interval)
        away = [claims for host, claims in self._fleet.slots.items() if host not in ours]
        return [claim for claims in away for claim in claims]
