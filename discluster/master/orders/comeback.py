# SPDX-License-Identifier: Apache-2.0
"""Whether a cluster is well, and whether one that was restarted is back. Pure."""

from collections.abc import Collection, Mapping

import msgspec

from discluster.bounds import MOST_RUNS
from discluster.master.parts import is_with
from discluster.messages import ClusterView, HostReport, ShardView
from discluster.plan import ClusterPlan, FleetPlan, Restarted, Underway


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a fleet at one instant. ``now``: wall-clock seconds. ``since``: when MASTER
    had heard of its hosts; what took longer while it was away is held against no cluster.
    ``blocked``: why no shard may dial, in words.
    """

    fleet: FleetPlan
    reports: Mapping[str, HostReport]
    connected: Collection[str]
    now: float
    since: float
    blocked: str | None = None


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster: where it is planned, the shards that it may run now, and what is reported of it.

    ``in_touch``: whether its host is.
    """

    cluster: int
    host: str
    run: int
    shards: tuple[int, ...]
    view: ClusterView | None
    in_touch: bool

    def __str__(self) -> str:
        return f"cluster {self.cluster} on {self.host}"

    @property
    def next_run(self) -> int:
        """Above the one in the plan, and what runs: that is higher after MASTER lost its files."""
        told = self.view.run if self.view is not None else 0
        return max(self.run, min(told, MOST_RUNS)) + 1

    @property
    def ready(self) -> tuple[int, ...]:
        """Its shards that are ready."""
        shards = self.view.shards if self.view is not None else ()
        return tuple(shard.shard for shard in shards if _is_ready(shard))


def places(sight: Sight) -> dict[int, Place]:
    """All clusters that their host may run now: some shard was granted to it."""
    found = {}
    for host, entry in sight.fleet.hosts.items():
        report = sight.reports.get(host)
        views = {view.cluster: view for view in report.clusters} if report is not None else {}
        for number, plan in entry.clusters.items():
            if shards := _granted(sight.fleet, host, plan):
                found[number] = Place(
                    cluster=number,
                    host=host,
                    run=plan.run,
                    shards=shards,
                    view=views.get(number),
                    in_touch=host in sight.connected,
                )
    return found


def _granted(fleet: FleetPlan, host: str, cluster: ClusterPlan) -> tuple[int, ...]:
    return tuple(s for s in cluster.shards if is_with(fleet.granted.get(s), host))


def ailment(place: Place) -> str | None:
    """Why a cluster is not well, in words; None: its process runs, and all its shards are ready."""
    if not place.in_touch:
        return f"{place.host} is out of touch"
    if place.view is None:
        return f"{place.host} does not report it"
    return _halt(place.view) or _lacking(place.view, place.shards)


def shortfall(place: Place, underway: Underway) -> str | None:
    """Why a cluster that was restarted is not back yet, in words; None: it is.

    It is back when its unit is active under the run in the plan, it runs all shards that its host
    was granted, and each of them that was ready before is ready again.
    """
    if not place.in_touch:
        return f"{place.host} is out of touch"
    view = place.view
    if view is None:
        return f"{place.host} does not report it"
    if view.run < place.run:
        return view.problem or f"{place.host} has not started it anew"
    if (halt := _halt(view)) is not None:
        return halt
    running = {shard.shard for shard in view.shards}
    if unseen := [shard for shard in place.shards if shard not in running]:
        return f"it does not run shard {unseen[0]} yet"
    return _lacking(view, [shard for shard in underway.ready if shard in place.shards])


def runs(place: Place) -> bool:
    """Whether the process runs under the run in the plan, whatever its shards do."""
    return place.view is not None and place.view.run >= place.run and _halt(place.view) is None


def has_failed(place: Place) -> bool:
    """Whether its supervisor gave it up under the run in the plan."""
    view = place.view
    return view is not None and view.run >= place.run and view.unit == "failed"


def crash(place: Place, done: Restarted) -> str | None:
    """In words, if a cluster that was back ended by itself since. The supervisor's count tells it
    from a restart that somebody wished, which looks the same in the unit's state.
    """
    view = place.view
    if view is None or view.run < place.run:
        return None
    if view.unit == "failed":
        return _halt(view)
    if view.restarts <= done.restarts:
        return None
    return view.problem or "its process ended and was started again"


def _halt(view: ClusterView) -> str | None:
    if view.unit != "active":
        detail = f": {view.detail}" if view.detail else ""
        return view.problem or f"its unit is {view.unit}{detail}"
    return None if view.connected else "it does not report to CONTROL"


def _lacking(view: ClusterView, wanted: Collection[int]) -> str | None:
    """Which of the ``wanted`` shards are not ready."""
    states = {shard.shard: shard for shard in view.shards}
    lacking = [shard for shard in wanted if not _is_ready(states.get(shard))]
    if not lacking:
        return None
    first = states.get(lacking[0])
    why = (first.problem or first.state) if first is not None else "not running"
    return f"{len(wanted) - len(lacking)} of {len(wanted)} shards ready; shard {lacking[0]}: {why}"


def _is_ready(shard: ShardView | None) -> bool:
    return shard is not None and shard.state == "ready"
