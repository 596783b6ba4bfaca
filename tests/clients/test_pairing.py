# SPDX-License-Identifier: Apache-2.0
"""Stock libraries, with the lines of docs/pairing.md, on the local gateway instead of Discord.

What was sent, and what reached Discord, is asked of the simulator; what arrived, of the files that
the bots write line by line.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from discluster.simulator import ledger
from tests.clients.pairing.bot import LIBRARIES, Bot, Library
from tests.clients.pairing.scene import GUILDS, SHARD_COUNT, SHARDS, Pairing, paired
from tests.waiting import wait_for

PATIENCE: Final = 30.0
KILLS: Final = 10
# Its REST client cannot be told of an API without TLS.
HTTPS_ONLY: Final[frozenset[Library]] = frozenset({"eris"})
# Each compression once: discord.js, @discordjs/ws and eris as they are here ask for none, hikari
# for zstd-stream. discord.py would, too, and takes zlib-stream without a module for zstd.
COMPRESS: Final[dict[Library, str]] = {"discord_py": "zlib-stream"}
GUILDS_HERE: Final = GUILDS * len(SHARDS) // SHARD_COUNT

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("installed")]


@asynccontextmanager
async def shown(pairing: Pairing) -> AsyncIterator[None]:
    """When what follows fails, with all that everybody said."""
    try:
        yield
    except BaseException:
        pairing.show()
        raise


@pytest.mark.parametrize("library", LIBRARIES)
async def test_documented_lines_pair_a_stock_library(tmp_path: Path, library: Library) -> None:
    """It logs in at the cluster, gets its guilds and events, and its commands reach Discord."""
    async with paired(tmp_path / "run") as pairing, shown(pairing):
        bot = pairing.bot(library, asks=True, compress=COMPRESS.get(library, ""))
        async with bot:
            await bot.attached(SHARDS)
            await bot.until(lambda: ("4",) in bot.given("members"), what="the members asked for")
            await bot.until(lambda: (str(GUILDS_HERE),) in bot.given("cached"), what="all guilds")
            if library not in HTTPS_ONLY:
                await answers(pairing, int(bot.given("guild")[0][0]))
            await everything(pairing, bot)
        assert sorted(bot.given("ready")) == [(str(shard),) for shard in SHARDS]
        assert bot.given("message")
        await commands_arrived(pairing)
        await pairing.nothing_but_its_own_start()
        assert "/api/v10/gateway/bot" not in await pairing.requests()


async def answers(pairing: Pairing, guild: int) -> None:
    """Somebody says `!ping` there, and the bot answers through Discord's API."""
    await pairing.simulator.say(guild, "!ping")
    answer = await pairing.simulator.wait_for_record(
        lambda record: isinstance(record, ledger.Rest), PATIENCE
    )
    assert isinstance(answer, ledger.Rest)
    assert answer.path == f"/channels/{guild}/messages"
    assert answer.body["content"] == "pong"


async def commands_arrived(pairing: Pairing) -> None:
    """A presence on each shard, and the request for members, through the cluster's shards."""
    commands = await pairing.commands()
    presences = {record.shard for record in commands if record.op == 3}
    assert presences == {(shard, SHARD_COUNT) for shard in SHARDS}
    assert {record.op for record in commands} == {3, 8}


async def everything(pairing: Pairing, bot: Bot, *, shards: Sequence[int] = SHARDS) -> None:
    """The stream of events ends, and the bot has been given all that was ever sent to them."""

    async def enough() -> bool:
        return len(await pairing.sent(shards)) > 50

    await wait_for(enough, PATIENCE, what="more than 50 events were sent")
    await pairing.simulator.stream(0)
    sent = await pairing.sent(shards)
    await bot.until(partial(bot.has, sent), what=f"all of {len(sent)} events")


async def test_bots_killed_ten_times_under_load_lose_nothing_and_discord_sees_nothing(
    tmp_path: Path,
) -> None:
    """All libraries beside one cluster, each a client of its own, each killed whenever it has been
    given events.
    """
    names = [library.replace("_", "-") for library in LIBRARIES]
    async with paired(tmp_path / "run", clients=names) as pairing, shown(pairing):
        bots = [
            pairing.bot(library, client=name, compress=COMPRESS.get(library, ""))
            for library, name in zip(LIBRARIES, names, strict=True)
        ]
        async with asyncio.TaskGroup() as group:
            for bot in bots:
                group.create_task(kill_again_and_again(bot))
        for bot in bots:
            async with bot:
                await everything(pairing, bot)
        await pairing.nothing_but_its_own_start()
        # hikari and eris have a presence in each IDENTIFY.
        assert {command.op for command in await pairing.commands()} == {3}


async def kill_again_and_again(bot: Bot) -> None:
    """With SIGKILL, each time soon after it is back and under load."""
    for _ in range(KILLS):
        async with bot:
            await bot.attached(SHARDS)
            await bot.until(lambda: len(bot.given("event")) > 10, what="events")


async def test_saved_sessions_are_resumed_after_a_kill(tmp_path: Path) -> None:
    """By @discordjs/ws: no READY and no guilds then, and no event is missing."""
    async with paired(tmp_path / "run") as pairing, shown(pairing):
        bot = pairing.bot("discordjs_ws")
        async with bot:
            await bot.attached(SHARDS)
            await bot.until(lambda: len(bot.saved()) == len(SHARDS), what="its sessions saved")
            before = len(bot.given("event"))
            await bot.until(lambda: len(bot.given("event")) > before, what="more events")
        async with bot:
            await bot.attached(SHARDS)
            await everything(pairing, bot)
            assert len(bot.given("resumed")) == len(SHARDS)
            assert bot.given("ready") == bot.given("guild") == []
        await pairing.nothing_but_its_own_start()


@pytest.mark.parametrize("library", ["discord_js", "hikari_bot"])
async def test_bot_ends_when_its_cluster_runs_other_shards_and_comes_back_with_those(
    tmp_path: Path, library: Library
) -> None:
    """`watch` of discluster.mjs and local_gateway.py."""
    async with paired(tmp_path / "run") as pairing, shown(pairing):
        bot = pairing.bot(library)
        async with bot:
            await bot.attached(SHARDS)
            pairing.give(SHARDS[:2])
            await bot.ended()
        async with bot:
            await bot.attached(SHARDS[:2])
            assert sorted(bot.given("ready")) == [(str(shard),) for shard in SHARDS[:2]]
            await everything(pairing, bot, shards=SHARDS[:2])
