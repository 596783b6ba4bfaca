# SPDX-License-Identifier: Apache-2.0
"""Which types a client does not get, by its intents."""

from typing import get_args

from discluster.cluster.local.interests import missing, unwanted
from discluster.gateway.intents import Intent, intent_bits

ALL = intent_bits(get_args(Intent))


def test_client_with_the_clusters_intents_gets_everything() -> None:
    assert unwanted(513, of=513) == frozenset()
    assert unwanted(ALL, of=ALL) == frozenset()


def test_type_of_two_intents_comes_with_either() -> None:
    one = unwanted(intent_bits(["DIRECT_MESSAGES"]), of=ALL)
    assert "MESSAGE_CREATE" not in one
    assert "MESSAGE_DELETE_BULK" in one
    assert "MESSAGE_CREATE" in unwanted(intent_bits(["GUILDS"]), of=ALL)


def test_what_comes_without_an_intent_comes_to_everybody() -> None:
    none = unwanted(0, of=ALL)
    assert "GUILD_CREATE" in none
    assert not {"GUILD_MEMBER_UPDATE", "INTERACTION_CREATE", "USER_UPDATE", "NEW"} & none


def test_intents_that_are_missing_are_named() -> None:
    assert missing(513, of=513) == []
    assert missing(intent_bits(["GUILDS", "GUILD_MEMBERS"]) | 1 << 40, of=1) == [
        "GUILD_MEMBERS",
        "0x10000000000",
    ]
