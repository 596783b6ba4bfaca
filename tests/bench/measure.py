# SPDX-License-Identifier: Apache-2.0
"""One measurement: a simulator and a client, both fresh, and what the burst cost the client."""

import time
from typing import Final

import msgspec

from tests.bench.cluster import Cluster
from tests.bench.load import Load, load
from tests.bench.orders import COUNTED
from tests.bench.processes import BenchError, Cores
from tests.bench.rows import SHARDS, Row
from tests.bench.subject import Subject, scratch, subject
from tests.waiting import wait_for

_PATIENCE: Final = 60.0
_GUILDS: Final = 64


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one row. ``events``: that were sent to the client, however many it passed each of
    them on to. Seconds; ``rss``: kB of the client after the burst; ``simulator_cpu``:
    seconds that the generator worked in the meantime; ``wire``: bytes that it sent.
    """

    row: str
    events: int
    cpu: float
    wall: float
    simulator_cpu: float
    wire: int
    rss: int

    @property
    def rate(self) -> float:
        """Events per CPU-second of the client."""
        return self.events / self.cpu


async def measure(row: Row, *, cores: Cores, scale: float = 1.0) -> Sample:
    """Runs ``row`` once, with ``scale`` times its events.

    Raises:
        BenchError: the client failed, or did not count exactly the events that were sent.
    """
    events = max(1, round(row.events * scale))
    warm_up = max(1, events // 4)
    each = SHARDS * (1 if row.fed is None else len(row.fed.clients))
    marks = (warm_up * each, (warm_up + events) * each)
    async with (
        scratch() as directory,
        load(directory, core=cores.simulator, guilds=_GUILDS) as simulator,
        subject(
            row, simulator, directory, core=cores.client, beside=cores.simulator, marks=marks
        ) as started,
    ):
        # Caches fill, and Node compiles what is run often.
        await _burst(row, simulator, started, warm_up, expected=marks[0])
        sample = await _burst(row, simulator, started, events, expected=marks[1])
        for ours in started.clusters:
            await _check_sequences(simulator, ours)
    return sample


async def _burst(
    row: Row, simulator: Load, started: Subject, events: int, *, expected: int
) -> Sample:
    """Sends ``events`` to each shard; returns when it was told that they have been counted."""
    (client,) = started.processes
    made = await simulator.client.prepare_burst(events=events)
    if made != events * SHARDS:
        raise BenchError(f"the simulator prepared {made} events instead of {events * SHARDS}")
    wire = (await simulator.client.burst()).bytes
    own, generator = client.cpu_seconds, simulator.process.cpu_seconds
    began = time.perf_counter()
    await simulator.client.release_burst()
    counted = int(await started.counts.line(COUNTED, _PATIENCE))
    wall = time.perf_counter() - began
    own, generator = client.cpu_seconds - own, simulator.process.cpu_seconds - generator
    if counted != expected:
        raise started.counts.failure(f"counted {counted} events instead of {expected}")
    return Sample(
        row=row.key,
        events=made,
        cpu=own,
        wall=wall,
        simulator_cpu=generator,
        wire=wire,
        rss=client.memory().rss,
    )


async def _check_sequences(simulator: Load, ours: Cluster) -> None:
    """All that was sent was handed over and noted as such on disk, no more and no less."""
    sent = sum(shard.seq for shard in await simulator.client.shards())
    try:
        # The handler tells of the last event before its sequence is stored.
        await wait_for(lambda: ours.sequences() == sent, 10, what="the sequences on disk")
    except TimeoutError as error:
        stored = ours.sequences()
        raise BenchError(f"{error}: {stored} are stored, {sent} were sent") from None
