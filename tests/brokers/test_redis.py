# SPDX-License-Identifier: Apache-2.0
"""The handler redis and a real redis-server: who may publish, what it refuses."""

from pathlib import Path

import pytest

from tests.brokers.publishing import ask_redis, publishing
from tests.brokers.servers import BrokerServer, broker_server
from tests.certificates import loopback_certificate
from tests.ports import free_port

pytestmark = pytest.mark.usefixtures("installed")


def at(server: BrokerServer, **settings: object) -> dict[str, object]:
    return {"server": f"redis://127.0.0.1:{server.port}", **settings}


async def length(server: BrokerServer, key: str = "discord:MESSAGE_CREATE") -> int:
    return int((await ask_redis(server, "XLEN", key))[1:])


@pytest.mark.parametrize(
    ("option", "credential"),
    [
        ('requirepass "a b"', "a b\n"),
        ("user bot on >pa:ss ~discord:* +xadd +ping +select", "bot:pa:ss"),
    ],
)
async def test_credential_opens_the_door(tmp_path: Path, option: str, credential: str) -> None:
    async with broker_server("redis", tmp_path / "s", options=[option]) as server:
        async with publishing("redis", at(server), tmp_path, credential=credential) as ours:
            ours.publish()
            await ours.all_acknowledged()
        async with publishing("redis", at(server), tmp_path, credential="bot:wrong") as ours:
            told = await ours.troubled("AUTH fails: WRONGPASS", "discluster.redis")
            assert "bot:wrong" not in told


async def test_missing_credential_is_told(tmp_path: Path) -> None:
    async with (
        broker_server("redis", tmp_path / "s", options=["requirepass x"]) as server,
        publishing("redis", at(server), tmp_path) as ours,
    ):
        await ours.troubled("SELECT fails: NOAUTH", "discluster.redis")


async def test_tls_with_an_authority_that_is_trusted(tmp_path: Path) -> None:
    made = loopback_certificate(tmp_path)
    port = free_port()
    options = [
        *(f"tls-port {port}", f"tls-cert-file {made.certificate}", f"tls-key-file {made.key}"),
        f"tls-ca-cert-file {made.certificate}",
    ]
    files = {"certificate": str(made.certificate), "key": str(made.key)}
    url = {"server": f"rediss://127.0.0.1:{port}"}
    trusting = {**url, "tls": {"authorities": str(made.certificate), **files}}
    async with broker_server("redis", tmp_path / "s", options=options) as server:
        async with publishing("redis", trusting, tmp_path) as ours:
            ours.publish(b'{"x":"%b"}' % (b"y" * 100_000), count=30)
            await ours.all_acknowledged()
        assert await length(server) == 30
        async with publishing("redis", url, tmp_path) as ours:
            await ours.troubled("its certificate is not accepted")


async def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "r.sock"
    async with broker_server("redis", tmp_path / "s", options=[f"unixsocket {path}"]) as server:
        async with publishing("redis", {"server": str(path)}, tmp_path) as ours:
            ours.publish(count=3)
            await ours.all_acknowledged()
        assert await length(server) == 3


async def test_full_memory_acknowledges_nothing_until_there_is_room(tmp_path: Path) -> None:
    async with broker_server("redis", tmp_path / "s") as server:
        async with publishing("redis", at(server), tmp_path) as ours:
            await ask_redis(server, "CONFIG", "SET", "maxmemory", "1")
            ours.publish(count=3)
            await ours.troubled("OOM", "maxmemory")
            assert ours.commands.acknowledged == []
            await ask_redis(server, "CONFIG", "SET", "maxmemory", "0")
            await ours.all_acknowledged()
            assert ours.handler.problem(1) is None
        assert await length(server) == 3


async def test_key_that_is_no_stream_is_told(tmp_path: Path) -> None:
    async with broker_server("redis", tmp_path / "s") as server:
        await ask_redis(server, "SET", "discord:MESSAGE_CREATE", "x")
        async with publishing("redis", at(server), tmp_path) as ours:
            ours.publish()
            await ours.troubled("WRONGTYPE", "redis.stream")


async def test_stream_keeps_about_as_many_as_it_shall(tmp_path: Path) -> None:
    async with broker_server("redis", tmp_path / "s") as server:
        async with publishing("redis", at(server, length=100, database=0), tmp_path) as ours:
            ours.publish(count=1_000)
            await ours.all_acknowledged()
        assert 100 <= await length(server) <= 300


@pytest.mark.parametrize(("appendonly", "warned"), [("no", True), ("yes", False)])
async def test_redis_that_keeps_nothing_on_disk_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, appendonly: str, warned: bool
) -> None:
    options = [f"appendonly {appendonly}"]
    async with (
        broker_server("redis", tmp_path / "s", options=options) as server,
        publishing("redis", at(server), tmp_path) as ours,
    ):
        ours.publish()
        await ours.all_acknowledged()
    assert ("set 'appendonly yes'" in caplog.text) is warned
