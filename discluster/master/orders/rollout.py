# SPDX-License-Identifier: Apache-2.0
"""A rolling restart: from where it stands and what the hosts report to its next step. Pure.

A restart is a raised run number in the plan; CONTROL does the rest. So a rollout is a list that is
worked off a few clusters at a time: the next one gets its new run when one before is back. Where it
stands is part of the fleet's plan, so it goes on after a restart of MASTER.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import chain, zip_longest
from typing import Final

import msgspec

from discluster.errors import DisclusterError
from discluster.master.orders.comeback import (
    Place,
    Sight,
    ailment,
    crash,
    has_failed,
    places,
    runs,
    shortfall,
)
from discluster.plan import ClusterPlan, FleetPlan, HostEntry, Restarted, Rollout, Underway

_SETTLED: Final = 10.0
"""Seconds after which a unit that is reported as failed failed under its new run: before that the
report can be of the instant before its start."""

REFUSED: Final = "restart-refused"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """``restart``: clusters that get a new run now. ``sentence``: what happened, if anything."""

    rollout: Rollout
    restart: tuple[int, ...] = ()
    sentence: str = ""


def begin(
    sight: Sight, hosts: Collection[str], *, at_a_time: int, timeout: float, force: bool
) -> Rollout:
    """A rollout over all clusters of ``hosts``, of all hosts if there are none.

    Those that are not well come first: their restart costs nothing. After that the hosts take
    turns, so that clusters that are restarted together are on different machines.

    Raises:
        DisclusterError: a host is not known or out of touch; without ``force`` also if a cluster
            is not well, or could not connect again.
    """
    if unknown := sorted(set(hosts) - sight.fleet.hosts.keys()):
        known = ", ".join(sorted(sight.fleet.hosts)) or "none"
        raise refusal(f"no host {unknown[0]!r} in the plan", f"hosts in it: {known}")
    chosen = {c: p for c, p in sorted(places(sight).items()) if not hosts or p.host in hosts}
    if not chosen:
        raise refusal(
            "there is no cluster to restart", "'disclusterctl status' shows where some are"
        )
    if away := sorted({place.host for place in chosen.values() if not place.in_touch}):
        raise refusal(
            f"{', '.join(away)} {'is' if len(away) == 1 else 'are'} out of touch",
            "wait for it, or name the hosts whose clusters to restart",
        )
    ill = {c: why for c, place in chosen.items() if (why := ailment(place)) is not None}
    if ill and not force:
        raise _not_well(ill, chosen)
    if sight.blocked is not None and not force:
        why = f"what is restarted now could not connect again: {sight.blocked}"
        raise refusal(why, "mend that first; all the same: --force")
    well = [place for c, place in chosen.items() if c not in ill]
    return Rollout(
        state="running",
        began=sight.now,
        at_a_time=at_a_time,
        timeout=timeout,
        waiting=(*sorted(ill), *_by_turns(well)),
    )


def refusal(message: str, hint: str) -> DisclusterError:
    """What the operator asked for cannot be done now."""
    return DisclusterError(message, hint=hint, code=REFUSED)


def _not_well(ill: Mapping[int, str], chosen: Mapping[int, Place]) -> DisclusterError:
    first = min(ill)
    more = f"; {len(ill) - 1} more are not well either" if len(ill) > 1 else ""
    return refusal(
        f"{chosen[first]} is not well: {ill[first]}{more}",
        f"to restart it alone: disclusterctl restart {first}; all the same: --force",
    )


def _by_turns(clusters: Iterable[Place]) -> tuple[int, ...]:
    """One of each host, then the next of each."""
    of_host: dict[str, list[int]] = {}
    for place in clusters:
        of_host.setdefault(place.host, []).append(place.cluster)
    rounds = zip_longest(*(of_host[host] for host in sorted(of_host)))
    return tuple(cluster for cluster in chain.from_iterable(rounds) if cluster is not None)


def step(rollout: Rollout, sight: Sight) -> Step:
    """What changes now. A rollout that is paused or stopped only waits for those under way."""
    if rollout.state == "done":
        return Step(rollout=rollout)
    known = places(sight)
    told: list[str] = []
    rollout = _without_gone(rollout, known)
    rollout = _welcomed(rollout, known, sight.now, told)
    rollout = _stopped_if_one_failed(rollout, known, sight, told)
    restart = _next(rollout, known)
    if restart:
        told.append(f"restarting {_named(restart)}")
        fresh = {c: Underway(since=sight.now, ready=known[c].ready) for c in restart}
        rollout = msgspec.structs.replace(
            rollout,
            waiting=tuple(c for c in rollout.waiting if c not in fresh),
            underway={**rollout.underway, **fresh},
        )
    if not rollout.waiting and not rollout.underway:
        told.append(f"rolling restart done: {progress(rollout)}")
        rollout = msgspec.structs.replace(rollout, state="done", problem=None)
    return Step(rollout=rollout, restart=restart, sentence="; ".join(told))


def _without_gone(rollout: Rollout, known: Collection[int]) -> Rollout:
    """Without clusters that their host does not run any more, or not yet: what is started later is
    new anyhow.
    """
    gone = [c for c in (*rollout.waiting, *rollout.underway) if c not in known]
    if not gone:
        return rollout
    return msgspec.structs.replace(
        rollout,
        waiting=tuple(c for c in rollout.waiting if c in known),
        underway={c: under for c, under in rollout.underway.items() if c in known},
        gone=(*rollout.gone, *gone),
    )


def _welcomed(rollout: Rollout, known: Mapping[int, Place], now: float, told: list[str]) -> Rollout:
    """With those that are back counted as restarted."""
    back = {
        c: Restarted(
            took=round(max(0.0, now - under.since), 1),
            identified=identified_anew(known[c], under),
            restarts=_restarts(known[c]),
        )
        for c, under in rollout.underway.items()
        if shortfall(known[c], under) is None
    }
    if not back:
        return rollout
    told.append(f"{_named(back)} back")
    after = msgspec.structs.replace(
        rollout,
        underway={c: under for c, under in rollout.underway.items() if c not in back},
        restarted={**rollout.restarted, **back},
    )
    for cluster, done in back.items():
        # To go on could cost one IDENTIFY for each shard of the fleet.
        if 0 < done.identified == len(rollout.underway[cluster].ready) and after.waiting:
            lost = f"{known[cluster]} came back without its sessions: every shard had to identify"
            return _stopped(after, lost, told)
    return after


def identified_anew(place: Place, underway: Underway) -> int:
    """How many shards that had a session identified; the process that counts them is new."""
    shards = place.view.shards if place.view is not None else ()
    return sum(shard.identifies > 0 for shard in shards if shard.shard in underway.ready)


def _restarts(place: Place) -> int:
    return place.view.restarts if place.view is not None else 0


def _stopped_if_one_failed(
    rollout: Rollout, known: Mapping[int, Place], sight: Sight, told: list[str]
) -> Rollout:
    if rollout.state not in ("running", "paused"):
        return rollout
    for cluster, under in rollout.underway.items():
        place, waited = known[cluster], sight.now - max(under.since, sight.since)
        failed = waited >= _SETTLED and has_failed(place)
        if failed or waited >= rollout.timeout:
            why = shortfall(place, under)
            return _stopped(rollout, f"{place} did not come back in {waited:.0f} s: {why}", told)
    for cluster, done in rollout.restarted.items():
        back = known.get(cluster)
        if back is not None and back.in_touch and (why := crash(back, done)) is not None:
            # Under way again: it may still come back by itself.
            rollout = msgspec.structs.replace(
                rollout,
                restarted={c: r for c, r in rollout.restarted.items() if c != cluster},
                underway={**rollout.underway, cluster: Underway(since=sight.now)},
            )
            return _stopped(rollout, f"{back} came back, but did not stay: {why}", told)
    return rollout


def _stopped(rollout: Rollout, problem: str, told: list[str]) -> Rollout:
    told.append(f"rolling restart stopped: {problem}")
    return msgspec.structs.replace(rollout, state="stopped", problem=problem)


def _next(rollout: Rollout, known: Mapping[int, Place]) -> tuple[int, ...]:
    """Those whose turn it is. Clusters of a host out of touch wait for it."""
    if rollout.state != "running":
        return ()
    free = max(0, rollout.at_a_time - len(rollout.underway))
    return tuple(c for c in rollout.waiting if known[c].in_touch)[:free]


def paused(rollout: Rollout) -> Rollout:
    """Nothing more is restarted; those under way come back."""
    return (
        msgspec.structs.replace(rollout, state="paused") if rollout.state == "running" else rollout
    )


def carried_on(
    rollout: Rollout, sight: Sight, *, at_a_time: int | None = None, timeout: float | None = None
) -> Step:
    """Goes on. What did not come back is tried again, unless its process runs and only its shards
    are not ready: those are waited for once more.
    """
    changed = msgspec.structs.replace(
        rollout, at_a_time=at_a_time or rollout.at_a_time, timeout=timeout or rollout.timeout
    )
    if rollout.state != "stopped":
        state = "running" if rollout.state == "paused" else rollout.state
        return Step(rollout=msgspec.structs.replace(changed, state=state))
    known = places(sight)
    again = tuple(c for c in rollout.underway if c in known and not runs(known[c]))
    rearmed = {
        c: msgspec.structs.replace(under, since=sight.now) for c, under in rollout.underway.items()
    }
    running = msgspec.structs.replace(changed, state="running", problem=None, underway=rearmed)
    return Step(rollout=running, restart=again)


def with_new_runs(sight: Sight, clusters: Collection[int], reason: str) -> FleetPlan:
    """The next generation of the plan, in which ``clusters`` are to be started anew."""
    fleet, known = sight.fleet, places(sight)
    runs = {cluster: known[cluster].next_run for cluster in clusters}
    hosts = {
        host: msgspec.structs.replace(entry, clusters=_raised(entry, runs))
        for host, entry in fleet.hosts.items()
    }
    return msgspec.structs.replace(
        fleet, generation=fleet.generation + 1, hosts=hosts, reason=reason
    )


def _raised(entry: HostEntry, runs: Mapping[int, int]) -> dict[int, ClusterPlan]:
    return {
        number: msgspec.structs.replace(plan, run=runs.get(number, plan.run))
        for number, plan in entry.clusters.items()
    }


def progress(rollout: Rollout) -> str:
    """``12 of 40 clusters restarted``."""
    total = sum(map(len, (rollout.waiting, rollout.underway, rollout.restarted, rollout.gone)))
    gone = f", {len(rollout.gone)} not in the plan any more" if rollout.gone else ""
    noun = "cluster" if total == 1 else "clusters"
    return f"{len(rollout.restarted)} of {total} {noun} restarted{gone}"


def _named(clusters: Iterable[int]) -> str:
    numbers = sorted(clusters)
    return f"cluster{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
