# SPDX-License-Identifier: Apache-2.0
"""Bodies, templates, the mix, compression."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from typing import Any

import pytest
import zstandard

from discluster.simulator.compression import make_encoder
from discluster.simulator.events import Catalogue
from discluster.simulator.frames import Opcode
from discluster.simulator.guilds import guild_id
from discluster.simulator.intents import DEFINED_INTENTS, PRIVILEGED_INTENTS, Intent
from discluster.simulator.templates import Literal, ident

CATALOGUE = Catalogue(7)
NO_PRESENCES = DEFINED_INTENTS & ~Intent.GUILD_PRESENCES


def events(intents: int = DEFINED_INTENTS) -> list[dict[str, Any]]:
    return [
        json.loads(template.render(number + 1, guild_id(number), number + 100, True))
        for number, template in enumerate(CATALOGUE.deck(intents))
    ]


def test_every_event_is_compact_json_in_captured_key_order() -> None:
    for number, template in enumerate(CATALOGUE.deck(NO_PRESENCES)):
        for content in (True, False):
            raw = template.render(number, guild_id(number), number, content)
            event = json.loads(raw)
            assert list(event) == ["t", "s", "op", "d"]
            compact = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
            assert raw == compact.encode()
            own = list(event["d"])[:-2]
            assert own == sorted(own, reverse=True)


def test_every_event_carries_sequence_guild_and_its_count_last() -> None:
    for number, event in enumerate(events()):
        assert event["s"] == number + 1
        assert event["d"]["guild_id"] == str(guild_id(number))
        assert list(event["d"])[-1] == "_count"
        assert event["d"]["_count"] == number + 100


def test_new_messages_and_interactions_have_ids_of_their_own() -> None:
    ids = {ident(guild_id(guild), count) for guild in range(50) for count in range(50)}
    assert len(ids) == 2500
    fresh = [event for event in events() if event["t"] in ("MESSAGE_CREATE", "INTERACTION_CREATE")]
    assert len({event["d"]["id"] for event in fresh}) == len(fresh) > 0


def test_without_message_content_messages_are_empty() -> None:
    for template in CATALOGUE.deck(NO_PRESENCES):
        if template.name in ("MESSAGE_CREATE", "MESSAGE_UPDATE"):
            full = json.loads(template.render(1, guild_id(0), 1, True))["d"]
            plain = json.loads(template.render(1, guild_id(0), 1, False))["d"]
            assert full["content"]
            assert plain["content"] == ""
            assert plain["embeds"] == []
            assert full["id"] == plain["id"]


def test_nine_of_ten_events_are_presences_where_they_are_wanted() -> None:
    names = Counter(event["t"] for event in events())
    share = names["PRESENCE_UPDATE"] / names.total()
    assert 0.88 < share < 0.92
    assert Counter(event["t"] for event in events(NO_PRESENCES))["PRESENCE_UPDATE"] == 0


@pytest.mark.parametrize(
    ("intents", "names"),
    [
        (0, {"INTERACTION_CREATE"}),
        (Intent.GUILDS, {"INTERACTION_CREATE", "CHANNEL_UPDATE"}),
        (Intent.GUILD_PRESENCES, {"INTERACTION_CREATE", "PRESENCE_UPDATE"}),
        (
            Intent.GUILD_MESSAGES,
            {"INTERACTION_CREATE", "MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE"},
        ),
    ],
)
def test_only_events_of_the_intents_are_sent(intents: int, names: set[str]) -> None:
    assert {template.name for template in CATALOGUE.deck(intents)} == names


def test_the_same_seed_gives_the_same_events() -> None:
    deck, again, other = (Catalogue(seed).deck(NO_PRESENCES) for seed in (7, 7, 8))
    first, second, third = (
        [template.render(1, 2, 3, True) for template in cards] for cards in (deck, again, other)
    )
    assert first == second != third


def test_guild_create_names_its_guild_everywhere() -> None:
    for template in CATALOGUE.guild_create:
        guild = json.loads(template.render(2, guild_id(5), 0, True))["d"]
        assert guild["id"] == str(guild_id(5)) == guild["roles"][0]["id"]
        assert guild["unavailable"] is False
        assert len(guild) > 32


def test_messages_are_in_a_channel_that_their_guild_has() -> None:
    """Or clients with a cache drop them: discord.js, for one."""
    created = json.loads(CATALOGUE.guild_create[0].render(2, guild_id(5), 0, True))["d"]
    channels = {channel["id"] for channel in created["channels"]}
    assert len(channels) == 2
    named = {
        json.loads(template.render(3, guild_id(5), 1, True))["d"]["channel_id"]
        for template in CATALOGUE.deck(NO_PRESENCES)
        if template.name.startswith(("MESSAGE_", "TYPING_", "INTERACTION_"))
    }
    assert named
    assert named <= channels


def test_percent_signs_in_bodies_survive() -> None:
    literal = Literal("X", b'{"a":"100 %d %%"}')
    assert json.loads(literal.render(3, 0, 0, True))["d"] == {"a": "100 %d %%"}
    assert any(" % " in event["d"].get("content", "") for event in events(NO_PRESENCES))


def test_zlib_stream_is_one_context_flushed_for_each_payload() -> None:
    opcode, encode = make_encoder("zlib-stream", zlib_level=6, zstd_level=3)
    assert opcode is Opcode.BINARY
    context = zlib.decompressobj()
    for number in range(50):
        payload = CATALOGUE.deck(NO_PRESENCES)[number].render(number, 1, 1, True)
        sent = encode(payload)
        assert sent.endswith(b"\x00\x00\xff\xff")
        assert sent.startswith(b"\x78\x9c") == (number == 0)
        assert context.decompress(sent) == payload
    with pytest.raises(zlib.error):
        zlib.decompressobj().decompress(encode(b"late"))


def test_zstd_stream_is_one_frame_that_never_ends() -> None:
    opcode, encode = make_encoder("zstd-stream", zlib_level=6, zstd_level=3)
    assert opcode is Opcode.BINARY
    context = zstandard.ZstdDecompressor().decompressobj()
    for number in range(50):
        payload = CATALOGUE.deck(NO_PRESENCES)[number].render(number, 1, 1, True)
        sent = encode(payload)
        # As captured: no size, no checksum, a window of 256 KiB.
        assert sent.startswith(b"\x28\xb5\x2f\xfd\x00\x40") == (number == 0)
        assert context.decompress(sent) == payload
    assert not context.eof


@pytest.mark.parametrize("scheme", [None, "gzip"])
def test_other_schemes_mean_plain_text(scheme: str | None) -> None:
    opcode, encode = make_encoder(scheme, zlib_level=6, zstd_level=3)
    assert opcode is Opcode.TEXT
    assert encode(b"{}") == b"{}"


def test_intents_add_up_to_what_discord_lists() -> None:
    assert DEFINED_INTENTS == 53_608_447
    assert DEFINED_INTENTS & ~PRIVILEGED_INTENTS == 53_575_421
