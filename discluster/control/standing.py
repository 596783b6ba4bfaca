# SPDX-License-Identifier: Apache-2.0
"""Whether this host's clusters may dial Discord: by what they report, and by MASTER's word.

Nothing of it is stored: a rejection is in force for as long as a cluster reports it. A cluster that
systemd restarted reports nothing yet and would dial with what Discord rejected a moment ago; that
it was systemd and not the operator who restarted it, the unit's count of restarts tells.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from discluster.clearance import Clearing, rejection
from discluster.clock import Clock
from discluster.control.clusters import ClusterConnection
from discluster.control.supervisor import UnitView
from discluster.control.waiting import Alarm
from discluster.messages import Clearance, ClearanceCase, ClusterReport, Halt, Message

log = logging.getLogger(__name__)

MASTERS_WORD: Final = 2.0  # seconds that a new CONTROL waits for it before it says that all is well


class _Gone(msgspec.Struct, frozen=True):
    """A cluster that ended after Discord had rejected one of its shards. ``restarts``: its unit's
    count before.
    """

    restarts: int
    rejection: str


class Standing:
    """Gathers rejections, tells the clusters, and lets one shard of all try after a 4003."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._clearing = Clearing[int](clear=self._clear, release=self._release)
        self._connections: dict[int, ClusterConnection] = {}
        self._own: str | None = None
        self._of_fleet: str | None = None
        self._gone: dict[int, _Gone] = {}
        self._unsettled: set[int] = set()
        self._speaks_at = clock.monotonic() + MASTERS_WORD
        self._alarm = Alarm(clock)

    @property
    def rejected(self) -> str | None:
        """What Discord rejected on this host, in words."""
        return self._own

    @property
    def reason(self) -> str | None:
        """Why nobody on this host may dial; None: everybody may."""
        return self._own or self._of_fleet

    # --- clusters ---

    def introduced(self, connection: ClusterConnection) -> None:
        """It hears how things stand after the next look at the units."""
        self._unsettled.add(connection.cluster)

    def gone(self, report: ClusterReport, unit: UnitView | None) -> None:
        """The cluster that made this last report is gone, or has lost its connection."""
        self._unsettled.discard(report.cluster)
        if (text := rejection(report.shards)) is not None:
            self._gone[report.cluster] = _Gone(unit.restarts if unit else 0, text)
        for shard in [s for s, c in self._connections.items() if c.cluster == report.cluster]:
            self._connections.pop(shard)
            self._clearing.leave(shard)
        self._alarm.ring()

    def case(self, connection: ClusterConnection, message: ClearanceCase) -> None:
        """How it stands with a cluster's canary."""
        shard = message.shard
        if message.state == "asks":
            self._connections[shard] = connection
            self._clearing.ask(shard)
        elif message.state == "accepted":
            self._clearing.accepted(shard)
        else:
            self._clearing.failed(shard, self._clock.monotonic())
        self._alarm.ring()

    @property
    def unsettled(self) -> frozenset[int]:
        """Clusters that came since the last look at the units began."""
        return frozenset(self._unsettled)

    def settle(
        self, came: Collection[int], units: Mapping[int, UnitView], planned: Collection[int]
    ) -> None:
        """A look at the units ended; ``came``: :attr:`unsettled` when it began."""
        for cluster in [c for c in self._gone if c in came or c not in planned]:
            unit = units.get(cluster)
            if unit is None or unit.restarts <= self._gone[cluster].restarts:
                del self._gone[cluster]  # whoever restarted it, it was not the supervisor
        self._unsettled -= set(came)

    def tell(
        self, reports: Mapping[int, ClusterReport], connections: Iterable[ClusterConnection]
    ) -> bool:
        """Derives what is rejected here, and tells each cluster what it was not told yet. Whether
        MASTER should hear of a change.
        """
        before, self._own = self._own, self._rejection(reports)
        if self._own != before and self._own is not None:
            log.error("no cluster of this host dials any more: %s", self._own)
        halt = Halt(reason=self.reason)
        for connection in connections:
            lifts = halt.reason is None
            wait = lifts and (connection.cluster in self._unsettled or self._is_early())
            if connection.told != halt and not wait:
                connection.told = halt
                connection.send(halt)
        if self._own != before:
            self._alarm.ring()
        return self._own != before

    # --- MASTER ---

    def without_master(self) -> None:
        """There is none to wait for."""
        self._speaks_at = float("-inf")

    def master_connected(self, send: Callable[[Message], None]) -> None:
        self._clearing.connect(lambda shard, state: send(ClearanceCase(shard=shard, state=state)))

    def master_lost(self) -> None:
        """What it said last stays in force."""
        self._clearing.disconnect(self._clock.monotonic())
        self._alarm.ring()

    def master_said(self, message: Clearance | Halt) -> None:
        if isinstance(message, Halt):
            self._of_fleet = message.reason
            self.without_master()
        elif message.shard is None:
            self._clearing.released()
        else:
            self._clearing.cleared(message.shard, self._clock.monotonic())
        self._alarm.ring()

    # --- the loop ---

    async def run(self, on_patience_over: Callable[[], None]) -> None:
        """Names one canary after the other. ``on_patience_over``: :meth:`tell` says more now."""
        while True:
            early = self._is_early()
            now = self._clock.monotonic()
            pause = None if self.reason is not None else self._clearing.step(now)
            if early:
                left = self._speaks_at - now
                pause = left if pause is None else min(left, pause)
            await self._alarm.wait(pause)
            if early and not self._is_early():
                on_patience_over()

    def _is_early(self) -> bool:
        return self._clock.monotonic() < self._speaks_at

    def _rejection(self, reports: Mapping[int, ClusterReport]) -> str | None:
        found = (rejection(report.shards) for _, report in sorted(reports.items()))
        told = next((text for text in found if text is not None), None)
        return told or next((gone.rejection for gone in self._gone.values()), None)

    def _clear(self, shard: int) -> None:
        log.info("shard %d tries for all whether Discord takes the token", shard)
        self._send(shard, Clearance(shard=shard))

    def _release(self, shards: Sequence[int]) -> None:
        log.info("Discord takes the token: all clusters may dial")
        for shard in shards:
            self._send(shard, Clearance(shard=None))

    def _send(self, shard: int, message: Clearance) -> None:
        if (connection := self._connections.get(shard)) is not None:
            connection.send(message)
