# SPDX-License-Identifier: Apache-2.0
"""Restarts that an operator asked for: the shell around :mod:`discluster.master.orders.rollout`."""

from typing import Final

import msgspec

from discluster.console import (
    RestartAnswer,
    RestartProgress,
    RestartRequest,
    RollingChange,
    RollingRequest,
    RolloutCluster,
    RolloutStatus,
)
from discluster.errors import DisclusterError
from discluster.master.orders import rollout as rolling
from discluster.master.orders.comeback import Place, Sight, places, shortfall
from discluster.master.records.events import Severity
from discluster.master.shared import Shared
from discluster.plan import FleetPlan, Rollout, Underway

NO_ROLLOUT: Final = "no-rollout"
_SEVERITIES: Final[dict[str, Severity]] = {"stopped": "error"}
_WAYS_OUT: Final = {
    "running": "look at it: disclusterctl restart --rolling --continue;"
    " to end it: disclusterctl restart --rolling --abort",
    "paused": "go on with it: disclusterctl restart --rolling --continue;"
    " to end it: disclusterctl restart --rolling --abort",
}


class Restarts:
    """Rolling restarts, and restarts at once."""

    def __init__(self, shared: Shared) -> None:
        self._book = shared.book
        self._events = shared.events
        self._clock = shared.clock
        self._fleet = shared.fleet
        self._adopt = shared.adopt
        self._waiting_for = shared.waiting_for
        self._blocked = shared.blocked
        self._wake = shared.wake
        self._since: float | None = None

    def advance(self) -> str:
        """The next step of the rollout, if there is one; what it was, in words."""
        if self._waiting_for() is not None:
            self._since = None
            return ""
        if self._since is None:
            self._since = self._clock.wall()
        fleet = self._fleet()
        if fleet is None or fleet.rollout is None or fleet.rollout.state == "done":
            return ""
        step = rolling.step(fleet.rollout, self._sight(fleet))
        self._take(fleet, step)
        if step.sentence:
            self._tell(step.sentence, severity=_SEVERITIES.get(step.rollout.state, "notice"))
        return step.sentence

    def status(self) -> RolloutStatus | None:
        """Where the last rollout stands, None if there was none."""
        fleet = self._fleet()
        if fleet is None or fleet.rollout is None:
            return None
        return describe(fleet.rollout, self._sight(fleet))

    def unfinished(self) -> RolloutStatus | None:
        """The same, None also if it is done."""
        fleet = self._fleet()
        done = fleet is not None and fleet.rollout is not None and fleet.rollout.state == "done"
        return None if done else self.status()

    def begin(self, request: RollingRequest) -> RolloutStatus:
        """Starts a rolling restart, or tells its order only.

        Raises:
            DisclusterError: not now, and why.
        """
        fleet = self._planned()
        before = fleet.rollout
        if before is not None and before.state != "done" and not request.dry_run:
            hint = _WAYS_OUT["running" if before.state == "running" else "paused"]
            said = f"a rolling restart is {before.state}: {rolling.progress(before)}"
            raise rolling.refusal(said, hint)
        sight = self._sight(fleet)
        rollout = rolling.begin(
            sight,
            request.hosts,
            at_a_time=request.at_a_time,
            timeout=request.timeout,
            force=request.force,
        )
        if request.dry_run:
            return msgspec.structs.replace(describe(rollout, sight), state="planned")
        self._tell(f"rolling restart of {len(rollout.waiting)} clusters begins, by the operator")
        return self._changed(fleet, rolling.Step(rollout=rollout))

    def change(self, change: RollingChange) -> RolloutStatus:
        """Pauses, continues or aborts the rolling restart.

        Raises:
            DisclusterError: there is none.
        """
        fleet = self._planned()
        rollout = fleet.rollout
        if rollout is None or (rollout.state == "done" and change.action != "continue"):
            raise DisclusterError(
                "no rolling restart is under way",
                hint="to begin one: disclusterctl restart --rolling --all",
                code=NO_ROLLOUT,
            )
        self._tell(f"rolling restart: {change.action}, by the operator")
        if change.action == "abort":
            told = msgspec.structs.replace(describe(rollout, self._sight(fleet)), state="aborted")
            self._adopt(msgspec.structs.replace(fleet, rollout=None))
            return told
        if change.action == "pause":
            return self._changed(fleet, rolling.Step(rollout=rolling.paused(rollout)))
        step = rolling.carried_on(
            rollout, self._sight(fleet), at_a_time=change.at_a_time, timeout=change.timeout
        )
        return self._changed(fleet, step)

    def at_once(self, request: RestartRequest) -> RestartAnswer:
        """Restarts clusters now, well or not.

        Raises:
            DisclusterError: one is not in the plan, or a rolling restart is running.
        """
        fleet = self._planned()
        known = places(self._sight(fleet))
        if unknown := sorted(set(request.clusters) - known.keys()):
            hint = "'disclusterctl status' lists the clusters"
            raise rolling.refusal(f"no cluster {unknown[0]} in the plan", hint)
        if away := [known[c] for c in request.clusters if not known[c].in_touch]:
            hint = f"on {away[0].host}: systemctl status discluster-control"
            raise rolling.refusal(f"{away[0]}: its host is out of touch", hint)
        if fleet.rollout is not None and fleet.rollout.state == "running":
            said = f"a rolling restart is running: {rolling.progress(fleet.rollout)}"
            raise rolling.refusal(said, "to pause it: disclusterctl restart --rolling --pause")
        told = ", ".join(map(str, sorted(request.clusters)))
        self._tell(f"restart of cluster {told}, by the operator")
        reason = f"restart of cluster {told}"
        self._adopt(rolling.with_new_runs(self._sight(fleet), request.clusters, reason))
        self._wake()
        return RestartAnswer(runs={c: known[c].next_run for c in sorted(request.clusters)})

    def progress(self, started: RestartAnswer) -> RestartProgress:
        """Which of the clusters that :meth:`at_once` restarted are back."""
        fleet = self._fleet()
        known = places(self._sight(fleet)) if fleet is not None else {}
        planned = {number for _, number in fleet.targets().values()} if fleet is not None else None
        return RestartProgress(
            clusters=tuple(
                _gone(cluster)
                if planned is not None and cluster not in planned
                else _restarted_at_once(cluster, known.get(cluster))
                for cluster in started.runs
            )
        )

    def _tell(self, sentence: str, *, severity: Severity = "notice") -> None:
        self._events.record("cluster", sentence, severity=severity)

    def _planned(self) -> FleetPlan:
        fleet, waiting_for = self._fleet(), self._waiting_for()
        if fleet is None or waiting_for is not None:
            hint = "try again then; 'disclusterctl status' tells"
            raise rolling.refusal(f"not now: {waiting_for or 'there is no plan yet'}", hint)
        return fleet

    def _sight(self, fleet: FleetPlan) -> Sight:
        now = self._clock.wall()
        return Sight(
            fleet=fleet,
            reports=self._book.reports(),
            connected=self._book.connected,
            now=now,
            since=now if self._since is None else self._since,
            blocked=self._blocked(),
        )

    def _changed(self, fleet: FleetPlan, step: rolling.Step) -> RolloutStatus:
        self._take(fleet, step)
        self.advance()
        self._wake()
        after = self._planned()
        return describe(after.rollout or step.rollout, self._sight(after))

    def _take(self, fleet: FleetPlan, step: rolling.Step) -> None:
        if step.restart:
            numbers = ", ".join(map(str, sorted(step.restart)))
            reason = f"rolling restart of cluster {numbers}"
            fleet = rolling.with_new_runs(self._sight(fleet), step.restart, reason)
        if step.restart or step.rollout != fleet.rollout:
            fleet = msgspec.structs.replace(fleet, rollout=step.rollout)
            self._adopt(fleet)


def rolling_complaint(at_a_time: int | None, timeout: float | None) -> str | None:
    """What is wrong with how a rolling restart shall go, in words."""
    if at_a_time is not None and at_a_time < 1:
        return "at least one cluster at a time"
    if timeout is not None and not 1 <= timeout <= 86_400:
        return "a cluster's time to be back is between 1 second and a day"
    return None


def describe(rollout: Rollout, sight: Sight) -> RolloutStatus:
    """The rollout for operators."""
    known = places(sight)
    clusters = [
        *(
            RolloutCluster(
                cluster=cluster,
                host=_host(known.get(cluster)),
                state="restarted",
                seconds=done.took,
                identified=done.identified,
            )
            for cluster, done in rollout.restarted.items()
        ),
        *(_underway(c, under, known.get(c), sight.now) for c, under in rollout.underway.items()),
        *(
            RolloutCluster(cluster=cluster, host=_host(known.get(cluster)), state="waiting")
            for cluster in rollout.waiting
        ),
        *map(_gone, rollout.gone),
    ]
    return RolloutStatus(
        state=rollout.state,
        at_a_time=rollout.at_a_time,
        timeout=rollout.timeout,
        age=max(0.0, sight.now - rollout.began),
        clusters=tuple(clusters),
        problem=rollout.problem,
    )


def _underway(cluster: int, underway: Underway, place: Place | None, now: float) -> RolloutCluster:
    return RolloutCluster(
        cluster=cluster,
        host=_host(place),
        state="underway",
        seconds=max(0.0, now - underway.since),
        lacks=shortfall(place, underway) if place is not None else None,
    )


def _gone(cluster: int) -> RolloutCluster:
    return RolloutCluster(cluster=cluster, host="", state="gone")


def _restarted_at_once(cluster: int, place: Place | None) -> RolloutCluster:
    if place is None:
        told = "MASTER does not know yet where it is"
        return RolloutCluster(cluster=cluster, host="", state="underway", lacks=told)
    # Well or not before: all its shards are waited for.
    underway = Underway(since=0.0, ready=place.shards)
    lacks = shortfall(place, underway)
    return RolloutCluster(
        cluster=cluster,
        host=place.host,
        state="underway" if lacks else "restarted",
        lacks=lacks,
        identified=0 if lacks else rolling.identified_anew(place, underway),
    )


def _host(place: Place | None) -> str:
    return place.host if place is not None else ""
