# SPDX-License-Identifier: Apache-2.0
"""Clients that nobody here wrote take the simulator for Discord, and the oracles judge them right.

Each runs its stock code in a process of its own. What one is accused of stands in ACCUSED with the
line of its source that does it, so that a false accusation fails the test, and so does an oracle
that no longer sees the breach.
"""

from typing import Any, Final

import pytest

from discluster.simulator import ledger
from discluster.simulator.guilds import guild_id
from tests.clients.conftest import GUILDS, PATIENCE, Meet, Meeting
from tests.clients.foreign import Compression, Library, Report
from tests.waiting import wait_for

pytestmark = pytest.mark.timeout(120)

# What the gateway calls each compression in its URL.
SCHEMES: Final = {
    "none": None,
    "payload": None,
    "zlib": "zlib-stream",
    "zstd": "zstd-stream",
}

ACCUSED: Final[dict[Library, dict[str, set[str]]]] = {
    # eris/lib/gateway/Shard.js:317 and 544: `token: this._token`, which begins with "Bot ".
    "eris": {
        "STRICT": {
            "bot-prefix: the token in IDENTIFY begins with 'Bot '",
            "bot-prefix: the token in RESUME begins with 'Bot '",
        }
    },
}

UNSPREAD: Final = "the first heartbeats of 24 connections are not spread evenly"
# Who does not wait `heartbeat_interval * jitter` before the first heartbeat, as Discord asks.
# (Discord: Gateway, Sending Heartbeats.)
WITHOUT_JITTER: Final[dict[Library, str]] = {
    "discord_py": "discord/gateway.py, received_message: 'send a heartbeat immediately'",
    "hikari_bot": "hikari/impl/shard.py, _heartbeat: beats before it first sleeps",
    "eris": "eris/lib/gateway/Shard.js:426: setInterval, so after one whole interval",
}


async def recover(meeting: Meeting, *, invalidate: bool) -> None:
    """A shard loses its TCP connection, another is told to reconnect, a third loses its session."""
    simulator = meeting.simulator
    assert await simulator.drop(1) == 1
    assert await simulator.reconnect(2) == 1
    if invalidate:
        assert await simulator.invalidate(3) == 1
    await meeting.said("resumed", {1, 2})
    if invalidate:
        await wait_for(
            lambda: meeting.client.heard("ready").count(3) == 2, PATIENCE, what="READY again"
        )
    await simulator.wait_for_connected(meeting.shards, PATIENCE)


async def check_sessions(meeting: Meeting, *, invalidated: int) -> None:
    """Nobody identified but who had to; everybody else was resumed."""
    identifies = await meeting.records("identify")
    assert all(record.accepted for record in identifies)
    assert sorted(record.shard[0] for record in identifies) == sorted(
        [*range(meeting.shards), *[3] * invalidated]
    )
    resumes = await meeting.records("resume")
    assert sorted(record.shard[0] for record in resumes) == [1, 2]
    assert all(record.accepted for record in resumes)
    opened = {record.connection: record for record in await meeting.records("open")}
    for resume in resumes:
        assert opened[resume.connection].path.startswith("/edge-"), "the resume URL was not used"
    assert len(await meeting.records("resumed")) == 2


async def check_events(meeting: Meeting, report: Report, *, objects: bool) -> None:
    """Everything that was sent was received, once and in order."""
    assert report.counts == await meeting.sent()
    assert sum(map(len, report.counts.values())) > 50
    assert set(report.arrived) == {str(guild_id(number)) for number in range(GUILDS)}
    assert report.messages["sent"] > 0
    if objects:
        assert report.messages["made"] == report.messages["sent"]
        assert report.guilds == GUILDS


@pytest.mark.parametrize(
    ("library", "compress", "invalidate", "settings"),
    [
        # One shard each 5 s, by discord.py's own hook; at once where that is overridden.
        pytest.param("discord_py", "zlib", True, {"max_concurrency": 1}, id="discord.py-zlib"),
        pytest.param(
            *("discord_py", "zstd", False, {"identify_interval": 0.0, "tls": True}),
            id="discord.py-zstd",
        ),
        pytest.param("discordjs_ws", "none", True, {"max_concurrency": 2}, id="ws-none"),
        pytest.param("discordjs_ws", "payload", False, {}, id="ws-payload"),
        pytest.param("discordjs_ws", "zlib", False, {"tls": True}, id="ws-zlib"),
        pytest.param("discord_js", "none", True, {}, id="discord.js-none"),
        pytest.param("hikari_bot", "zstd", False, {}, id="hikari-zstd"),
        # Whether Discord tolerates "Bot " is not known; eris's users at least live with it.
        pytest.param(
            *("eris", "none", False, {"reject_bot_prefix_in_resume": False}), id="eris-none"
        ),
    ],
)
async def test_stock_client_takes_the_simulator_for_discord(
    meet: Meet,
    library: Library,
    compress: Compression,
    invalidate: bool,
    settings: dict[str, Any],
) -> None:
    """It reaches READY on all shards, and loses no event to the loss of connections."""
    settings = {"max_concurrency": 4, **settings}
    paced = "identify_interval" not in settings
    meeting = await meet(library, compress=compress, paced=paced, **settings)
    await meeting.said("ready", range(meeting.shards))
    await recover(meeting, invalidate=invalidate)
    await meeting.beats()
    report = await meeting.everything()
    assert {record.query.get("compress") for record in await meeting.records("open")} == {
        SCHEMES[compress]
    }
    await check_sessions(meeting, invalidated=int(invalidate))
    await check_events(meeting, report, objects=library != "discordjs_ws")
    assert await meeting.oracles() == ACCUSED.get(library, {})
    assert await meeting.client.stop() == 0


@pytest.mark.parametrize(
    "library", ["discord_py", "discordjs_ws", "discord_js", "hikari_bot", "eris"]
)
async def test_missing_jitter_is_seen_in_those_who_lack_it_only(
    meet: Meet, library: Library
) -> None:
    meeting = await meet(
        library,
        shards=24,
        paced=False,
        max_concurrency=24,
        identify_interval=0.0,
        heartbeat_interval=1.0,
        events_per_second=0.0,
    )
    await meeting.said("ready", range(24))
    await meeting.beats()
    accused = await meeting.oracles()
    assert accused.pop("O-11", set()) == ({UNSPREAD} if library in WITHOUT_JITTER else set())
    assert set(accused) == ({"STRICT"} if library == "eris" else set())
    assert await meeting.client.stop() == 0


async def test_eris_identifies_at_once_and_in_place_after_invalid_session(meet: Meet) -> None:
    """eris/lib/gateway/Shard.js, onPacket: INVALID_SESSION is answered with `this.identify()`."""
    meeting = await meet("eris", compress="none", max_concurrency=4)
    await meeting.said("ready", range(meeting.shards))
    # Its RESUME is refused for the "Bot " in front of the token, so it hears INVALID_SESSION.
    await meeting.simulator.drop(1)
    await refused(meeting)
    accused = await meeting.oracles()
    assert set(accused) == {"O-01", "O-04", "O-06", "STRICT"}
    assert all(text.startswith("identify-on-resume-host") for text in accused["O-04"])
    assert all("after INVALID_SESSION" in text for text in accused["O-06"])


async def test_hikari_identifies_out_of_turn_after_invalid_session(meet: Meet) -> None:
    """hikari/impl/shard.py, _keep_alive: a back-off of its own; only start-up keeps to the 5 s."""
    meeting = await meet("hikari_bot", compress="zstd", max_concurrency=4)
    await meeting.said("ready", range(meeting.shards))
    await meeting.simulator.invalidate(3)
    await refused(meeting)
    accused = await meeting.oracles()
    assert set(accused) == {"O-01"}
    assert all(text.startswith("lane 3: only ") for text in accused["O-01"])


async def refused(meeting: Meeting) -> None:
    """An IDENTIFY came too early."""
    await meeting.simulator.wait_for_record(
        lambda record: isinstance(record, ledger.Identify) and record.reason == "too-soon",
        PATIENCE,
    )
