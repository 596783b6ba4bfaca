# SPDX-License-Identifier: Apache-2.0
"""How CONTROL leaves: alone, with its clusters running on, or with the machine that goes down.

Units are ordered so that clusters stop first, then CONTROL, then MASTER, then the network. So no
inhibitor of logind's is needed to hand sessions over: while the clusters save them CONTROL reports
that the host is leaving, MASTER withdraws its shards and grants each to another host as soon as it
is reported released, and CONTROL's own stop waits until that is done.
"""

from typing import Final, Protocol

import msgspec

from discluster.control.reconcile import Assign, Decision, Observed, Settle, Step, Stop
from discluster.control.supervisor import Supervisor
from discluster.errors import SupervisorError
from discluster.plan import HostPlan

_PATIENCE: Final = 2.0
_HANDING_OVER_PATIENCE: Final = 10.0
"""Seconds; TimeoutStopSec= of discluster-control.service is 20."""


class Link(Protocol):
    """What is needed here of the connection to MASTER."""

    @property
    def connected(self) -> bool: ...

    async def say_goodbye(self, patience: float) -> bool: ...


class Farewell:
    """Whether the host is leaving: from the first sign that its machine goes down, or, where the
    clusters end with CONTROL, from CONTROL's stop. It may come to nothing, and is over then.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._going_down = False
        self._control_stops = False
        self._acknowledged = False

    @property
    def unattended(self) -> bool:
        """Whether MASTER knows that the clusters run on without CONTROL."""
        return self._acknowledged and not self.leaving

    @property
    def leaving(self) -> bool:
        ends_with_control = not self._supervisor.clusters_outlive_control
        return self._going_down or (self._control_stops and ends_with_control)

    async def look(self) -> None:
        """Asks the supervisor. After the units were asked for: what shows them as stopped by the
        shutdown then shows the shutdown too.

        Raises:
            SupervisorError: it cannot be asked.
        """
        self._going_down = await self._supervisor.going_down()

    async def begin(self) -> None:
        """CONTROL was told to stop; from now on :attr:`leaving` says with what."""
        self._control_stops = True
        try:
            await self.look()
        except SupervisorError:
            pass  # what was seen last counts

    def confine(self, decision: Decision, plan: HostPlan | None, observed: Observed) -> Decision:
        """What of ``decision`` may still be done now."""
        if not self.leaving:
            return decision
        # Who shuts a machine down stops its units, and would refuse us a start or a stop.
        return last_steps(
            decision, plan, observed, stop=not self._supervisor.clusters_outlive_control
        )

    async def take_leave(self, link: Link | None) -> str:
        """Says goodbye and waits, within bounds, for MASTER's answer; what came of it, in words."""
        leaving = self.leaving
        fate = "the clusters stop" if leaving else "the clusters run on until their lease ends"
        if link is None or not link.connected:
            return f"MASTER is away; {fate}"
        if not await link.say_goodbye(_HANDING_OVER_PATIENCE if leaving else _PATIENCE):
            return f"MASTER did not acknowledge it; {fate}"
        self._acknowledged = True
        if leaving:
            return "MASTER knows that this host goes down; its shards are others', or wait for it"
        return "MASTER knows that this host is unattended; the clusters run on"


def last_steps(
    decision: Decision, plan: HostPlan | None, observed: Observed, *, stop: bool
) -> Decision:
    """The steps of a host that is leaving: it starts nothing, and lets go of what has stopped.

    ``stop``: whether CONTROL itself stops what runs. Pure.
    """
    steps: list[Step] = [step for step in decision.steps if isinstance(step, (Assign, Settle))]
    if stop:
        running = (c for c in sorted(observed.units) if observed.unit(c).may_run)
        steps += [Stop(cluster) for cluster in running if cluster not in observed.busy]
    kept = observed.holding(plan).union(plan.shards() if plan is not None else ())
    told = f"{len(kept)} shards are still this host's" if kept else "it has no shards any more"
    return msgspec.structs.replace(
        decision, steps=tuple(steps), sentence=f"this host goes down; {told}"
    )
