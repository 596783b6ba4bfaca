# SPDX-License-Identifier: Apache-2.0
"""What is wrong, worst first, in words. Pure.

MASTER's own troubles count; the snapshot's other signs (silent hosts, failed clusters, shards that
Discord rejected) are added where none of MASTER's troubles tells of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from discluster.console import FleetStatus, HostStatus, Trouble
from discluster.ctl import words
from discluster.messages import ShardView

_ORDER: Final = {"error": 0, "warning": 1, "notice": 2}


class _Sign(NamedTuple):
    """A trouble read off the snapshot; told already by one about the same host with ``mark``."""

    trouble: Trouble
    mark: str


def of_fleet(status: FleetStatus) -> tuple[Trouble, ...]:
    """Everything that the operator should know about the fleet, errors first."""
    signs = _hosts(status.hosts, status.troubles) if status.hosts else [_no_hosts()]
    return _merged(status.troubles, signs)


def of_host(host: HostStatus) -> tuple[Trouble, ...]:
    """The same for one host."""
    return _merged((), _hosts([host], ()))


def fleet_is_well(status: FleetStatus) -> bool:
    """Every shard is ready, and there is neither an error nor a warning."""
    all_ready = 0 < status.shard_count <= status.shards_ready
    return all_ready and all(p.severity == "notice" for p in of_fleet(status))


def _merged(told: Sequence[Trouble], signs: Iterable[_Sign]) -> tuple[Trouble, ...]:
    new = [sign.trouble for sign in signs if not any(_tells(one, sign) for one in told)]
    return tuple(sorted([*told, *new], key=lambda trouble: _ORDER[trouble.severity]))


def _tells(told: Trouble, sign: _Sign) -> bool:
    same_place = sign.trouble.host in (None, told.host)
    # A notice must not hide something worse, such as "beta was silent yesterday".
    as_grave = told.severity != "notice" or sign.trouble.severity == "notice"
    return same_place and as_grave and sign.mark in told.text


def _no_hosts() -> _Sign:
    text = "no host has joined the fleet yet, so no shard can run"
    hint = "'disclusterctl token create' prints the line to run on a new machine"
    return _Sign(Trouble(severity="warning", text=text, hint=hint), "no host")


def _hosts(hosts: Iterable[HostStatus], told: Sequence[Trouble]) -> Iterator[_Sign]:
    hosts = list(hosts)
    for host in hosts:
        yield from _state(host)
        for text in host.problems:
            yield _Sign(Trouble(severity="warning", text=text, host=host.host), text)
        yield from _clusters(host, {one.cluster for one in told if one.severity != "notice"})
    yield from _shards(shard for h in hosts for cluster in h.clusters for shard in cluster.shards)


def _state(host: HostStatus) -> Iterator[_Sign]:
    name, seen = host.host, words.duration(host.seen)
    look = f"on {name}: systemctl status discluster-control"
    if host.state == "silent":
        since = "" if host.seen is None else f" for {seen}"
        text = f"silent{since}, MASTER does not hear from this host"
        yield _Sign(Trouble(severity="error", text=text, hint=look, host=name), "silent")
    elif host.state == "lost":
        since = "" if host.seen is None else f" {seen} ago"
        text = f"lost: the last word from it came{since}, its shards were given to other hosts"
        hint = f"{look}; if it is gone for good: disclusterctl host remove {name}"
        yield _Sign(Trouble(severity="error", text=text, hint=hint, host=name), "lost")
    elif host.state == "expected":
        text = "expected, but it has not connected to MASTER yet"
        hint = f"{look}; to enrol it: disclusterctl token create --host {name}"
        yield _Sign(Trouble(severity="warning", text=text, hint=hint, host=name), "expected")
    elif host.state == "unattended":
        since = "" if host.seen is None else f" {seen} ago"
        text = f"unattended: CONTROL was stopped{since}, the clusters run on without it"
        hint = f"on {name}: systemctl start discluster-control"
        yield _Sign(Trouble(severity="notice", text=text, hint=hint, host=name), "unattended")


def _clusters(host: HostStatus, told: set[int | None]) -> Iterator[_Sign]:
    """One sign for all clusters of a host that have the same reason; not those in ``told``."""
    alike: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for cluster in host.clusters:
        failed = cluster.unit == "failed"
        if (failed or cluster.problem) and cluster.cluster not in told:
            alike[failed, cluster.problem or cluster.detail].append(cluster.cluster)
    for (failed, reason), numbers in alike.items():
        which = words.named("cluster", numbers)
        which += " failed" if failed and "failed" not in reason else ""
        trouble = Trouble(
            severity="error" if failed else "warning",
            text=f"{which}: {reason}" if reason else which,
            hint=f"on {host.host}: journalctl -u discluster-cluster@{numbers[0]}"
            + (f"; once mended: disclusterctl restart {_listed(numbers)}" if failed else ""),
            host=host.host,
        )
        yield _Sign(trouble, trouble.text)


def _listed(clusters: Sequence[int]) -> str:
    shown = " ".join(map(str, clusters[:8]))
    return shown if len(clusters) <= 8 else f"{shown} ..."


def _shards(shards: Iterable[ShardView]) -> Iterator[_Sign]:
    """One sign for all shards, of whatever host, that have the same reason.

    Only of states that something led to: a shard that waits for its turn also says why, but
    nothing is wrong with it. One that is ready has a problem when its handler does not keep up.
    """
    alike: dict[tuple[bool, int | None, str], list[int]] = defaultdict(list)
    for shard in shards:
        fatal = shard.state == "fatal"
        if fatal or (shard.state in ("backoff", "held", "ready") and shard.problem):
            alike[fatal, shard.fatal, shard.problem or ""].append(shard.shard)
    for (fatal, code, reason), numbers in alike.items():
        yield _shard_sign(words.named("shard", numbers), fatal, code, reason)


def _shard_sign(which: str, fatal: bool, code: int | None, reason: str) -> _Sign:
    if not fatal:
        return _Sign(Trouble(severity="warning", text=f"{which}: {reason}"), reason)
    why = reason or (f"close code {code}" if code else "")
    text = f"{which} stopped for good" + (f": {why}" if why else "")
    return _Sign(Trouble(severity="error", text=text), str(code) if code else text)
