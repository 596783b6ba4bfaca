# SPDX-License-Identifier: Apache-2.0
"""What the scenarios of lost hosts and broken networks share: small leases, and one row for each.

Every event that the simulator made is compared with what the handlers took, so a row tells for how
long each shard was down, whether two processes had it, and what it cost.
"""

import asyncio
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

from tests.chaos.observer import Observer
from tests.chaos.ours import SIMULATOR, OurFleet
from tests.chaos.rows import Row
from tests.scenario.fleet import Fleet
from tests.scenario.scenarios import placed

LEASE: Final = 5.0
MARGIN: Final = 0.5
CHECKPOINTS: Final = 0.5
RETURN_WAIT: Final = 2.0
UNREACHABLE_AFTER: Final = 2.0
HEARTBEAT: Final = 2.0
GIVEN_AWAY: Final = LEASE + MARGIN
"""Seconds of silence after which MASTER gives a host's shards to others, at the earliest."""
EASY: Final[Mapping[str, object]] = {
    "lease": LEASE,
    "lease_margin": MARGIN,
    "ping_interval": 0.5,
    "return_wait": RETURN_WAIT,
    "unreachable_after": UNREACHABLE_AFTER,
    # MASTER gives nothing away before.
    "start_wait": LEASE,
}
"""MASTER's settings, scaled down so that a test need not last for minutes."""
RATE: Final = 20.0
SHARDS: Final = 12
THREE: Final = {"alpha": 1.0, "beta": 1.0, "gamma": 1.0}

Note = Callable[[str, object], None]


async def observed(
    fleet: Fleet,
    hosts: Mapping[str, float] = THREE,
    *,
    shards: int = SHARDS,
    shards_per_cluster: int = 4,
    simulator: Mapping[str, object] | None = None,
    master: Mapping[str, object] | None = None,
    when_isolated: str = "stop",
    delay: float = 0.0,
    expected: Mapping[str, int] | None = None,
    checkpoints: float = CHECKPOINTS,
) -> tuple[OurFleet, Observer]:
    """A fleet with small leases whose network can be broken; all shards are ready, and each host
    has its share, or as many as are ``expected``.
    """
    await fleet.start(
        shards=shards,
        hosts=hosts,
        max_concurrency=16,
        shards_per_cluster=shards_per_cluster,
        simulator={**SIMULATOR, "heartbeat_interval": HEARTBEAT, **(simulator or {})},
        recording=True,
        master={**EASY, **(master or {})},
        control={"checkpoint_interval": checkpoints, "when_isolated": when_isolated},
        wired=True,
        delay=delay,
    )
    ours = OurFleet(fleet, shards)
    await ours.shared(expected or shares(hosts, shards))
    # A session that MASTER was not told of yet is lost with its host; nobody tells when it was.
    await asyncio.sleep(2 * CHECKPOINTS)
    return ours, Observer(ours, rate=RATE)


def shares(hosts: Mapping[str, float], shards: int = SHARDS) -> dict[str, int]:
    """By weight; it comes out even."""
    return {host: round(shards * weight / sum(hosts.values())) for host, weight in hosts.items()}


async def shards_of(fleet: Fleet, *hosts: str) -> set[int]:
    return {s for s, (host, _) in placed(await fleet.status()).items() if host in hosts}


def host_in(status: Mapping[str, Any], host: str) -> dict[str, Any]:
    (found,) = (entry for entry in status["hosts"] if entry["host"] == host)
    return dict(found)


def connected(host: str) -> Callable[[dict[str, Any]], bool]:
    return lambda status: host_in(status, host)["state"] == "connected"


def kept(row: Row, note: Note, *, resumes: int) -> None:
    """The row keeps its promise, each shard that moved was resumed once, and nothing else moved.
    What was measured goes into the test's report.
    """
    down = sorted(row.pauses)[len(row.pauses) - resumes :] if resumes else [max(row.pauses)]
    figures = f"down {median(down):.2f} s, worst {down[-1]:.2f} s; twice {row.overlap:.2f} s"
    print(f"\n{row.what}: {figures}; {row.resumes} resumes, {row.identifies} identifies")
    note(row.what, figures)
    assert row.broken == [], row.broken
    assert row.resumes == resumes
