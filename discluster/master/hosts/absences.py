# SPDX-License-Identifier: Apache-2.0
"""Hosts that are away, and clusters that crash, in words for operators. Pure."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import msgspec

from discluster.clock import in_words
from discluster.console import Trouble
from discluster.master.hosts.failures import Crashed
from discluster.master.hosts.lost import Losses
from discluster.plan import FleetPlan

Presence = Literal["connected", "unattended", "down", "silent", "lost", "expected"]


class Whereabouts:
    """The shards of a plan, looked through once for all hosts."""

    def __init__(self, fleet: FleetPlan | None) -> None:
        self.fleet = fleet

    @cached_property
    def held(self) -> Counter[str]:
        """How many shards each host may run."""
        granted = self.fleet.granted if self.fleet is not None else {}
        return Counter(grant.host for grant in granted.values())

    def went(self, shards: tuple[int, ...]) -> str:
        """Where ``shards`` shall be now: ``went to alpha and gamma``; empty if nowhere."""
        hosts = sorted({self._targets[s][0] for s in shards if s in self._targets})
        if not hosts:
            return ""
        listed = ", ".join(hosts[:-1]) + " and " + hosts[-1] if len(hosts) > 1 else hosts[0]
        return f"went to {listed}"

    @cached_property
    def _targets(self) -> dict[int, tuple[str, int]]:
        return self.fleet.targets() if self.fleet is not None else {}


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a host that may be away. ``seen``: seconds since its last word, None if
    never. ``waiting``: MASTER still waits for hosts.
    """

    host: str
    state: Presence
    seen: float | None
    shards: Whereabouts
    losses: Losses
    waiting: bool

    @property
    def fleet(self) -> FleetPlan | None:
        return self.shards.fleet


def host_state(host: str, state: Presence, fleet: FleetPlan | None) -> Presence:
    """Lost, if it is away and was given up."""
    away = fleet.away.get(host) if fleet is not None else None
    lost = away is not None and away.state == "lost"
    return "lost" if lost and state != "connected" else state


def absence_troubles(case: Absence) -> Iterator[Trouble]:
    """What is to be said of one host."""
    name, fleet = case.host, case.fleet
    planned = bool(fleet and name in fleet.hosts and fleet.hosts[name].clusters)
    if case.state == "lost":
        yield _lost(case)
    elif case.state in ("silent", "expected") and (planned or case.state == "silent"):
        yield _silent(case, planned=planned)
    elif case.state == "unattended" and planned:
        yield Trouble(
            severity="warning",
            text=f"{name} is unattended: its CONTROL was stopped, its clusters run on",
            hint=f"on {name}: systemctl start discluster-control",
            host=name,
        )
    elif case.state == "down" and planned:
        yield Trouble(
            severity="warning",
            text=f"{name} was shut down; {_fate(case)}",
            hint=f"start {name}: its shards resume where their sessions live on",
            host=name,
        )
    elif case.state == "connected":
        yield from _back(case)


def crash_troubles(shards: Whereabouts, crashed: tuple[Crashed, ...]) -> Iterator[Trouble]:
    """Clusters that have failed, now or within the last hour."""
    for cluster in crashed:
        if cluster.again:
            yield Trouble(
                severity="error",
                text=cluster.in_words(),
                hint=f"journalctl -u discluster-cluster@{cluster.cluster} on {cluster.host} tells"
                f" why; mend it, then: disclusterctl restart {cluster.cluster}",
                host=cluster.host,
                cluster=cluster.cluster,
            )
    fleet = shards.fleet
    for number, failed in sorted(fleet.failed.items() if fleet is not None else ()):
        went = shards.went(failed.shards)
        yield Trouble(
            severity="warning",
            text=f"cluster {number} on {failed.host} failed again and again;"
            f" its {len(failed.shards)} shards {went or 'wait'}",
            hint=f"on {failed.host}: journalctl -u discluster-cluster@{number}",
            host=failed.host,
            cluster=number,
        )


def _lost(case: Absence) -> Trouble:
    name, fleet = case.host, case.fleet
    assert fleet is not None
    shards = fleet.away[name].shards
    left = case.shards.held[name]
    told = (
        f"its {len(shards)} shards {case.shards.went(shards) or 'wait'}"
        if shards
        else "it had no shard"
    )
    if left:
        why = case.losses.stuck.get(name)
        told += f"; {left} of them are still its own" + (f": {why}" if why else "")
    elif name in fleet.keeping:
        told += "; when_isolated is keep there: it may go on, so others identify seldom"
    return Trouble(
        severity="error",
        text=f"{name} is lost: {told}",
        hint=f"start {name}: it gets shards again once it has been back for a while; or, if it does"
        f" not come back: disclusterctl host remove {name}",
        host=name,
    )


def _silent(case: Absence, *, planned: bool) -> Trouble:
    name = case.host
    if case.seen is not None:
        since = f"has been silent for {in_words(case.seen)}"
    else:
        since = "is expected, but has not connected since MASTER started"
    hint = f"on {name}: systemctl status discluster-control"
    if name in case.losses.stuck:
        hint = f"if {name} is off for sure: disclusterctl host remove {name} --lost; else {hint}"
    early = case.seen is None and case.waiting
    return Trouble(
        severity="error" if planned and not early else "warning",
        text=f"{name} {since}" + (f"; {_fate(case)}" if planned else ""),
        hint=hint,
        host=name,
    )


def _fate(case: Absence) -> str:
    """What becomes of the shards of a host that is not lost yet."""
    if (why := case.losses.stuck.get(case.host)) is not None:
        return f"its shards stay its own, since {why}"
    if (due := case.losses.due.get(case.host)) is not None:
        return f"its shards are given away in {in_words(due)}"
    if case.waiting:
        return "its shards stay its own while MASTER waits for hosts"
    return "nobody else could take its shards, they wait for it"


def _back(case: Absence) -> Iterator[Trouble]:
    name, fleet = case.host, case.fleet
    if (wait := case.losses.returning.get(name)) is not None:
        yield Trouble(
            severity="notice",
            text=f"{name} was lost and is back; it gets shards again in {in_words(wait)}",
            host=name,
        )
    away = fleet.away.get(name) if fleet is not None else None
    if fleet is not None and away is not None and away.state == "unfit":
        yield Trouble(
            severity="error",
            text=f"{name} does not reach Discord; its {len(away.shards)} shards"
            f" {case.shards.went(away.shards) or 'wait'}",
            hint=f"look at the network of {name}; then: disclusterctl undrain {name}",
            host=name,
        )
