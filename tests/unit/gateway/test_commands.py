# SPDX-License-Identifier: Apache-2.0
"""What a command looks like on the wire, and what is refused before it gets there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.errors import CommandError
from discluster.gateway.commands import (
    MAXIMUM_PAYLOAD,
    Activity,
    Command,
    RequestChannelInfo,
    RequestGuildMembers,
    RequestSoundboardSounds,
    UpdatePresence,
    UpdateVoiceState,
    payload,
    shard_of,
)

GUILD = (7 << 22) + 5  # of shard 7 of 16
USERS = tuple(range(1, 101))


def sent(command: Command) -> tuple[int, Any]:
    frame = json.loads(payload(command, shard=7, shard_count=16))
    assert set(frame) == {"op", "d"}
    return frame["op"], frame["d"]


@pytest.mark.parametrize(
    ("command", "op", "data"),
    [
        (
            UpdatePresence(status="idle", since=5, activities=(Activity(name="chess", type=3),)),
            3,
            {
                "since": 5,
                "activities": [{"name": "chess", "type": 3}],
                "status": "idle",
                "afk": False,
            },
        ),
        (
            UpdateVoiceState(guild_id=GUILD, channel_id=2**63, self_mute=True),
            4,
            {
                "guild_id": str(GUILD),
                "channel_id": str(2**63),
                "self_mute": True,
                "self_deaf": False,
            },
        ),
        (
            UpdateVoiceState(guild_id=GUILD),
            4,
            {"guild_id": str(GUILD), "channel_id": None, "self_mute": False, "self_deaf": False},
        ),
        (
            RequestGuildMembers(guild_id=GUILD, query="", nonce="é" * 16),
            8,
            {"guild_id": str(GUILD), "query": "", "limit": 0, "nonce": "é" * 16},
        ),
        (
            RequestGuildMembers(guild_id=GUILD, query="mi", limit=100, presences=True),
            8,
            {"guild_id": str(GUILD), "query": "mi", "limit": 100, "presences": True},
        ),
        (
            RequestGuildMembers(guild_id=GUILD, user_ids=USERS),
            8,
            {"guild_id": str(GUILD), "user_ids": [str(user) for user in USERS]},
        ),
        (RequestSoundboardSounds(guild_ids=(GUILD,)), 31, {"guild_ids": [str(GUILD)]}),
        (
            RequestChannelInfo(guild_id=GUILD),
            43,
            {"guild_id": str(GUILD), "fields": ["status", "voice_start_time"]},
        ),
    ],
)
def test_command_is_sent_as_discord_documents_it(command: Command, op: int, data: Any) -> None:
    assert sent(command) == (op, data)


@pytest.mark.parametrize(
    ("command", "told", "hint"),
    [
        (RequestGuildMembers(guild_id=GUILD), "either by query or by user_ids", "all of them"),
        (
            RequestGuildMembers(guild_id=GUILD, query="a", limit=5, user_ids=(1,)),
            "either by query or by user_ids",
            "all of them",
        ),
        (RequestGuildMembers(guild_id=GUILD, query="mi"), "limit is 0", "1 to 100"),
        (RequestGuildMembers(guild_id=GUILD, query="mi", limit=101), "limit is 101", "1 to 100"),
        (RequestGuildMembers(guild_id=GUILD, query="", limit=-1), "limit is -1", "0 to 100"),
        (RequestGuildMembers(guild_id=GUILD, user_ids=(*USERS, 101)), "101 members", "at most 100"),
        (
            RequestGuildMembers(guild_id=GUILD, query="", nonce="é" * 17),
            "the nonce has 34 bytes",
            "more than 32",
        ),
        (RequestSoundboardSounds(guild_ids=()), "no guild", "at least one"),
        (RequestChannelInfo(guild_id=GUILD, fields=()), "no field", "status"),
        (RequestChannelInfo(guild_id=8 << 22), "belongs to shard 8, not to shard 7", "shard_of"),
        (RequestSoundboardSounds(guild_ids=(GUILD, 8 << 22)), "belongs to shard 8", "shard_of"),
        (UpdateVoiceState(guild_id=0), "0 is no guild's id", "positive"),
        (UpdateVoiceState(guild_id=2**64), "no guild's id", "64-bit"),
        (UpdatePresence(activities=(Activity(name="x" * 4096),)), "bytes", "at most 4096: split"),
        (
            RequestSoundboardSounds(guild_ids=(GUILD,) * 400),
            "RequestSoundboardSounds has",
            "split it",
        ),
    ],
)
def test_command_beyond_a_documented_bound_is_refused_in_words(
    command: Command, told: str, hint: str
) -> None:
    with pytest.raises(CommandError) as caught:
        payload(command, shard=7, shard_count=16)
    assert told in caught.value.message
    assert hint in str(caught.value.hint)


@given(st.text(max_size=3000))
def test_no_payload_is_longer_than_discord_takes(text: str) -> None:
    command = UpdatePresence(activities=(Activity(name=text, state=text, url=text),))
    try:
        assert len(payload(command, shard=0, shard_count=1)) <= MAXIMUM_PAYLOAD
    except CommandError:
        assert len(json.dumps(text, ensure_ascii=False).encode()) * 3 > MAXIMUM_PAYLOAD - 300


def test_guild_belongs_to_the_shard_that_discord_documents() -> None:
    assert shard_of(197038439483310086, 16) == (197038439483310086 >> 22) % 16
    assert shard_of(GUILD, 16) == 7
    assert shard_of(GUILD, 1) == 0
