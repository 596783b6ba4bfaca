# SPDX-License-Identifier: Apache-2.0
"""The handler ``gateway`` out of its settings, and where it listens."""

import asyncio
import socket
from pathlib import Path
from typing import Any, cast

import aiohttp
import msgspec
import pytest

from discluster.cluster.handlers import BatchPacketHandler, Commands, FlushingHandler
from discluster.cluster.handlers.gateway import LOCAL_TOKEN, GatewayHandler, make
from discluster.cluster.handlers.loading import load_handler
from discluster.cluster.local.settings import LocalGatewaySettings
from discluster.cluster.settings import ClusterSettings
from discluster.errors import ConfigurationError, CredentialError, UnavailableError
from tests.ports import free_port
from tests.unit.cluster.local.gateways import FakeCommands
from tests.unit.cluster.surroundings import surroundings


def handler(cluster: int = 3, *, environ: dict[str, str] | None = None, **local: Any) -> Any:
    settings = ClusterSettings(local_gateway=LocalGatewaySettings(**local))
    around = surroundings(settings, cluster=cluster)
    return make(msgspec.structs.replace(around, environ=environ or {}))


def commands(directory: Path) -> Commands:
    fake = FakeCommands()
    fake.directory = directory  # type: ignore[attr-defined]
    return cast(Commands, fake)


async def status(port: int, token: str) -> int:
    url = f"http://127.0.0.1:{port}/gateway/bot"
    headers = {"Authorization": f"Bot {token}"}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status


def test_name_gateway_gives_a_handler_that_takes_batches_and_is_flushed() -> None:
    made = load_handler("gateway", surroundings())
    assert isinstance(made, GatewayHandler)
    assert isinstance(made, BatchPacketHandler)
    assert isinstance(made, FlushingHandler)
    assert made.summary() == ""
    assert made.problem(0) is None


@pytest.mark.parametrize(
    ("local", "cluster", "words"),
    [
        ({"clients": ()}, 0, "there is none, or one is named twice"),
        ({"clients": ("a", "a")}, 0, "there is none, or one is named twice"),
        ({"address": None}, 0, "no bot could connect"),
        ({"address": "127.0.0.999"}, 0, "127.0.0.999 is no loopback address"),
        ({"address": "192.0.2.1"}, 0, "192.0.2.1 is no loopback address"),
        ({"first_port": 65_000}, 536, "65000 leaves no port for cluster 536"),
    ],
)
def test_settings_that_do_not_do_are_refused_in_words(
    local: dict[str, Any], cluster: int, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        handler(cluster, **local)
    assert caught.value.hint


def test_local_token_that_is_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOCAL_TOKEN).write_text("\n")
    with pytest.raises(CredentialError, match="is empty"):
        handler(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})


async def test_port_that_another_program_has_is_told_with_its_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        made = handler(0, first_port=port)
        with pytest.raises(UnavailableError, match=f"cannot listen on http://127.0.0.1:{port}"):
            await made.start(0, commands(tmp_path))
        await made.stop()


async def test_both_tokens_open_the_gateway_and_nothing_is_left_when_it_stops(
    tmp_path: Path,
) -> None:
    before = asyncio.all_tasks()
    (tmp_path / LOCAL_TOKEN).write_text("local\n")
    port = free_port()
    made = handler(0, first_port=port, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    await made.start(0, commands(tmp_path))
    assert await status(port, "MTAw.simulated.token") == 200
    assert await status(port, "local") == 200
    assert await status(port, "wrong") == 401
    assert made.summary() == "bot on 0 of 2 shards, 0 events kept, 0 lost"
    await made.stop()
    assert asyncio.all_tasks() == before
    with pytest.raises(aiohttp.ClientConnectorError):
        await status(port, "local")
