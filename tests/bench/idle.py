# SPDX-License-Identifier: Apache-2.0
"""What shards cost that have nothing to do: their memory, and their start."""

import time
from pathlib import Path
from typing import Final

import msgspec

from discluster.simulator.client import SimulatorClient
from tests.bench.load import load
from tests.bench.processes import BenchError, Cores
from tests.bench.rows import Row
from tests.bench.subject import cluster_settings, clusters, scratch, subject
from tests.certificates import loopback_certificate

GUILDS_PER_SHARD: Final = 10
HEARTBEAT: Final = 3.0
_BEATS: Final = 2
_PATIENCE: Final = 120.0


class IdleSample(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in kB of ``shards`` idle shards, after they have sent two heartbeats each.

    ``processes``: among which they are shared out. ``rss``: resident, summed. ``pss``: the same
    with what they have in common counted once.
    """

    row: str
    tls: bool
    shards: int
    processes: int
    rss: int
    pss: int


class StartSample(msgspec.Struct, frozen=True, kw_only=True):
    """From the start of the processes until all shards are READY. Seconds."""

    shards: int
    processes: int
    wall: float
    cpu: float


async def measure_idle(
    row: Row, shards: int, *, cores: Cores, tls: bool = True, heartbeat: float = HEARTBEAT
) -> IdleSample:
    """``heartbeat``: seconds between two of them. Raises BenchError."""
    async with scratch() as directory:
        certificate = _tls(directory) if tls else {}
        guilds = GUILDS_PER_SHARD * shards
        simulated = load(
            directory,
            core=cores.simulator,
            guilds=guilds,
            shards=shards,
            heartbeat_interval=heartbeat,
            **certificate,
        )
        async with simulated as simulator:
            ready = subject(
                row,
                simulator,
                directory,
                core=cores.client,
                beside=cores.simulator,
                shards=shards,
                ca=Path(certificate["tls_certificate"]) if tls else None,
            )
            async with ready as started:
                beats = (await simulator.client.summary()).heartbeats + _BEATS * shards
                await _heartbeats(simulator.client, beats)
                used = [process.memory() for process in started.processes]
                return IdleSample(
                    row=row.key,
                    tls=tls,
                    shards=shards,
                    processes=len(used),
                    rss=sum(one.rss for one in used),
                    pss=sum(one.pss for one in used),
                )


async def measure_start(shards: int, *, cores: Cores) -> StartSample:
    """Of our cluster as it is by default, every identify permitted at once."""
    async with scratch() as directory:
        tls = _tls(directory)
        guilds = GUILDS_PER_SHARD * shards
        simulated = load(directory, core=cores.simulator, guilds=guilds, shards=shards, **tls)
        async with simulated as simulator:
            settings = cluster_settings(simulator.gateway, shards)
            extra = {"SSL_CERT_FILE": tls["tls_certificate"]}
            began = time.perf_counter()
            async with clusters(settings, directory, core=cores.client, extra=extra) as started:
                wall = time.perf_counter() - began
                cpu = sum(one.process.cpu_seconds for one in started)
                return StartSample(shards=shards, processes=len(started), wall=wall, cpu=cpu)


async def _heartbeats(client: SimulatorClient, wanted: int) -> None:
    try:
        await client.wait_for_summary(lambda seen: seen.heartbeats >= wanted, _PATIENCE)
    except TimeoutError:
        seen = (await client.summary()).heartbeats
        raise BenchError(f"{seen} heartbeats in {_PATIENCE:g} s, {wanted} are due") from None


def _tls(directory: Path) -> dict[str, str]:
    made = loopback_certificate(directory)
    return {"tls_certificate": str(made.certificate), "tls_key": str(made.key)}
