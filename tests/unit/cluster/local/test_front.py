# SPDX-License-Identifier: Apache-2.0
"""Who asks for what, by the path, and what is answered."""

import json
from typing import Any

import pytest

from discluster.cluster.local.encoding import Plain, ZlibStream, ZstdStream
from discluster.cluster.local.front import Front, Upgrade
from discluster.cluster.local.head import HeadError, read_request
from discluster.cluster.local.judging import Facts
from discluster.cluster.local.paths import Place, place
from discluster.secret import Secret
from tests.unit.cluster.local.test_head import HANDSHAKE

CLIENTS = ("bot", "stats")
FACTS = Facts(shard_count=64, shards=(13, 12), intents=513)
FRONT = Front(cluster=3, clients=CLIENTS, tokens=(Secret("secret"),), host="127.0.0.1:7503")


def answer(head: str, facts: Facts = FACTS) -> bytes | Upgrade:
    request = read_request(head.encode())
    assert request is not None
    return FRONT.answer(request, facts)


def asked(path: str, *headers: str, facts: Facts = FACTS) -> Any:
    lines = [f"GET {path} HTTP/1.1", *headers]
    response = answer("\r\n".join(lines) + "\r\n\r\n", facts)
    assert isinstance(response, bytes)
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return json.loads(body)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/", Place("bot", "socket")),
        ("/bot", Place("bot", "socket")),
        ("/stats/", Place("stats", "socket")),
        ("/gateway", Place("bot", "gateway")),
        ("/gateway/bot", Place("bot", "gateway/bot")),
        ("/api/v10/gateway/bot", Place("bot", "gateway/bot")),
        ("/v9/gateway/bot", Place("bot", "gateway/bot")),
        ("/stats/api/v10/gateway/bot", Place("stats", "gateway/bot")),
        ("/stats/gateway", Place("stats", "gateway")),
        ("/nobody", None),
        ("/api/v10/users/@me", None),
        ("/stats/bot", None),
    ],
)
def test_path_names_the_client_and_what_it_asks_for(path: str, found: Place | None) -> None:
    assert place(path, CLIENTS) == found


def test_gateway_bot_lets_all_shards_identify_at_once_and_names_those_of_the_cluster() -> None:
    found = asked("/stats/api/v10/gateway/bot", "Authorization: Bot secret", "Host: [::1]:9")
    assert found["url"] == "ws://[::1]:9/stats"
    assert found["shards"] == 64
    assert found["session_start_limit"]["max_concurrency"] >= 64
    assert found["discluster"] == {"cluster": 3, "shard_ids": [12, 13]}


def test_gateway_needs_no_token_and_an_odd_host_is_not_repeated() -> None:
    assert asked("/gateway", "Host: evil/x")["url"] == "ws://127.0.0.1:7503/"


@pytest.mark.parametrize(
    ("path", "header", "facts", "status", "words"),
    [
        ("/gateway/bot", "Authorization: Bot wrong", FACTS, 401, "Unauthorized"),
        ("/gateway/bot", "Accept: x", FACTS, 401, "Unauthorized"),
        ("/other", "Accept: x", FACTS, 404, "are bot, stats"),
        ("/", "Accept: x", FACTS, 426, "WebSocket"),
        (
            "/gateway/bot",
            "Authorization: Bot secret",
            Facts(shard_count=None, shards=(), intents=0),
            503,
            "no assignment yet",
        ),
    ],
)
def test_what_is_not_to_be_had_is_refused_in_words(
    path: str, header: str, facts: Facts, status: int, words: str
) -> None:
    with pytest.raises(HeadError, match=words) as caught:
        asked(path, header, facts=facts)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("compress", "kind"),
    [("zlib-stream", ZlibStream), ("zstd-stream", ZstdStream), ("", Plain)],
)
def test_upgrade_has_the_compression_that_the_url_asks_for(compress: str, kind: type) -> None:
    upgrade = answer(HANDSHAKE.replace("compress=zlib-stream", f"compress={compress}"))
    assert isinstance(upgrade, Upgrade)
    assert (upgrade.client, upgrade.url) == ("stats", "ws://127.0.0.1:7500/stats")
    assert isinstance(upgrade.encoder, kind)
    assert upgrade.head.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("compress=zlib-stream", "compress=br", "compress is none of"),
        ("encoding=json", "encoding=etf", "encoding is not json"),
    ],
)
def test_upgrade_that_asks_for_what_is_not_served_is_refused(
    old: str, new: str, words: str
) -> None:
    with pytest.raises(HeadError, match=words):
        answer(HANDSHAKE.replace(old, new))
