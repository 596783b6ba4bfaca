# SPDX-License-Identifier: Apache-2.0
"""Made-up results."""

from tests.bench.idle import IdleSample, StartSample
from tests.bench.machine import Machine
from tests.bench.measure import Sample
from tests.bench.results import Results


def sample(row: str, rate: float, *, events: int = 1000) -> Sample:
    """One run of ``row`` at ``rate`` events per CPU-second."""
    return Sample(
        row=row,
        events=events,
        cpu=events / rate,
        wall=2 * events / rate,
        simulator_cpu=events / rate / 2,
        wire=250 * events,
        rss=51_200,
    )


def idle(row: str, shards: int, rss: int, *, processes: int = 1, tls: bool = True) -> IdleSample:
    """``rss``: kB."""
    return IdleSample(
        row=row, tls=tls, shards=shards, processes=processes, rss=rss, pss=rss - 10_000
    )


MACHINE = Machine(
    date="2026-01-02 03:04 UTC",
    commit="0123456789ab",
    cpu="Example CPU",
    cores=2,
    kernel="6.12",
    python="3.13.5",
    node="20.1.0",
    ours={"aiohttp": "3.11.16"},
    python_peers={"hikari": "2.7.0"},
    node_peers={},
)


def results(*samples: Sample, idle: tuple[IdleSample, ...] = ()) -> Results:
    """Of one round."""
    start = StartSample(shards=500, processes=2, wall=5.0, cpu=2.0)
    return Results(machine=MACHINE, runs=1, samples=samples, idle=idle, starts=(start,))
