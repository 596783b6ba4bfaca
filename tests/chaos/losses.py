# SPDX-License-Identifier: Apache-2.0
"""Hosts are lost and the network breaks, at random: every shard runs exactly once.

One fault at a time is undone after a random time, the next may come before all is well again.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import product
from typing import Final

from tests.chaos.observer import Observer
from tests.chaos.ours import OurFleet, our_fleet
from tests.chaos.rows import UNHEARD, Row
from tests.scenario.fleet import Fleet
from tests.scenario.losing import CHECKPOINTS, EASY, HEARTBEAT, LEASE
from tests.scenario.network import DISCORD, MASTER

LOST: Final = "hosts lose power, stand still or lose the network, MASTER is killed, at random"
HOSTS: Final = ("alpha", "beta", "gamma", "delta")
SHARDS: Final = 16
RATE: Final = 20.0
LONGEST: Final = 2.5 * LEASE
"""Seconds for which a fault lasts: about half of them are over before anything is given away."""

Fault = Callable[[Fleet, random.Random], AbstractAsyncContextManager[None]]


async def losses(seed: int, count: int, tell: Callable[[Row], None]) -> list[Row]:
    """A fleet of four hosts with small leases, and so many faults."""
    rng = random.Random(seed)
    async with our_fleet(
        shards=SHARDS,
        hosts=dict.fromkeys(HOSTS, 1.0),
        shards_per_cluster=4,
        rate=RATE,
        seed=seed,
        batches=False,
        heartbeat=HEARTBEAT,
        master=EASY,
        control={"checkpoint_interval": CHECKPOINTS},
    ) as (ours, observer):
        await ours.shared(dict.fromkeys(HOSTS, SHARDS // len(HOSTS)))
        # MASTER cannot tell others of a session that it was not told of.
        await asyncio.sleep(2 * CHECKPOINTS)
        await _lose(ours, observer, rng, count)
        tell(observer.rows[-1])
        if observer.rows[-1].broken:
            await ours.keep_log()
        return observer.rows


async def _lose(ours: OurFleet, observer: Observer, rng: random.Random, count: int) -> None:
    async with observer.row(LOST, UNHEARD) as doing:
        for fault in drawn(rng, count):
            async with fault(ours.fleet, rng):
                await asyncio.sleep(rng.uniform(0.0, LONGEST))
            doing.done()
            if rng.random() < _WELL:
                await ours.ready()
        await ours.ready()


def drawn(rng: random.Random, count: int) -> Sequence[Fault]:
    """Each kind about as often as any other."""
    turns = [rng.sample(FAULTS, len(FAULTS)) for _ in range(-(-count // len(FAULTS)))]
    return [fault for turn in turns for fault in turn][:count]


@asynccontextmanager
async def power_cut(fleet: Fleet, rng: random.Random) -> AsyncIterator[None]:
    host = rng.choice(fleet.hosts)
    await fleet.cut_power(host)
    yield
    await fleet.power_on(host)


@asynccontextmanager
async def frozen(fleet: Fleet, rng: random.Random) -> AsyncIterator[None]:
    host = rng.choice(fleet.hosts)
    await fleet.freeze(host)
    yield
    await fleet.thaw(host)


@asynccontextmanager
async def unplugged(fleet: Fleet, rng: random.Random) -> AsyncIterator[None]:
    place = rng.choice((*fleet.hosts, MASTER))
    await fleet.network.unplug(place)
    yield
    await fleet.network.plug(place)


@asynccontextmanager
async def cut_from_master(fleet: Fleet, rng: random.Random) -> AsyncIterator[None]:
    """Both ways, or one."""
    ways = [MASTER, rng.choice(fleet.hosts)]
    rng.shuffle(ways)
    await fleet.network.cut(*ways, one_way=rng.random() < _ONE_WAY)
    yield
    await fleet.network.mend(*ways)


@asynccontextmanager
async def cut_from_discord(fleet: Fleet, rng: random.Random) -> AsyncIterator[None]:
    host = rng.choice(fleet.hosts)
    await fleet.network.cut(host, DISCORD)
    yield
    await fleet.network.mend(host, DISCORD)
    # It may have shards again now, and not in ten minutes; if it was spared, this is refused.
    await fleet.ctl("undrain", host, "--no-wait")


@asynccontextmanager
async def split(fleet: Fleet, rng: random.Random) -> AsyncIterator[None]:
    """One to three hosts have no way to the others and to MASTER."""
    hosts = rng.sample(fleet.hosts, len(fleet.hosts))
    size = rng.randrange(1, len(hosts))
    ways = list(product(hosts[:size], (*hosts[size:], MASTER)))
    for one, other in ways:
        await fleet.network.cut(one, other)
    yield
    for one, other in ways:
        await fleet.network.mend(one, other)


@asynccontextmanager
async def master_killed(fleet: Fleet, rng: random.Random) -> AsyncIterator[None]:
    await fleet.kill_master()
    yield


_WELL: Final = 0.7
_ONE_WAY: Final = 0.67
FAULTS: Final[tuple[Fault, ...]] = (
    power_cut,
    frozen,
    unplugged,
    cut_from_master,
    cut_from_discord,
    split,
    master_killed,
)
