# SPDX-License-Identifier: Apache-2.0
"""Which hosts are lost, so that others get their shards, and which are only silent. Pure.

A host's lease ends by itself when MASTER does not answer it any more, unless more than half of the
witnesses in its plan say that they do not hear MASTER either. So MASTER gives the shards of a host
that is silent away only if at least half of them have heard MASTER for a whole lease, without a
break: both cannot be true. A host whose lease has ended takes it up again, without MASTER, only if
none of the witnesses follows a newer plan than itself; so the shards pass on only when at least
half of them have reported the plan that took the shards away.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from discluster.master.ownership import unheard
from discluster.messages import HostReport
from discluster.plan import Away, FleetPlan

# A generation beyond all: what an operator asserts needs no witness.
EVERY_GENERATION: Final = 2**63
NO_GENERATION: Final = 0


class HostSight(msgspec.Struct, frozen=True, kw_only=True):
    """What MASTER knows of one host. ``quiet``: seconds since its last word, or since MASTER's
    start. ``steady``: seconds for which it has heard
    MASTER without a break. ``generation``, ``panel``: as it reported last.
    """

    connected: bool
    quiet: float
    steady: float = 0.0
    generation: int = 0
    panel: tuple[str, ...] = ()


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided with; all times in seconds. ``owners``: as in :func:`owners`.

    ``lease``: the longest that any host may go by. ``margin``: for which MASTER waits after a
    lease. ``grace``: after MASTER's start, in which nothing is given away; ``uptime``: since then.
    ``return_wait``: for which a lost host must have been back. ``asserted``: hosts of which the
    operator says that they are off.
    """

    fleet: FleetPlan
    owners: frozenset[str]
    reports: Mapping[str, HostReport]
    hosts: Mapping[str, HostSight]
    lease: float
    margin: float
    grace: float
    uptime: float
    return_wait: float
    asserted: Collection[str] = ()


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """``lost``: hosts whose shards may pass on, if the generation that withdrew them is not above
    this. ``due``: hosts that will be lost, in so many seconds. ``stuck``: hosts that are silent for
    long enough, and why they are not lost, in words. ``returning``: hosts that were lost and are
    back, with the seconds until they count as eligible; ``back``: those that do now.
    """

    lost: dict[str, int] = {}
    due: dict[str, float] = {}
    stuck: dict[str, str] = {}
    returning: dict[str, float] = {}
    back: tuple[str, ...] = ()


def losses(case: Circumstances) -> Losses:
    """What is to be said of every host that has shards, or was lost."""
    found = Losses()
    back = []
    for host in sorted(case.owners | (case.fleet.away.keys() & case.fleet.hosts.keys())):
        away = case.fleet.away.get(host)
        sight = case.hosts.get(host) or HostSight(connected=False, quiet=case.uptime)
        if sight.connected:
            if away is not None and away.state == "lost":
                wait = case.return_wait - sight.steady
                if wait <= 0:
                    back.append(host)
                else:
                    found.returning[host] = wait
        elif host in case.asserted:
            found.lost[host] = EVERY_GENERATION
        elif away is not None and away.state == "unattended":
            continue
        elif not any(s.connected for name, s in case.hosts.items() if name != host):
            continue  # Nobody could take its shards.
        elif (wait := _patience(case, sight)) > 0:
            found.due[host] = wait
        elif (why := _obstacle(case, host, sight)) is not None:
            if host in case.owners:
                found.stuck[host] = why
            else:  # It was lost before, and all that it had has passed on.
                found.lost[host] = NO_GENERATION
        else:
            found.lost[host] = _assured(case, host, sight)
    return msgspec.structs.replace(found, back=tuple(back))


def owners(fleet: FleetPlan) -> frozenset[str]:
    """Hosts that may run a shard, or shall."""
    planned = {host for host, entry in fleet.hosts.items() if entry.clusters}
    return frozenset(planned | {grant.host for grant in fleet.granted.values()})


def forgotten(fleet: FleetPlan, host: str) -> FleetPlan:
    """Nothing is held against ``host`` any more."""
    away = {name: told for name, told in fleet.away.items() if name != host}
    return msgspec.structs.replace(fleet, away=away)


def away_after(
    fleet: FleetPlan,
    found: Losses,
    *,
    connected: Collection[str],
    wall: float,
    asserted: Collection[str] = (),
) -> dict[str, Away]:
    """What is written down of hosts that are away: who is lost now, and who is back. ``connected``:
    without those that said goodbye. ``asserted``: they are no hosts of the fleet any more.

    ``wall``: seconds since 1970.
    """
    gone = {
        *found.back,
        *(h for h, a in fleet.away.items() if a.state == "unattended" and h in connected),
    }
    known = fleet.hosts.keys() | found.lost.keys()
    after = {h: away for h, away in fleet.away.items() if h not in gone and h in known}
    fresh = {
        host: list[int]()
        for host in found.lost.keys() - asserted
        if host not in after or after[host].state != "lost"
    }
    for shard, grant in fleet.granted.items() if fresh else ():
        if grant.host in fresh:
            fresh[grant.host].append(shard)
    for host, shards in fresh.items():
        after[host] = Away(state="lost", at=wall, shards=tuple(sorted(shards)))
    return after


def keeping_after(
    fleet: FleetPlan, reports: Mapping[str, HostReport], *, asserted: Collection[str] = ()
) -> tuple[str, ...]:
    """Hosts that run on where nobody answers them, by their last reports. ``asserted``: they are
    off.
    """
    told = {host for host, report in reports.items() if report.keeps}
    kept = {host for host in fleet.keeping if host in fleet.slots and host not in reports}
    return tuple(sorted((told | kept).difference(asserted)))


def _patience(case: Circumstances, sight: HostSight) -> float:
    """Seconds until the lease of a silent host has surely ended, and MASTER's grace."""
    return max(case.lease + case.margin - sight.quiet, case.grace - case.uptime)


def _obstacle(case: Circumstances, host: str, sight: HostSight) -> str | None:
    """Why a host that is silent for long enough may nevertheless be running its shards."""
    if host in unheard(case.fleet, case.reports):
        return "MASTER's files were older than the fleet, and it has not said what it runs"
    for panel in _panels(case.fleet, sight):
        steady = [name for name in panel if name != host and _steady(case, name) >= case.lease]
        if 2 * len(steady) < len(panel):
            others = ", ".join(name for name in panel if name not in steady)
            return (
                f"only {len(steady)} of {len(panel)} witnesses have heard MASTER for"
                f" {case.lease:g} s without a break (not {others})"
            )
    return None


def _panels(fleet: FleetPlan, sight: HostSight) -> Iterator[tuple[str, ...]]:
    """Every panel that the host may go by."""
    panels = {tuple(sorted(fleet.witnesses)), tuple(sorted(fleet.panel_before)), sight.panel}
    yield from sorted(panel for panel in panels if panel)


def _steady(case: Circumstances, name: str) -> float:
    sight = case.hosts.get(name)
    return sight.steady if sight is not None and sight.connected else 0.0


def _assured(case: Circumstances, host: str, sight: HostSight) -> int:
    """The newest generation that at least half of each panel has reported: the host, asking more
    than half of one, meets somebody who knows it.
    """
    assured = EVERY_GENERATION
    for panel in _panels(case.fleet, sight):
        told = sorted(
            (s.generation for name in panel if name != host and (s := case.hosts.get(name))),
            reverse=True,
        )
        enough = (len(panel) + 1) // 2
        assured = min(assured, told[enough - 1] if len(told) >= enough else 0)
    return assured
