# SPDX-License-Identifier: Apache-2.0
"""What of a host's words MASTER takes for possible. Pure.

A host is trusted about what it runs; nobody else can tell. Whoever holds one host must not hold the
fleet by that: it speaks for its own shards only, in numbers that MASTER can write down and read
again, and of no plan that MASTER cannot have made.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from discluster.bounds import MAXIMUM_SHARDS
from discluster.messages import (
    Checkpoint,
    ClearanceCase,
    ControlToMaster,
    HostReport,
    PermitDenied,
    PermitRequest,
    PermitUsed,
    PlanRefused,
)
from discluster.plan import FleetPlan

# One plan a millisecond for thirty years.
MAXIMUM_GENERATION: Final = 10**12
# Plans that MASTER can have made since a backup of its files: one a second for eleven days.
LONGEST_JUMP: Final = 10**6
_MOST_WORDS: Final = 2000
_ASK_AGAIN: Final = 15.0
_MOST_WITNESSES: Final = 64


def objection(
    host: str,
    report: HostReport,
    fleet: FleetPlan | None,
    told_so_far: Callable[[], Mapping[str, HostReport]],
) -> str | None:
    """Why ``report`` cannot be, in words. ``told_so_far``: the newest that was taken of each host
    since MASTER's start.
    """
    for complaint in _faults(report):
        return f"its report makes no sense: {complaint}"
    if fleet is None or report.plan_generation <= fleet.generation:
        return None
    told = f"it says that it follows plan {report.plan_generation}, MASTER is at {fleet.generation}"
    if report.plan_generation - fleet.generation > LONGEST_JUMP:
        return f"{told}: if MASTER's files are that old, restore newer ones"
    # MASTER's files may be older than the hosts: then it is told so when they come, not later.
    reports = told_so_far()
    newest = max((r.plan_generation for r in reports.values()), default=0)
    if host in reports and report.plan_generation > newest:
        return f"{told}, and it had an older one"
    others = {grant.host for grant in fleet.granted.values()} - {host}
    if others and others <= reports.keys() and newest <= fleet.generation:
        return f"{told}, and so is every other host"
    return None


def _faults(report: HostReport) -> Iterator[str]:
    """Beyond what messages have no room for (see :mod:`discluster.bounds`)."""
    stamps = (*report.entered.values(), *(cluster.generation for cluster in report.clusters))
    if max(report.plan_generation, *stamps, 0) > MAXIMUM_GENERATION:
        yield "no plan has such a generation"
    if len(report.panel) > _MOST_WITNESSES:
        yield "no fleet has so many witnesses"
    numbers = {cluster.cluster for cluster in report.clusters}
    if len(numbers) < len(report.clusters):
        yield "it has a cluster twice"


def heeded(
    host: str, message: ControlToMaster, fleet: FleetPlan | None, report: HostReport | None
) -> ControlToMaster | None:
    """What of ``message`` concerns ``host``'s own shards; None: nothing. ``report``: its newest."""
    if report is None or (fleet is not None and report.plan_generation > fleet.generation):
        fleet = None  # MASTER's files are older than the host: it does not know whose what is.
    if isinstance(message, (PermitRequest, PermitUsed, ClearanceCase)):
        return message if speaks_for(host, message.shard, fleet) else None
    if isinstance(message, Checkpoint):
        return msgspec.structs.replace(
            message,
            sessions={s: v for s, v in message.sessions.items() if speaks_for(host, s, fleet)},
            ended=tuple(s for s in message.ended if speaks_for(host, s, fleet)),
        )
    if isinstance(message, PlanRefused):
        return msgspec.structs.replace(message, errors=message.errors[:_MOST_WORDS])
    return message


def denial(message: ControlToMaster) -> PermitDenied | None:
    """The answer to what is not heeded: the host may have asked before it saw its newest plan."""
    if not isinstance(message, PermitRequest):
        return None
    return PermitDenied(
        shard=message.shard, reason="the shard is another host's", retry_after=_ASK_AGAIN
    )


def speaks_for(host: str, shard: int, fleet: FleetPlan | None) -> bool:
    """Whether ``shard`` is ``host``'s, also while it gives it up, or nobody's that MASTER knows."""
    if not 0 <= shard < (MAXIMUM_SHARDS if fleet is None else fleet.shard_count):
        return False
    grant = fleet.granted.get(shard) if fleet is not None else None
    return grant is None or grant.host == host
