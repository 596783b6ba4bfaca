# SPDX-License-Identifier: Apache-2.0
"""Our fleet as a subject: real processes on loopback, with the recording handler."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from discluster.simulator.client import SimulatorClient
from tests.chaos.observer import Observer
from tests.chaos.schedule import MOST, WITHIN
from tests.scenario.fleet import Fleet
from tests.scenario.loopback import LoopbackFleet
from tests.scenario.processes import REPOSITORY
from tests.scenario.scenarios import placed
from tests.waiting import wait_for

TITLE: Final = "Discluster"
BATCHES: Final = "; events acknowledged in batches"
BROKEN_LOG: Final = REPOSITORY / "build" / "chaos" / "broken.log"
BACK: Final = 60.0
"""Seconds for shards to come back; far above what it takes."""
SIMULATOR: Final[Mapping[str, object]] = {
    "heartbeat_interval": 10.0,
    "events_per_second": 0,
    # What guilds have while a shard has no session is lost, too.
    "events_without_session": True,
    "sent_log": 1_000_000,
    "session_start_total": 10_000,
}


class OurFleet:
    """See tests.chaos.observer.Subject."""

    def __init__(self, fleet: Fleet, shards: int) -> None:
        self.title = TITLE
        self.shards = shards
        self.fleet = fleet
        self._struck: dict[int, list[float]] = {}

    @property
    def simulator(self) -> SimulatorClient:
        return self.fleet.simulator

    def recordings(self) -> tuple[Path, ...]:
        return self.fleet.recordings()

    async def keep_log(self) -> None:
        """What the fleet said whose row broke its promise."""
        BROKEN_LOG.parent.mkdir(parents=True, exist_ok=True)
        BROKEN_LOG.write_text(await self.fleet.diagnostics())

    async def clusters(self) -> dict[int, tuple[int, ...]]:
        """Cluster -> its shards, of the whole fleet."""
        found: dict[int, tuple[int, ...]] = {}
        for shard, (_, cluster) in sorted(placed(await self.fleet.status()).items()):
            found[cluster] = (*found.get(cluster, ()), shard)
        return found

    async def running(self) -> set[int]:
        """Clusters with a process, starting ones too."""
        return {c for host in self.fleet.hosts for c in await self.fleet.units(host)}

    def struck(self, *clusters: int) -> None:
        """Their processes are ended now."""
        for cluster in clusters:
            self._struck.setdefault(cluster, []).append(time.monotonic())

    async def rested(self, *clusters: int) -> None:
        """Waits until one more end of each is no crash loop; see tests.chaos.schedule."""

        def all_rested() -> bool:
            first = time.monotonic() - WITHIN
            ends = (self._struck.get(cluster, ()) for cluster in clusters)
            return all(sum(end > first for end in mine) < MOST for mine in ends)

        await wait_for(all_rested, WITHIN + 1, what="no cluster is near its start limit")

    @asynccontextmanager
    async def resumed(self, shards: int) -> AsyncIterator[None]:
        """Waits at the end until so many more shards were resumed."""
        wanted = (await self.simulator.summary()).resumed + shards
        yield
        await self.simulator.wait_for_summary(lambda summary: summary.resumed >= wanted, BACK)

    async def ready(self) -> None:
        """All shards are connected, and MASTER says so."""
        await self.simulator.wait_for_connected(self.shards, BACK)
        await self.says(lambda status: bool(status["shards_ready"] == self.shards), "all are ready")

    async def says(self, condition: Callable[[dict[str, Any]], bool], what: str) -> None:
        """Waits until MASTER's status fulfils ``condition``; MASTER may be away meanwhile."""

        async def fulfilled() -> bool:
            told = (await self.fleet.ctl("status", "--json")).stdout.strip()
            return bool(told) and condition(json.loads(told))

        await wait_for(fulfilled, BACK, what=what)

    async def sized(self, most: int) -> None:
        """All clusters hold at most ``most`` shards, as few clusters as that allows on each host,
        and all shards are ready.
        """

        def regrouped(status: dict[str, Any]) -> bool:
            for host in status["hosts"]:
                sizes = [len(cluster["shards"]) for cluster in host["clusters"]]
                if max(sizes, default=0) > most or len(sizes) != -(-sum(sizes) // most):
                    return False
            return bool(status["shards_ready"] == self.shards)

        await self.says(regrouped, f"clusters of {most} shards")

    async def shared(self, shares: Mapping[str, int]) -> None:
        """Each host runs so many shards, and all are ready."""

        def as_wanted(status: dict[str, Any]) -> bool:
            hosts = [host for host, _ in placed(status).values()]
            ready = status["shards_ready"] == self.shards
            return ready and all(hosts.count(host) == share for host, share in shares.items())

        await self.says(as_wanted, f"shares {shares}")


@asynccontextmanager
async def our_fleet(
    *,
    shards: int,
    hosts: Mapping[str, float],
    shards_per_cluster: int,
    rate: float,
    seed: int,
    batches: bool,
    heartbeat: float | None = None,
    master: Mapping[str, object] | None = None,
    control: Mapping[str, object] | None = None,
) -> AsyncIterator[tuple[OurFleet, Observer]]:
    """A fleet on loopback with all shards ready, and who makes its rows. ``batches``: its handler
    acknowledges events in batches. ``heartbeat``: Discord's interval, seconds. ``master``,
    ``control``: settings of a fleet whose network will be broken.
    """
    recorder = "BatchingRecorder" if batches else "Recorder"
    fleet = LoopbackFleet(handler=f"tests.chaos.recorder:{recorder}")
    try:
        await fleet.start(
            shards=shards,
            hosts=hosts,
            max_concurrency=16,
            shards_per_cluster=shards_per_cluster,
            simulator={
                **SIMULATOR,
                **({} if heartbeat is None else {"heartbeat_interval": heartbeat}),
                "seed": seed,
            },
            recording=True,
            master=master,
            control=control,
            wired=master is not None,
        )
        ours = OurFleet(fleet, shards)
        await ours.ready()
        yield ours, Observer(ours, rate=rate, note=BATCHES if batches else "")
    finally:
        await fleet.close()
