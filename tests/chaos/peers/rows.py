# SPDX-License-Identifier: Apache-2.0
"""What is done to the bots of others: the same as to our fleet, as far as they have it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from tests.chaos.observer import Observer
from tests.chaos.peers.libraries import LIBRARIES, Library, versions
from tests.chaos.peers.peer import Peer, peer
from tests.chaos.rows import NOTHING, Row

SHARDS: Final = 8
_REST: Final = 1.0
"""Seconds at most from the return of the shards to the next kill."""


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """How often each thing is done."""

    kills: int = 12
    restarts: int = 8
    managers: int = 3


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """``versions``: by title, what was measured; ``absent``: why what could not be, was not."""

    rows: tuple[Row, ...] = ()
    versions: dict[str, str] = {}
    absent: dict[str, str] = {}


# All shards of discord.py start one after the other each time: fewer times, so that it ends.
EXTENTS: Final = {"discord.py AutoShardedClient": Extent(kills=10, restarts=5, managers=0)}


async def peer_rows(*, seed: int, rate: float, tell: Callable[[Row], None]) -> Peers:
    """Rows of all libraries that can be run here, one after the other: about 6 minutes."""
    rows: list[Row] = []
    absent = {}
    for library in LIBRARIES:
        obstacle = library.obstacle()
        try:
            if obstacle is None:
                rows += await library_rows(library, seed=seed, rate=rate, tell=tell)
        except (RuntimeError, TimeoutError) as error:
            # What is known of our fleet by now is not given away for it.
            obstacle = f"its measurement failed ({str(error).partition(':')[0]})"
            print(error)
        if obstacle is not None:
            print(f"{library.title}: not measured: {obstacle}")
            absent[library.title] = obstacle
    told = {one.title: versions(one) for one in LIBRARIES if one.title not in absent}
    return Peers(rows=tuple(rows), versions=told, absent=absent)


async def library_rows(
    library: Library,
    *,
    seed: int,
    rate: float,
    tell: Callable[[Row], None],
    shards: int = SHARDS,
    extent: Extent | None = None,
) -> list[Row]:
    """Of one library."""
    times = extent or EXTENTS.get(library.title, Extent())
    rng = random.Random(f"{seed}/{library.title}")
    async with peer(library, shards=shards, seed=seed) as bot:
        observer = Observer(bot, rate=rate)
        for deed, count in _deeds(bot, times):
            await _row(bot, observer, deed, count, rng)
            tell(observer.rows[-1])
        return observer.rows


class _Deed(NamedTuple):
    """``do`` is told the first shard of a worker; ``everybody``: all shards lose their process."""

    what: str
    do: Callable[[int], Awaitable[None]]
    everybody: bool = False


def _deeds(bot: Peer, times: Extent) -> Iterator[tuple[_Deed, int]]:
    async def kill_manager(_: int) -> None:
        bot.kill_manager()

    library = bot.library
    killed = f"{library.worker} at random instants: SIGKILL"
    restarted = f"orderly restart of {library.worker}: {library.restarted}"
    if times.kills:
        yield _Deed(killed, bot.kill), times.kills
    if times.restarts:
        yield _Deed(restarted, bot.restart), times.restarts
    if times.managers and library.manager:
        yield _Deed(f"{library.manager[1]}: SIGKILL", kill_manager, True), times.managers


async def _row(bot: Peer, observer: Observer, deed: _Deed, count: int, rng: random.Random) -> None:
    """Each time at a random instant while all is well, and until the shards are back."""
    workers = range(0, bot.shards, bot.library.share(bot.shards))
    async with observer.row(deed.what, NOTHING) as doing:
        for _ in range(count):
            first = rng.choice(workers)
            await asyncio.sleep(rng.uniform(0.0, _REST))
            async with bot.replaced(range(bot.shards) if deed.everybody else bot.shards_of(first)):
                await deed.do(first)
            doing.done()
