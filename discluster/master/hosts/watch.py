# SPDX-License-Identifier: Apache-2.0
"""MASTER's eye on its hosts: who is silent, lost, back or cut off, and which clusters crash."""

from collections.abc import Callable
from typing import Final

import msgspec

from discluster.clock import Clock, in_words
from discluster.master.hosts.book import HostBook
from discluster.master.hosts.failures import Crashed, crashed, cut_off, failed_after
from discluster.master.hosts.lost import (
    Circumstances,
    Losses,
    away_after,
    keeping_after,
    losses,
    owners,
)
from discluster.master.hosts.witnesses import panel_after
from discluster.master.ownership import Advance
from discluster.master.records.events import EventLog
from discluster.master.rhythm import TICK
from discluster.master.settings import MasterSettings
from discluster.plan import Away, Failed, FleetPlan, Recovery

_ASLEEP: Final = 0.01
_UNFIT_FOR: Final = 600.0
_UNFIT_AT_MOST: Final = 7200.0


class Watch:
    """Looks in every pass, before anything is planned, and writes what it finds into the plan."""

    def __init__(
        self,
        *,
        book: HostBook,
        events: EventLog,
        clock: Clock,
        boottime: Callable[[], float],
        settings: Callable[[], MasterSettings],
        lease: Callable[[], float],
        asserted: Callable[[], frozenset[str]],
    ) -> None:
        """``boottime``: seconds, on a clock that counts while the machine sleeps. ``lease``: the
        longest that any host may go by. ``asserted``: hosts that are off, as the operator says.
        """
        self._book = book
        self._events = events
        self._clock = clock
        self._boottime = boottime
        self._settings = settings
        self._lease = lease
        self._asserted = asserted
        self._began = clock.monotonic()
        self._looked = (self._began, boottime())
        # How far the one clock is ahead of the other, at most.
        self._ahead = self._looked[1] - self._began
        self._thorough_at = self._began
        self._owners: tuple[FleetPlan | None, frozenset[str]] = (None, frozenset())
        self._stranded: dict[str, float] = {}
        self._times_unfit: dict[str, int] = {}
        self.losses = Losses()
        self.crashed: tuple[Crashed, ...] = ()

    def look(self, fleet: FleetPlan | None) -> FleetPlan | None:
        """The plan with what is to be written down of its hosts; its generation stays."""
        self._allow_for_standstill()
        self._drop_silent()
        if fleet is None:
            return None
        found = losses(self._circumstances(fleet))
        self._tell(fleet, found)
        self.losses = found
        present = self._book.connected - self._book.unattended
        asserted, wall = self._asserted(), self._clock.wall()
        away = away_after(fleet, found, connected=present, wall=wall, asserted=asserted)
        failed = fleet.failed
        if self._clock.monotonic() >= self._thorough_at:
            self._thorough_at = self._clock.monotonic() + TICK
            away = self._unfit(fleet, away)
            failed = self._failed(fleet)
        recovery = _without(fleet.recovery, asserted)
        keeping = keeping_after(fleet, self._book.reports(), asserted=asserted)
        after = {"away": away, "failed": failed, "recovery": recovery, "keeping": keeping}
        if all(getattr(fleet, name) == told for name, told in after.items()):
            return fleet
        return msgspec.structs.replace(fleet, **after)

    def name_witnesses(self, step: Advance) -> Advance:
        """``step`` with the panel that its plan shall name."""
        fleet = step.fleet
        panel = panel_after(
            fleet,
            self._book.reports(),
            self._book.witness_addresses(),
            owners=self._owners_of(fleet),
            lost=[host for host, away in fleet.away.items() if away.state == "lost"],
        )
        same = panel.witnesses == fleet.witnesses
        if same and panel.before == fleet.panel_before:
            return step
        if panel.witnesses.keys() != fleet.witnesses.keys():
            names = ", ".join(sorted(panel.witnesses)) or "none"
            self._events.record("host", f"the witnesses of MASTER are {names} now")
        fleet = msgspec.structs.replace(
            fleet,
            witnesses=panel.witnesses,
            panel_before=panel.before,
            # What hosts are told changes, so it is another plan.
            generation=fleet.generation + (0 if same or step.changed else 1),
        )
        return msgspec.structs.replace(step, fleet=fleet, changed=True)

    def unattended(self, fleet: FleetPlan, host: str) -> FleetPlan:
        """``host`` said goodbye, and its clusters run on: to be stored before it is answered."""
        away = Away(state="unattended", at=self._clock.wall())
        return msgspec.structs.replace(fleet, away=fleet.away | {host: away})

    @property
    def next_change(self) -> float:
        """Seconds until somebody will be lost, or is back."""
        found = self.losses
        return max(0.01, min([TICK, *found.due.values(), *found.returning.values()]))

    def _allow_for_standstill(self) -> None:
        """What nobody could hear is held against nobody."""
        before, booted, now = self._clock.monotonic(), self._boottime(), self._clock.monotonic()
        passed, really = now - self._looked[0], booted - self._looked[1]
        self._looked = (now, booted)
        # A process may be held up between the readings: what it slept is at least this.
        asleep = booted - now - self._ahead > _ASLEEP
        self._ahead = booted - before if asleep else min(self._ahead, booted - before)
        late = really - TICK
        if asleep or late > self._settings().lease_margin / 2:
            self._book.stood_still(max(0.0, passed - TICK), asleep=asleep)
        if late > max(TICK, self._settings().lease_margin / 2):
            words = (
                f"MASTER stood still for {in_words(late)}; no host's silence counts for that time"
            )
            self._events.record("master", words, severity="warning")

    def _drop_silent(self) -> None:
        lease = self._settings().lease
        for connection in self._book.silent_connections(lease):
            connection.close(f"nothing was heard for {lease:g} s")

    def _circumstances(self, fleet: FleetPlan) -> Circumstances:
        settings, lease = self._settings(), self._lease()
        return Circumstances(
            fleet=fleet,
            owners=self._owners_of(fleet),
            reports=self._book.reports(),
            hosts=self._book.sights(lease=settings.lease),
            lease=lease,
            margin=settings.lease_margin,
            grace=max(settings.start_wait, lease + settings.lease_margin),
            uptime=self._clock.monotonic() - self._began,
            return_wait=settings.return_wait,
            asserted=self._asserted(),
        )

    def _owners_of(self, fleet: FleetPlan) -> frozenset[str]:
        if self._owners[0] is not fleet:
            self._owners = (fleet, owners(fleet))
        return self._owners[1]

    def _tell(self, fleet: FleetPlan, found: Losses) -> None:
        for host in found.lost:
            before = fleet.away.get(host)
            if host not in self.losses.lost and (before is None or before.state != "lost"):
                why = (
                    "the operator says that it is off"
                    if host in self._asserted()
                    else f"it was silent for a lease and {self._settings().lease_margin:g} s"
                )
                words = f"{host} is lost: {why}; its shards are given away"
                self._events.record("host", words, host=host, severity="error")
        for host, why in found.stuck.items():
            if host not in self.losses.stuck:
                words = f"{host} is silent, but its shards stay its own: {why}"
                self._events.record("host", words, host=host, severity="error")
        for host in found.back:
            wait = in_words(self._settings().return_wait)
            words = f"{host}, which was lost, has been back for {wait}: it gets shards again"
            self._events.record("host", words, host=host)

    def _unfit(self, fleet: FleetPlan, away: dict[str, Away]) -> dict[str, Away]:
        """``away``, with hosts that do not reach Discord for a while, and without those that may
        try again.
        """
        now, wall = self._clock.monotonic(), self._clock.wall()
        after = {h: a for h, a in away.items() if a.until is None or wall < a.until}
        for host in away.keys() - after.keys():
            self._events.record("host", f"{host} gets shards again, to see", host=host)
        reports = self._book.reports()
        stranded = cut_off(reports, self._book.connected)
        self._stranded = {host: self._stranded.get(host, now) for host in stranded}
        for host in (self._times_unfit.keys() & reports.keys()) - stranded:
            if any(s.state == "ready" for c in reports[host].clusters for s in c.shards):
                del self._times_unfit[host]
        patience = self._settings().unreachable_after
        for host, since in self._stranded.items():
            if now - since >= patience and host not in after:
                after[host] = self._unfit_now(fleet, host, wall)
        return after

    def _unfit_now(self, fleet: FleetPlan, host: str, wall: float) -> Away:
        times = self._times_unfit.get(host, 0)
        self._times_unfit[host] = times + 1
        pause = min(_UNFIT_FOR * 2**times, _UNFIT_AT_MOST)
        shards = tuple(sorted(s for s, grant in fleet.granted.items() if grant.host == host))
        words = (
            f"{host} does not reach Discord, others do: none of its {len(shards)} shards was ready"
            f" for {in_words(self._settings().unreachable_after)}; it gets none for"
            f" {in_words(pause)}"
        )
        self._events.record("host", words, host=host, severity="error")
        return Away(state="unfit", at=wall, until=wall + pause, shards=shards)

    def _failed(self, fleet: FleetPlan) -> dict[int, Failed]:
        before = {cluster.cluster for cluster in self.crashed}
        self.crashed = tuple(crashed(fleet, self._book.reports(), self._book.connected))
        for cluster in self.crashed:
            if cluster.cluster not in before:
                self._events.record(
                    "cluster",
                    cluster.in_words(),
                    host=cluster.host,
                    cluster=cluster.cluster,
                    severity="error",
                )
        return failed_after(fleet, self.crashed, wall=self._clock.wall())


def _without(recovery: Recovery | None, asserted: frozenset[str]) -> Recovery | None:
    """Hosts that are off for good do not tell any more what they ran."""
    if recovery is None or not asserted or asserted.isdisjoint(recovery.hosts):
        return recovery
    hosts = tuple(host for host in recovery.hosts if host not in asserted)
    return msgspec.structs.replace(recovery, hosts=hosts)
