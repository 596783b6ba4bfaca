# SPDX-License-Identifier: Apache-2.0
"""Identify permits of the whole fleet: requests of the hosts in, permits and refusals out."""

from typing import Final

from discluster.clock import Clock
from discluster.console import IdentifyStatus
from discluster.master.desk import DiscordDesk
from discluster.master.hosts import HostBook
from discluster.master.identify import Lanes
from discluster.master.ownership import identify_slots, paced_hosts
from discluster.messages import (
    Permit,
    PermitDenied,
    PermitMessage,
    PermitRequest,
    PermitReturned,
    PermitUsed,
)
from discluster.plan import FleetPlan, IdentifySlots

_DENIAL_PAUSE: Final = 15.0


class PermitOffice:
    """The thin loop around :class:`Lanes`: brings them the time, the budget and who is away."""

    def __init__(
        self, *, lanes: Lanes, interval: float, discord: DiscordDesk, book: HostBook, clock: Clock
    ) -> None:
        """``interval``: seconds between two identifies of one lane."""
        self._lanes = lanes
        self._interval = interval
        self._discord = discord
        self._book = book
        self._clock = clock
        self._fleet: FleetPlan | None = None
        self._paced: tuple[str, ...] = ()

    @property
    def paced(self) -> tuple[str, ...]:
        """Hosts that have a slot of their own, for when they are out of touch."""
        return self._paced

    def follow(self, fleet: FleetPlan | None) -> None:
        """The plan in force."""
        self._fleet = fleet
        self._paced = paced_hosts(fleet) if fleet is not None else ()
        self._lanes.resize(fleet.max_concurrency if fleet is not None else 1)

    def said(self, host: str, message: PermitMessage) -> None:
        """What a host asks for, or did."""
        if isinstance(message, PermitRequest):
            self._lanes.request(message.shard, host)
        elif isinstance(message, PermitUsed):
            # Discord's own count may have come since the last pass.
            self._lanes.budget = self._discord.budget
            self._lanes.used(message.shard, self._clock.monotonic())
            self._discord.spent(self._lanes.budget)
        elif isinstance(message, PermitReturned):
            self._lanes.returned(message.shard)

    def host_gone(self, host: str) -> None:
        """What it asked for is void; what it was granted may be used unseen."""
        self._lanes.host_lost(host, self._clock.monotonic())

    def grant(self, *, blocked: str | None) -> None:
        """Hands out what may be handed out now. ``blocked``: why nobody may dial, in words."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        self._lanes.blocked = blocked
        self._lanes.budget = self._discord.budget
        self._lanes.set_away(self._away_slots())
        by_host = {connection.host: connection for connection in self._book.connections}
        if (refusal := self._lanes.refusal(wall)) is not None:
            for waiting in self._lanes.dismiss():
                if waiting.host in by_host:
                    by_host[waiting.host].send(
                        PermitDenied(shard=waiting.shard, reason=refusal, retry_after=_DENIAL_PAUSE)
                    )
            return
        for grant in self._lanes.grants(now, wall):
            by_host[grant.host].send(Permit(shard=grant.shard))

    def next_chance(self) -> float | None:
        """Seconds until :meth:`grant` may hand out something; None if nobody waits."""
        return self._lanes.next_chance(self._clock.monotonic(), self._clock.wall())

    def status(self) -> IdentifyStatus:
        """For operators."""
        lanes, budget, wall = self._lanes, self._lanes.budget, self._clock.wall()
        return IdentifyStatus(
            max_concurrency=self._fleet.max_concurrency if self._fleet else 1,
            waiting=lanes.waiting,
            total=budget.total if budget else None,
            remaining=budget.remaining if budget else None,
            reset_after=max(0.0, budget.resets_at - wall) if budget else None,
            blocked=lanes.refusal(wall),
        )

    def _away_slots(self) -> list[IdentifySlots]:
        if self._fleet is None:
            return []
        # What a host used of its slot just before it connected still counts.
        ours = self._book.paced_by_us(self._interval)
        return [
            identify_slots(self._fleet, host, self._paced)
            for host in self._paced
            if host not in ours
        ]
