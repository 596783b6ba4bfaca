# SPDX-License-Identifier: Apache-2.0
"""Bots at the local gateway of real clusters, against the simulated Discord."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from discluster import places
from discluster.gateway.commands import shard_of
from discluster.simulator import ledger
from tests.scenario.localbot import Bot
from tests.scenario.localscene import TOKEN, Scene, scene
from tests.waiting import wait_for


async def everything_came(stage: Scene, *bots: Bot, shards: Sequence[int]) -> None:
    """To all of these bots together, of all that Discord sent."""
    await stage.quiet()
    sent = set(await stage.sent(*shards))
    assert sent

    def missing() -> set[tuple[int, int]]:
        return sent - {event for bot in bots for event in bot.counted}

    await wait_for(lambda: not missing(), 10, what="all events")


async def untouched(stage: Scene, *, identifies: int) -> None:
    """Discord has seen nothing but the start of the shards."""
    summary = await stage.client.summary()
    assert (summary.identifies, summary.resumes, summary.closes) == (identifies, 0, {})
    assert await stage.client.judgement() == []


@pytest.mark.parametrize("compress", ["", "zlib-stream", "zstd-stream"])
async def test_bot_identifies_and_gets_its_guilds_and_every_event(compress: str) -> None:
    async with scene() as stage:
        await stage.cluster()
        async with stage.bot(compress=compress) as bot:
            await bot.identify(1, 2)
            await bot.until("GUILD_CREATE", 4)
            kind, number, ready = bot.events[0]
            assert (kind, ready["shard"], len(ready["guilds"])) == ("READY", [1, 2], 4)
            assert number >= 1
            await bot.until("MESSAGE_CREATE", 20)
            await everything_came(stage, bot, shards=[1])
            assert len(bot.counted) == len(set(bot.counted))
            positions = [s for _, s, _ in bot.events]
            assert positions == sorted(positions)
            await untouched(stage, identifies=2)


async def test_bot_that_is_killed_and_restarted_ten_times_misses_nothing() -> None:
    async with scene(events_per_second=200) as stage:
        await stage.cluster()
        bots: list[Bot] = []
        for _ in range(11):
            async with stage.bot() as bot:
                bots.append(bot)
                await bot.identify(0, 2)
                await bot.until("MESSAGE_CREATE", 25)
                if len(bots) == 11:
                    await everything_came(stage, *bots, shards=[0])
        await untouched(stage, identifies=2)


async def test_bot_that_resumes_gets_what_it_missed_and_nothing_twice() -> None:
    async with scene(events_per_second=200) as stage:
        await stage.cluster()
        async with stage.bot() as bot:
            await bot.identify(0, 2)
            await bot.until("MESSAGE_CREATE", 20)
        sent = (await stage.client.summary()).sent
        await stage.client.wait_for_summary(lambda s: s.sent > sent + 100, 10)
        assert bot.seq is not None
        async with stage.bot() as again:
            await again.resume(bot.session_id, bot.seq)
            assert again.types()[-1] != "READY"
            await everything_came(stage, bot, again, shards=[0])
            twice = Counter([*bot.counted, *again.counted])
            assert max(twice.values()) == 1
            assert again.types().count("RESUMED") == 1
        await untouched(stage, identifies=2)


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_bot_resumes_across_the_end_of_the_cluster_and_gets_exactly_what_was_sent(
    end: str,
) -> None:
    async with scene(events_per_second=200) as stage:
        host = await stage.cluster()
        async with stage.bot() as bot:
            await bot.identify(0, 2)
            await bot.until("MESSAGE_CREATE", 50)
            await (host.kill() if end == "kill" else host.stop())
            await bot.until_closed()
        if end == "stop":
            assert bot.close_code == 4000
        await host.start()
        assert bot.seq is not None
        async with stage.bot() as again:
            await again.resume(bot.session_id, bot.seq)
            assert 9 not in again.ops
            await again.until("MESSAGE_CREATE", 20)
            await everything_came(stage, bot, again, shards=[0])
            assert max(Counter([*bot.counted, *again.counted]).values()) == 1
        summary = await stage.client.summary()
        assert (summary.identifies, summary.resumes) == (2, 2)
        assert await stage.client.judgement() == []


async def test_bot_that_identifies_after_the_cluster_was_killed_gets_the_image_from_disk() -> None:
    async with scene(events_per_second=200) as stage:
        host = await stage.cluster()
        async with stage.bot() as bot:
            await bot.identify(0, 2)
            await bot.until("GUILD_CREATE", 4)
            await host.kill()
        await host.start()
        async with stage.bot() as again:
            await again.identify(0, 2)
            await again.until("GUILD_CREATE", 4)
            await everything_came(stage, bot, again, shards=[0])
        assert (await stage.client.summary()).identifies == 2


async def test_events_are_kept_while_no_bot_is_there_and_beyond_the_bound_counted() -> None:
    async with scene(events_per_second=300) as stage:
        host = await stage.cluster(keep_age=1)
        sent = (await stage.client.summary()).sent
        await stage.client.wait_for_summary(lambda s: s.sent > sent + 1500, 20)
        await stage.quiet()
        await wait_for(
            lambda: any("were lost to bot" in (v.problem or "") for v in host.views()), 10
        )
        assert "nobody fetched them within 'keep_age'" in host.log()
        async with stage.bot() as bot:
            await bot.identify(0, 2)
            await stage.client.stream(50)
            await bot.until("MESSAGE_CREATE", 5)
            assert len(await stage.sent(0)) > len(bot.counted)


async def test_bot_that_reads_nothing_holds_its_shard_back_and_loses_nothing() -> None:
    async with scene(shards=1, guilds=4, events_per_second=4000) as stage:
        host = await stage.cluster(keep_size=2)
        async with stage.bot() as bot:
            await bot.identify(0, 1)
            await bot.until("MESSAGE_CREATE", 100)
            before = host.memory()
            await bot.stall()
            held = "a bot does not take its events in time; it is held back"
            await wait_for(lambda: [v.problem for v in host.views()] == [held], 20)
            sent = (await stage.client.summary()).sent
            await stage.client.wait_for_summary(lambda s: s.sent > sent + 8000, 20)
            assert host.memory() - before < 24 * 1024 * 1024
            bot.go_on()
            await everything_came(stage, bot, shards=[0])
            assert "lost to bot" not in host.log()
        assert await stage.client.judgement() == []


async def test_new_session_of_discords_invalidates_the_bots_after_what_they_were_owed() -> None:
    async with scene(events_per_second=100) as stage:
        await stage.cluster()
        async with stage.bot() as bot:
            await bot.identify(0, 2)
            await bot.until("MESSAGE_CREATE", 10)
            before = bot.seq or 0
            await stage.client.invalidate(0)
            await wait_for(lambda: 9 in bot.ops, 20)
            assert await stage.client.judgement() == []
            last = bot.seq or 0
            assert last >= before
            async with stage.bot() as again:
                await again.identify(0, 2)
                await again.until("MESSAGE_CREATE", 10)
                assert again.session_id != bot.session_id
                assert (again.seq or 0) > last
                await everything_came(stage, bot, again, shards=[0])
            async with stage.bot() as stale:
                await stale.resume(bot.session_id, last)
                assert 9 in stale.ops


async def test_two_clients_get_all_each_for_itself() -> None:
    async with scene(events_per_second=100) as stage:
        host = await stage.cluster(clients=["bot", "stats"])
        async with stage.bot() as bot:
            await bot.identify(0, 2)
            await bot.until("MESSAGE_CREATE", 20)
            async with stage.bot(client="stats") as stats:
                await stats.identify(0, 2)
                assert stats.resume_url.endswith("/stats")
                assert stats.session_id != bot.session_id
                await everything_came(stage, bot, shards=[0])
                await everything_came(stage, stats, shards=[0])
        assert host.views()[0].problem is None


async def test_shard_that_moves_to_a_sibling_keeps_its_image_and_its_bots_session() -> None:
    async with scene(events_per_second=100) as stage:
        one = await stage.cluster(0)
        two = await stage.cluster(1)
        async with stage.bot() as bot:
            await bot.identify(0, 2)
            await bot.until("MESSAGE_CREATE", 10)
            one.assign()
            assert await bot.until_closed() == 4000
        moved = one.handed_over(0)
        two.assign(1, 0, handover={0: moved})
        await two.until_ready()
        assert bot.seq is not None
        async with stage.bot(host=1) as again, stage.bot(host=1) as new:
            await again.resume(bot.session_id, bot.seq)
            assert 9 not in again.ops
            await new.identify(0, 2)
            await new.until("GUILD_CREATE", 4)
            await everything_came(stage, bot, again, shards=[0])
        assert (await stage.client.summary()).identifies == 2
        assert await stage.client.judgement() == []


async def test_commands_of_a_bot_reach_discord_through_its_shard() -> None:
    async with scene(members=3) as stage:
        await stage.cluster()
        async with stage.bot() as bot:
            presence: dict[str, Any] = {
                "status": "idle",
                "activities": [],
                "since": None,
                "afk": False,
            }
            await bot.identify(0, 2, presence=presence)
            await bot.until("GUILD_CREATE", 4)
            guild = next(int(d["id"]) for kind, _, d in bot.events if kind == "GUILD_CREATE")
            assert shard_of(guild, 2) == 0
            await bot.say(8, {"guild_id": str(guild), "query": "a", "limit": 1})
            await bot.until("GUILD_MEMBERS_CHUNK")
            records = await stage.client.ledger(kinds=["command"])
            ops = [record.op for record in records if isinstance(record, ledger.Command)]
            assert ops == [3, 8]
            await untouched(stage, identifies=2)


async def test_gateway_bot_names_the_url_and_the_shards_of_this_cluster() -> None:
    async with scene() as stage:
        await stage.cluster(1, clients=["bot", "stats"])
        base = f"http://127.0.0.1:{stage.first_port}"
        async with aiohttp.ClientSession(headers={"Authorization": f"Bot {TOKEN}"}) as http:
            for path, url in (("/api/v10", "/"), ("/stats/api/v10", "/stats"), ("", "/")):
                async with http.get(f"{base}{path}/gateway/bot") as answer:
                    found = await answer.json()
                assert found["url"] == f"ws://127.0.0.1:{stage.first_port}{url}"
                assert found["shards"] == 2
                assert found["discluster"] == {"cluster": 0, "shard_ids": [1]}
            async with http.get(f"{base}/nobody/gateway/bot") as answer:
                assert answer.status == 404
                assert "bot, stats" in (await answer.json())["message"]
        async with aiohttp.ClientSession() as http, http.get(f"{base}/gateway/bot") as answer:
            assert answer.status == 401


async def test_unix_socket_serves_as_the_port_does_and_is_gone_with_the_cluster() -> None:
    async with scene() as stage:
        host = await stage.cluster(address=None, unix_socket=True)
        path = places.local_gateway(host.runtime, host.number)
        assert path.stat().st_mode & 0o777 == 0o660
        through = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=through) as http:
            async with http.get("http://bots/gateway") as answer:
                assert await answer.json() == {"url": "ws://bots/"}
            async with http.ws_connect("ws://bots/?v=10&encoding=json") as socket:
                assert (await socket.receive_json())["op"] == 10
        await host.stop()
        assert not path.exists()


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"token": "wrong"}, 4004, "Authentication failed"),
        ({"shard": [0, 3]}, 4010, "the shard count is 2, not 3"),
        ({"intents": 1 | 2}, 4014, "Not in 'intents' of cluster.yaml: GUILD_MEMBERS"),
        ({"intents": "all"}, 4002, "Error while decoding"),
    ],
)
async def test_identify_that_cannot_be_is_refused_in_words(
    more: dict[str, object], code: int, words: str
) -> None:
    async with scene() as stage:
        host = await stage.cluster()
        async with stage.bot() as bot:
            await bot.say(2, {**bot.identity(0, 2), **more})
            assert await bot.until_closed() == code
            assert words in host.log()
