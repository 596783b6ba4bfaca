# SPDX-License-Identifier: Apache-2.0
"""The bots of others start, and what is done to them is counted as it is for our fleet."""

import re
from pathlib import Path

import msgspec
import pytest

from tests.chaos import recordings
from tests.chaos.campaigns import KILLED
from tests.chaos.observer import Observer
from tests.chaos.peers.about import section
from tests.chaos.peers.drivers import recording
from tests.chaos.peers.libraries import (
    DISCORD_PY,
    HIKARI_CLUSTERS,
    LIBRARIES,
    SHARDING_MANAGER,
    Library,
    versions,
)
from tests.chaos.peers.peer import peer
from tests.chaos.peers.rows import Extent, library_rows
from tests.chaos.recorder import RECORD
from tests.chaos.report import document
from tests.chaos.rows import CRASH, NOTHING, Results, Row
from tests.scenario.guardian import programs_of

pytestmark = pytest.mark.timeout(90)

SEED = 20
RATE = 50.0


@pytest.mark.usefixtures("installed")
async def test_killed_process_of_discord_py_loses_what_its_guilds_have_meanwhile() -> None:
    told: list[Row] = []
    extent = Extent(kills=1, restarts=0, managers=0)
    (row,) = await library_rows(
        DISCORD_PY, seed=SEED, rate=RATE, tell=told.append, shards=2, extent=extent
    )
    assert told == [row]
    assert (row.times, row.identifies, row.resumes, row.twice, row.doubled) == (1, 2, 0, 0, 0)
    # It is started again after a second, and both shards take their turn.
    assert len(row.gaps) == 2
    assert 1.0 < row.gaps[0] < row.gaps[1]
    expected = sum(row.gaps) * RATE
    assert row.lost == pytest.approx(expected, rel=0.1)
    assert row.lost < row.sent


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("library", "processes"),
    [
        pytest.param(SHARDING_MANAGER, 2, id="ShardingManager"),
        pytest.param(HIKARI_CLUSTERS, 2, id="hikari-clusters"),
    ],
)
async def test_undisturbed_bot_notes_every_event_and_leaves_nothing_behind(
    library: Library, processes: int
) -> None:
    if library.obstacle() is not None:
        pytest.skip(str(library.obstacle()))
    async with peer(library, shards=2, seed=SEED) as bot:
        observer = Observer(bot, rate=RATE)
        async with observer.row("nothing", NOTHING) as doing:
            assert sorted(bot.workers()) == [0, 1]
            await bot.simulator.wait_for_shards(
                lambda views: all(view.seq > view.guilds + 30 for view in views), 10
            )
        (directory,) = bot.recordings()
        assert len(set(bot.workers().values())) == processes
    row = doing.result
    assert row.sent >= 2 * 29
    assert (row.lost, row.doubled, row.identifies, row.gaps) == (0, 0, 0, ())
    assert programs_of(directory.parent) == []
    assert not directory.exists()


def test_records_of_others_are_read_like_ours(tmp_path: Path) -> None:
    assert recording.RECORD.format == RECORD.format
    notes = recording.Recording(str(tmp_path), first=0, shards=4)
    notes.dispatch("READY", {"shard": [3, 4], "session_id": "f" * 32}, 1)
    guild = 7 << 22
    notes.dispatch("MESSAGE_CREATE", {"guild_id": str(guild), "_count": 5}, 9)
    notes.dispatch("TYPING_START", {"guild_id": str(guild)}, 10)
    found = recordings.read([tmp_path])
    (event,) = found.of(3)
    assert (event.guild, event.number, event.seq) == (guild, 5, 9)
    assert found.sessions[event.session] == "f" * 32


def test_versions_that_are_told_are_those_that_are_pinned() -> None:
    assert [versions(library).split()[0] for library in LIBRARIES] == [
        *("discord.py", "discord.js", "hikari-clusters")
    ]
    assert "hikari 2.0.0" in versions(HIKARI_CLUSTERS)


def test_nothing_is_told_of_others_when_only_ours_was_measured() -> None:
    assert section("", (), rate=100.0, versions={}, absent={}) == ""


def test_document_tells_of_others_apart_and_by_the_same_table() -> None:
    ours = Row(
        subject="ours",
        what=KILLED,
        times=2,
        shards=32,
        sent=1000,
        lost=0,
        doubled=0,
        unasked=0,
        identifies=0,
        resumes=2,
        twice=0,
        gaps=(1.5,),
        verdicts=(),
        seconds=60.0,
        promise=CRASH,
    )
    changes: dict[str, object] = {"subject": DISCORD_PY.title, "shards": 8, "promise": NOTHING}
    theirs = msgspec.structs.replace(ours, lost=78, identifies=8, **changes)
    results = Results(
        rows=(ours, theirs),
        seed=SEED,
        short=False,
        rate=100.0,
        date="today",
        commit="none",
        machine="this one",
        versions={DISCORD_PY.title: "discord.py 2.7.1"},
        absent={HIKARI_CLUSTERS.title: "no Python for it"},
    )
    before, others, after = re.split(
        r"## Libraries of others|## How to read it", document(results), maxsplit=2
    )
    what = f"| {KILLED} | 2 | 1,000"
    assert f"{what} | 0 | 0 | 0 | 0 | 2 | 0 | 1 | 1.50 s | 1.50 s | yes |" in before
    assert f"{what} | 78 | 0 | 0 | 8 | 2 | 0 | 1 | 1.50 s | 1.50 s | – |" in others
    assert f"| ours | {KILLED} | 32 | 0.0 | 0 | 1.50 s |" in others
    assert f"| {DISCORD_PY.title} | {KILLED} | 8 | 4.0 | 39 | 1.50 s |" in others
    assert "discord.py 2.7.1" in others
    assert "**hikari-clusters** was not measured: no Python for it." in others
    assert "; 32 shards with" in after
