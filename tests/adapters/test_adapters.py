# SPDX-License-Identifier: Apache-2.0
"""The bots of examples/, as they are, in a real cluster process."""

import json
import re
import textwrap
from pathlib import Path
from typing import Final

import pytest

from tests.adapters import redirected
from tests.adapters.running import GUILDS, MEMBERS, SHARDS, Library, Running, guild_of, running
from tests.clients import installation
from tests.scenario.processes import REPOSITORY, run

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("installed")]

DOCUMENT: Final = REPOSITORY / "docs" / "adapters.md"
FLAGS: Final = re.MULTILINE | re.DOTALL

both = pytest.mark.parametrize("library", ["discord.py", "hikari"])


async def asked_of_discord(bot: Running) -> list[tuple[int, int]]:
    """Op and shard of all commands."""
    return [(record.op, record.shard[0]) for record in await bot.records("command")]


async def starts(bot: Running) -> tuple[int, int]:
    """How often shards began anew, and how often they went on."""
    summary = await bot.simulator.summary()
    return summary.identifies, summary.resumed


@both
async def test_example_answers_over_http_and_sends_through_the_shards(
    library: Library, tmp_path: Path
) -> None:
    async with running(library, tmp_path) as bot:
        await bot.know(GUILDS)
        for shard in range(SHARDS):
            assert await bot.asked(guild_of(shard), "!ping") == f"pong from shard {shard}"
        assert sorted(await asked_of_discord(bot)) == [(3, 0), (3, 1)], "its first presence"
        assert await bot.asked(guild_of(1), "!members") == f"{MEMBERS} members"
        assert await bot.asked(guild_of(1), redirected.LEAVE) == "left"
        assert await bot.asked(guild_of(0), "!look dnd") == "looks dnd"
        [*_, chunk, voice, first, second] = await asked_of_discord(bot)
        assert (chunk, voice) == ((8, 1), (4, 1))
        assert sorted([first, second]) == [(3, 0), (3, 1)]
        put = [r for r in await bot.records("rest") if r.method == "PUT"]
        assert [r.body[0]["name"] for r in put] == ["hello"], "told once, by shard 0"
        assert await bot.simulator.judgement() == []
        dialled = {record.user_agent for record in await bot.records("open")}
        assert len(await bot.records("open")) == SHARDS
        assert all("discluster" in agent for agent in dialled), "its gateway code is unused"
        assert await bot.service.stop() == 0


@both
async def test_caches_are_full_after_a_restart_and_cost_a_new_session_only_without_image(
    library: Library, tmp_path: Path
) -> None:
    async with running(library, tmp_path) as bot:
        await bot.know(GUILDS)
        assert await bot.service.stop() == 0
        await bot.start()
        await bot.know(GUILDS)
        assert await bot.asked(guild_of(1), "!ping") == "pong from shard 1"
        assert await bot.asked(guild_of(1), "!members") == f"{MEMBERS} members"
        assert await starts(bot) == (SHARDS, SHARDS)
        assert await bot.simulator.judgement() == []

        await bot.service.stop()
        images = sorted((bot.state / "clusters").glob("*/image-*"))
        assert len(images) == SHARDS
        images[0].unlink()
        await bot.start()
        await bot.until(lambda: bot.anew(0), "a new session of the shard without an image")
        await bot.know(GUILDS)
        assert await starts(bot) == (SHARDS + 1, 2 * SHARDS)
        # The one thing that looks like an accident is meant: a session is given up for a new one.
        assert [verdict.text for verdict in await bot.simulator.judgement()] == [
            f"shard (0, {SHARDS}) closed with 1000, and came back"
        ]


@both
async def test_listener_loses_no_event_to_kills_under_load(
    library: Library, tmp_path: Path
) -> None:
    async with running(library, tmp_path, events_per_second=150.0) as bot:
        for _ in range(3):
            before = len(await bot.sent())

            async def more(before: int = before) -> bool:
                return len(redirected.read(bot.notes)) > before + 60

            await bot.until(more, "some dozen events")
            await bot.service.kill()
            await bot.start()
        await bot.everything_noted()
        await bot.know(GUILDS)
        assert await starts(bot) == (SHARDS, 3 * SHARDS)


@both
async def test_caches_follow_a_shard_that_goes_comes_back_and_begins_anew(
    library: Library, tmp_path: Path
) -> None:
    async with running(library, tmp_path) as bot:
        await bot.know(GUILDS)
        await bot.assign(0)
        await bot.know(GUILDS // SHARDS, shards=[0])
        await bot.assign(0, 1)
        await bot.know(GUILDS)
        assert await starts(bot) == (SHARDS, 1)

        await bot.simulator.invalidate(1)
        await bot.until(lambda: bot.anew(1), "a new session")
        await bot.know(GUILDS)
        assert await bot.asked(guild_of(1), "!ping") == "pong from shard 1"


async def test_client_that_does_not_shard_knows_the_guilds_of_all_shards(tmp_path: Path) -> None:
    async with running("discord.py", tmp_path, bot="tests.adapters.plain_bot") as bot:
        await bot.know(GUILDS, shards=[])
        assert await bot.asked(guild_of(1), "!members") == f"{MEMBERS} members"
        assert await bot.asked(guild_of(0), "!look") == "looks dnd"
        assert sorted(await asked_of_discord(bot)) == [(3, 0), (3, 1), (8, 1)]
        await bot.simulator.invalidate(0)
        await bot.until(lambda: bot.anew(0), "a new session")
        await bot.know(GUILDS, shards=[])


@both
async def test_bot_of_the_document_answers(library: Library, tmp_path: Path) -> None:
    text = DOCUMENT.read_text()
    [module] = re.findall(rf"^```python\n# our_bot.py, with {library}\n(.*?)^```$", text, FLAGS)
    [settings] = {part.strip() for part in re.findall(r"^((?:    \w+: .*\n)+)", text, re.MULTILINE)}
    (tmp_path / "our_bot.py").write_text(module)
    async with running(
        library, tmp_path, bot="our_bot", config=textwrap.dedent(f"    {settings}\n")
    ) as bot:
        assert await bot.asked(guild_of(1), "!ping") == "pong"


@pytest.mark.parametrize(
    ("library", "told"),
    [
        (
            "discord",
            {
                "another kind": "DiscordPy gets 'object' (it is for a discord.Client, ",
                "another inside": "discord.py 2.7.1 lacks what is known of it: GUILD_CREATE (",
                "another version": "discord.py 99.0 is not known here (Discluster knows discord",
            },
        ),
        (
            "hikari",
            {
                "another kind": "Hikari gets 'object' (it is for a hikari.GatewayBot)",
                "another inside": "hikari 2.7.0 lacks what is known of it: _shards (",
                "another version": "hikari 99.0 is not known here (Discluster knows hikari 2.3.*, ",
            },
        ),
    ],
)
async def test_bot_that_cannot_be_fed_is_told_in_words(library: str, told: dict[str, str]) -> None:
    environment = str(installation.PYTHON.parent.parent)
    ended = await run("tests.adapters.wrong", environment, library)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert said.keys() == told.keys()
    assert [words for kind, words in told.items() if not said[kind].startswith(words)] == []


@both
async def test_token_that_discord_rejects_is_told_at_the_start(
    library: Library, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError) as ended:
        async with running(library, tmp_path, tokens=("MTAw.another.token",)):
            pass
    assert " ended with 70" in str(ended.value)
    assert "error: Discord does not take the " in str(ended.value)
