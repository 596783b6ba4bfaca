# SPDX-License-Identifier: Apache-2.0
"""What is done to our fleet, and what each of it promises."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec

from tests.chaos.losses import losses
from tests.chaos.observer import Observer
from tests.chaos.ours import BACK, OurFleet, our_fleet
from tests.chaos.rows import CRASH, ORDERLY, Promise, Row
from tests.chaos.schedule import strikes
from tests.waiting import wait_for

RATE: Final = 100.0
KILLED: Final = "a random cluster at random instants: SIGKILL"
CONTROL_KILLED: Final = "a random CONTROL: SIGKILL"
MASTER_KILLED: Final = "MASTER: SIGKILL"
HOSTS_CLUSTERS_KILLED: Final = "all clusters of a host at once: SIGKILL"
HOST_KILLED: Final = "CONTROL and all clusters of a host: SIGKILL"
ANYTHING_KILLED: Final = "a cluster, CONTROL, MASTER or a whole host, at random: SIGKILL"
RESTARTED: Final = "orderly restart of a cluster: SIGTERM"
REGROUPED: Final = "shards per cluster of running hosts changed: 10 to 7 to 16"
WEIGHED: Final = "weights of the hosts changed: shards move between hosts"
JOINED: Final = "a host joins: shards move to it"


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """How often each thing is done to so many shards. ``pause``: seconds between two kills of
    clusters; ``most``: of one cluster, see tests.chaos.schedule.
    """

    shards: int
    clusters: int
    pause: float
    most: int
    controls: int
    masters: int
    hosts_clusters: int
    hosts: int
    anything: int
    restarts: int
    regroupings: int
    weights: int
    losses: int


LONG: Final = Extent(
    shards=32,
    clusters=240,
    pause=0.9,
    most=4,
    controls=10,
    masters=10,
    hosts_clusters=6,
    hosts=6,
    anything=20,
    restarts=40,
    regroupings=6,
    weights=5,
    losses=48,
)
LONG_IN_BATCHES: Final = msgspec.structs.replace(LONG, clusters=80, restarts=15)
SHORT: Final = Extent(
    shards=24,
    clusters=20,
    pause=0.8,
    most=2,
    controls=1,
    masters=1,
    hosts_clusters=1,
    hosts=1,
    anything=0,
    restarts=4,
    regroupings=2,
    weights=1,
    losses=4,
)

MOVES_APART: Final = 7.0
"""Seconds from one ordered move of shards to the next: a shard that dials more than ten times in a
minute is to the simulator's oracles one that does so by itself."""

Campaign = Callable[[OurFleet, Observer, random.Random], Awaitable[None]]
Act = Callable[[OurFleet, random.Random], Awaitable[None]]


async def long_form(seed: int, tell: Callable[[Row], None]) -> list[Row]:
    """Five fleets, twenty minutes."""
    plans = (
        (("alpha", "beta", "gamma"), 2, False, _killed_clusters(LONG)),
        (("alpha", "beta", "gamma"), 2, True, _killed_clusters(LONG_IN_BATCHES)),
        (("alpha", "beta", "gamma"), 4, False, _killed_others(LONG)),
        (("alpha", "beta"), 10, False, _moved(LONG)),
    )
    rows: list[Row] = []
    for number, (hosts, size, batches, steps) in enumerate(plans):
        fleet = _fleet(seed + number, LONG.shards, hosts, size, steps, tell, batches=batches)
        rows += await fleet
    return rows + await losses(seed, LONG.losses, tell)


async def short_form(seed: int, tell: Callable[[Row], None]) -> list[Row]:
    """Two fleets, about two minutes. The handler of the first acknowledges in batches, so that
    there are events to come twice.
    """
    steps = (*_killed_clusters(SHORT), *_killed_others(SHORT), *_moved(SHORT))
    rows = await _fleet(seed, SHORT.shards, ("alpha", "beta"), 2, steps, tell, batches=True)
    return rows + await losses(seed, SHORT.losses, tell)


async def _fleet(
    seed: int,
    shards: int,
    hosts: Sequence[str],
    size: int,
    steps: Sequence[Campaign],
    tell: Callable[[Row], None],
    *,
    batches: bool = False,
) -> list[Row]:
    rng = random.Random(seed)
    weights = dict.fromkeys(hosts, 1.0)
    async with our_fleet(
        shards=shards,
        hosts=weights,
        shards_per_cluster=size,
        rate=RATE,
        seed=seed,
        batches=batches,
    ) as (ours, observer):
        for step in steps:
            await step(ours, observer, rng)
            row = observer.rows[-1]
            tell(row)
            if row.broken:
                # What comes after it would be judged by what it left behind.
                await ours.keep_log()
                break
        return observer.rows


def _killed_clusters(extent: Extent) -> tuple[Campaign, ...]:
    return kill_clusters(extent), restart_clusters(extent.restarts)


def _killed_others(extent: Extent) -> tuple[Campaign, ...]:
    chosen = (
        again_and_again(CONTROL_KILLED, ORDERLY, extent.controls, end_control),
        again_and_again(MASTER_KILLED, ORDERLY, extent.masters, end_master),
        again_and_again(HOSTS_CLUSTERS_KILLED, CRASH, extent.hosts_clusters, end_hosts_clusters),
        again_and_again(HOST_KILLED, CRASH, extent.hosts, end_whole_host),
    )
    return (*chosen, kill_anything(extent.anything)) if extent.anything else chosen


def _moved(extent: Extent) -> tuple[Campaign, ...]:
    return regroup(extent.regroupings), join_host, change_weights(extent.weights)


# --- single campaigns ---


def kill_clusters(extent: Extent) -> Campaign:
    """Those that are just starting or resuming, too."""

    async def campaign(ours: OurFleet, observer: Observer, rng: random.Random) -> None:
        clusters = sorted(await ours.clusters())
        planned = strikes(
            rng, clusters, count=extent.clusters, pause=extent.pause, most=extent.most
        )
        async with observer.row(KILLED, CRASH) as doing:
            clock = asyncio.get_running_loop().time
            began = clock()
            for strike in planned:
                await asyncio.sleep(max(0.0, began + strike.at - clock()))
                await kill_cluster(ours, strike.cluster)
                doing.done()

    return campaign


async def kill_cluster(ours: OurFleet, cluster: int) -> None:
    """As soon as it has a process."""

    async def lives() -> bool:
        return cluster in await ours.running()

    await wait_for(lives, BACK, what=f"cluster {cluster} has a process")
    await ours.fleet.kill_cluster(cluster)
    ours.struck(cluster)


def restart_clusters(count: int) -> Campaign:
    """One after the other, each once the shards of the one before are back."""

    async def campaign(ours: OurFleet, observer: Observer, rng: random.Random) -> None:
        clusters = await ours.clusters()
        order = [c for _ in range(count) for c in rng.sample(sorted(clusters), len(clusters))]
        async with observer.row(RESTARTED, ORDERLY) as doing:
            for cluster in order[:count]:
                await ours.rested(cluster)
                async with ours.resumed(len(clusters[cluster])):
                    await ours.fleet.restart_cluster(cluster)
                ours.struck(cluster)
                doing.done()

    return campaign


def again_and_again(what: str, promise: Promise, count: int, act: Act) -> Campaign:
    """One row, in which ``act`` is done so often. It returns when all is well again."""

    async def campaign(ours: OurFleet, observer: Observer, rng: random.Random) -> None:
        async with observer.row(what, promise) as doing:
            for _ in range(count):
                await act(ours, rng)
                doing.done()

    return campaign


async def end_control(ours: OurFleet, rng: random.Random) -> None:
    """Its clusters run on and are found again."""
    await ours.fleet.kill_control(rng.choice(ours.fleet.hosts))
    await ours.ready()


async def end_master(ours: OurFleet, _rng: random.Random) -> None:
    """Nothing of it reaches a shard."""
    await ours.fleet.kill_master()
    await ours.ready()


async def end_hosts_clusters(ours: OurFleet, rng: random.Random) -> None:
    """All at once."""
    await end_host(ours, rng.choice(ours.fleet.hosts), ours.fleet.kill_clusters)


async def end_whole_host(ours: OurFleet, rng: random.Random) -> None:
    """CONTROL, too, so that nobody is left who would start a cluster again."""
    await end_host(ours, rng.choice(ours.fleet.hosts), ours.fleet.kill_host)


async def end_host(ours: OurFleet, host: str, how: Callable[[str], Awaitable[None]]) -> None:
    """Ends what runs on a host and waits until all its shards were resumed."""
    here = set(await ours.fleet.units(host))
    gone = sum(
        len(shards) for cluster, shards in (await ours.clusters()).items() if cluster in here
    )
    await ours.rested(*here)
    async with ours.resumed(gone):
        await how(host)
        ours.struck(*here)
    await ours.ready()


def kill_anything(count: int) -> Campaign:
    """Without waiting for what was killed before to be back."""

    async def campaign(ours: OurFleet, observer: Observer, rng: random.Random) -> None:
        clusters = sorted(await ours.clusters())
        async with observer.row(ANYTHING_KILLED, CRASH) as doing:
            for _ in range(count):
                await _kill_one(ours, clusters, rng)
                doing.done()
                await asyncio.sleep(rng.uniform(0.0, 3.0))

    return campaign


async def _kill_one(ours: OurFleet, clusters: Sequence[int], rng: random.Random) -> None:
    host = rng.choice(ours.fleet.hosts)
    what = rng.choices(("cluster", "control", "master", "host"), (6, 2, 2, 1))[0]
    if what == "cluster":
        cluster = rng.choice(clusters)
        await ours.rested(cluster)
        await kill_cluster(ours, cluster)
    elif what == "control":
        await ours.fleet.kill_control(host)
    elif what == "master":
        await ours.fleet.kill_master()
    else:
        here = await ours.fleet.units(host)
        await ours.rested(*here)
        await ours.fleet.kill_host(host)
        ours.struck(*here)


@contextlib.asynccontextmanager
async def at_least(seconds: float) -> AsyncIterator[None]:
    """What is done takes that long, or longer."""
    clock = asyncio.get_running_loop().time
    began = clock()
    yield
    await asyncio.sleep(max(0.0, began + seconds - clock()))


def regroup(changes: int) -> Campaign:
    """The way there, to 10 shards for each cluster, is part of it."""

    async def campaign(ours: OurFleet, observer: Observer, rng: random.Random) -> None:
        async with observer.row(REGROUPED, ORDERLY) as doing:
            await ours.fleet.configure(shards_per_cluster=10)
            await ours.sized(10)
            for number in range(changes):
                size = (7, 16, 10)[number % 3]
                async with at_least(MOVES_APART):
                    await ours.fleet.configure(shards_per_cluster=size)
                    await ours.sized(size)
                doing.done()

    return campaign


async def join_host(ours: OurFleet, observer: Observer, rng: random.Random) -> None:
    """The third."""
    async with observer.row(JOINED, ORDERLY) as doing:
        await ours.fleet.add_host("delta", 1.0)
        await ours.shared({"delta": ours.shards // 3})
        doing.done()


def change_weights(changes: int) -> Campaign:
    """Of three hosts one has half of the shards, and each time it is another one."""

    async def campaign(ours: OurFleet, observer: Observer, rng: random.Random) -> None:
        hosts = ours.fleet.hosts
        async with observer.row(WEIGHED, ORDERLY) as doing:
            for number in range(changes):
                heavy = hosts[number % len(hosts)]
                weights = {host: 2.0 if host == heavy else 1.0 for host in hosts}
                async with at_least(MOVES_APART):
                    await ours.fleet.configure(weights=weights)
                    await ours.shared({h: int(ours.shards * w / 4) for h, w in weights.items()})
                doing.done()

    return campaign
