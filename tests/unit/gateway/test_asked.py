# SPDX-License-Identifier: Apache-2.0
"""What libraries send, read as commands."""

import json
from typing import Any

import pytest

from discluster.errors import CommandError
from discluster.gateway.asked import COMMANDS, command_of
from discluster.gateway.commands import (
    Activity,
    Command,
    RequestChannelInfo,
    RequestGuildMembers,
    RequestSoundboardSounds,
    UpdatePresence,
    UpdateVoiceState,
    payload,
)

GUILD = 910_000_000_000_000_000


@pytest.mark.parametrize(
    ("op", "data", "command"),
    [
        pytest.param(
            3,
            {
                "activities": [{"name": "chess", "type": 0, "url": None, "assets": {}}],
                "afk": False,
                "since": 0.0,
                "status": "idle",
            },
            UpdatePresence(status="idle", activities=(Activity(name="chess"),), since=0),
            id="discord.py-presence",
        ),
        pytest.param(
            3,
            {"status": None, "game": {"name": "chess", "type": 3}, "since": 0, "afk": False},
            UpdatePresence(activities=(Activity(name="chess", type=3),), since=0),
            id="discord.py-presence-in-identify",
        ),
        pytest.param(
            3,
            {"since": None, "afk": False, "game": None, "status": "invisible"},
            UpdatePresence(status="invisible"),
            id="hikari-presence",
        ),
        pytest.param(
            8,
            {"guild_id": GUILD, "presences": False, "limit": 0, "query": "", "nonce": "a"},
            RequestGuildMembers(guild_id=GUILD, query="", nonce="a"),
            id="discord.py-chunk",
        ),
        pytest.param(
            8,
            {"guild_id": GUILD, "presences": True, "limit": 5, "user_ids": [7, 8]},
            RequestGuildMembers(guild_id=GUILD, user_ids=(7, 8), presences=True),
            id="discord.py-members-by-id",
        ),
        pytest.param(
            8,
            {"guild_id": str(GUILD), "query": "", "limit": 0, "user_ids": ["7"]},
            RequestGuildMembers(guild_id=GUILD, user_ids=(7,)),
            id="hikari-members-by-id",
        ),
        pytest.param(
            8,
            {"guild_id": str(GUILD), "user_ids": "7"},
            RequestGuildMembers(guild_id=GUILD, user_ids=(7,)),
            id="one-id",
        ),
        pytest.param(
            4,
            {"guild_id": GUILD, "channel_id": 9, "self_mute": True, "self_deaf": False},
            UpdateVoiceState(guild_id=GUILD, channel_id=9, self_mute=True),
            id="voice",
        ),
        pytest.param(
            4,
            {"guild_id": str(GUILD), "channel_id": None},
            UpdateVoiceState(guild_id=GUILD),
            id="voice-leaves",
        ),
        pytest.param(
            31,
            {"guild_ids": [str(GUILD)]},
            RequestSoundboardSounds(guild_ids=(GUILD,)),
            id="sounds",
        ),
        pytest.param(
            43,
            {"guild_id": str(GUILD), "fields": ["status"]},
            RequestChannelInfo(guild_id=GUILD, fields=("status",)),
            id="channel-info",
        ),
    ],
)
def test_what_libraries_send_is_read_as_they_mean_it(
    op: int, data: dict[str, Any], command: Command
) -> None:
    assert command_of(op, json.dumps(data).encode()) == command
    assert json.loads(payload(command, shard=0, shard_count=1))["op"] == op


@pytest.mark.parametrize(
    ("op", "data", "told"),
    [
        (2, "{}", "op 2 is no command"),
        (3, '{"status": "asleep"}', "op 3 cannot be read: Invalid enum value 'asleep'"),
        (4, "{}", "op 4 cannot be read: Object missing required field `guild_id`"),
        (8, '{"guild_id": "seven"}', "op 8 cannot be read: Expected `int`"),
        (8, '{"guild_id": -1}', "op 8 cannot be read: Expected `int` >= 0"),
        (31, "[]", "op 31 cannot be read: Expected `object`, got `array`"),
        (43, "{", "op 43 cannot be read: Input data was truncated"),
    ],
)
def test_what_is_no_command_is_refused_in_words(op: int, data: str, told: str) -> None:
    with pytest.raises(CommandError) as refused:
        command_of(op, data.encode())
    assert str(refused.value).startswith(told)


def test_nothing_but_commands_can_be_asked_for() -> None:
    assert set(COMMANDS) == {3, 4, 8, 31, 43}, "no heartbeat, IDENTIFY or RESUME among them"
