# SPDX-License-Identifier: Apache-2.0
"""What is sent, where it is sent to, and what of an operator's settings is refused."""

import json
from typing import Any

import msgspec
import pytest

from discluster.errors import ConfigurationError
from discluster.gateway import payloads
from discluster.gateway.closecodes import describe
from discluster.gateway.identity import MAXIMUM_PRESENCE, Identity
from discluster.gateway.urls import dial_url, host, is_gateways, usable_resume_url
from discluster.secret import Secret
from tests.unit.gateway.fakes import TOKEN, plain_identity


def test_heartbeat() -> None:
    assert json.loads(payloads.heartbeat(None)) == {"op": 1, "d": None}
    assert json.loads(payloads.heartbeat(2**60)) == {"op": 1, "d": 2**60}


def test_identify_names_everything_that_discord_requires() -> None:
    presence = msgspec.Raw(b'{"status":"idle","activities":[],"since":null,"afk":true}')
    identity = plain_identity(presence=presence, large_threshold=250)
    assert json.loads(payloads.identify(identity, shard=3, shard_count=16)) == {
        "op": 2,
        "d": {
            "token": TOKEN,
            "properties": {"os": "linux", "browser": "discluster", "device": "discluster"},
            "intents": 513,
            "large_threshold": 250,
            "shard": [3, 16],
            "presence": {"status": "idle", "activities": [], "since": None, "afk": True},
        },
    }


def test_identify_fits_into_discords_limit_with_the_largest_presence() -> None:
    presence = msgspec.Raw(b'{"x":"' + b"y" * (MAXIMUM_PRESENCE - 8) + b'"}')
    identity = plain_identity(presence=presence, token=Secret("t" * 120), intents=2**31)
    assert len(payloads.identify(identity, shard=65535, shard_count=65536)) <= 4096


def test_resume() -> None:
    payload = payloads.resume(Secret("tok"), session_id="abc", seq=9)
    assert json.loads(payload) == {
        "op": 6,
        "d": {"token": "tok", "session_id": "abc", "seq": 9},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"large_threshold": 49},
        {"large_threshold": 251},
        {"intents": -1},
        {"presence": msgspec.Raw(b"[]")},
        {"presence": msgspec.Raw(b"{")},
        {"presence": msgspec.Raw(b'{"x":"' + b"y" * MAXIMUM_PRESENCE + b'"}')},
    ],
)
def test_identity_that_discord_would_not_take_is_refused_with_a_hint(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plain_identity(**changes)
    assert caught.value.hint


def test_identity_does_not_show_its_token() -> None:
    assert TOKEN not in repr(Identity(token=Secret(TOKEN), intents=0))


@pytest.mark.covers("F05")
@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("wss://gateway.discord.gg", "wss://gateway.discord.gg/?v=10&encoding=json"),
        ("wss://gateway.discord.gg/", "wss://gateway.discord.gg/?v=10&encoding=json"),
        ("ws://127.0.0.1:9443/edge-b", "ws://127.0.0.1:9443/edge-b?v=10&encoding=json"),
        ("wss://[::1]:1/x?v=9", "wss://[::1]:1/x?v=10&encoding=json"),
    ],
)
def test_f05_dial_url(base: str, expected: str) -> None:
    assert dial_url(base, "none") == expected
    assert dial_url(base, "zstd-stream") == expected + "&compress=zstd-stream"


@pytest.mark.parametrize(
    ("offered", "usable"),
    [
        ("wss://gateway-us-east1-c.discord.gg", True),
        ("wss://h:443/path", True),
        ("ws://gateway.discord.gg", False),
        ("wss://user:word@h", False),
        ("wss://h?x=1", False),
        ("wss://h#x", False),
        ("wss://h h", False),
        ("wss://h\n", False),
        ("wss://h:99999", False),
        ("wss://[::1", False),
        ("wss://" + "h" * 300, False),
        ("wss://ü", False),
        ("", False),
        (None, False),
        (b"wss://h", False),
    ],
)
def test_usable_resume_url(offered: object, usable: bool) -> None:
    result = usable_resume_url(offered, gateway_url="wss://gateway.discord.gg")
    assert (result == offered) if usable else (result is None)


@pytest.mark.parametrize(
    ("brought", "gateway", "safe"),
    [
        ("wss://gateway-us-east1-c.discord.gg", "wss://gateway.discord.gg", True),
        ("wss://GATEWAY.discord.gg:443", "wss://gateway.discord.gg/", True),
        ("ws://gateway-us-east1-c.discord.gg", "wss://gateway.discord.gg", False),
        ("wss://gateway.discord.gg.evil.example", "wss://gateway.discord.gg", False),
        ("wss://evil-discord.gg", "wss://gateway.discord.gg", False),
        ("wss://discord.gg", "wss://gateway.discord.gg", True),
        ("wss://192.0.2.7", "wss://gateway.discord.gg", False),
        ("wss://h?x", "wss://gateway.discord.gg", False),
        # A rehearsal: there is no domain to be within.
        ("ws://127.0.0.2:9/edge-a", "ws://127.0.0.1:8", True),
        ("ws://elsewhere:9", "ws://discord:8", True),
        ("ws://[::2]:9", "ws://[::1]:8", True),
    ],
)
def test_address_from_another_machine_must_be_below_the_gateways_domain(
    brought: str, gateway: str, safe: bool
) -> None:
    assert is_gateways(brought, gateway_url=gateway) is safe


def test_plain_resume_url_is_usable_where_the_gateway_is_plain() -> None:
    assert usable_resume_url("ws://127.0.0.1:1/b", gateway_url="ws://127.0.0.1:1")


def test_host_of_a_url_is_shown_without_credentials() -> None:
    assert host("wss://user:word@h:1/x?y") == "h:1"


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (None, "", "the connection was lost without a close code"),
        (4000, "", "Discord closed the connection (4000 Unknown error)"),
        (4009, "Session timed out.", "Discord closed the connection (4009 Session timed out)"),
        (4999, "new", "Discord closed the connection (4999 no meaning known: new)"),
    ],
)
def test_close_in_words(code: int | None, reason: str, expected: str) -> None:
    assert describe(code, reason) == expected
