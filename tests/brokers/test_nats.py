# SPDX-License-Identifier: Apache-2.0
"""The handler nats and a real nats-server: who may publish, what a stream refuses."""

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop

from discluster.errors import ConfigurationError, CredentialError
from tests.brokers.installation import DOCUMENT
from tests.brokers.publishing import ask_nats, publishing
from tests.brokers.servers import BrokerServer, broker_server
from tests.certificates import loopback_certificate

pytestmark = pytest.mark.usefixtures("installed")

STREAM = {"stream": {"create": "EVENTS"}}
# As docs/brokers.md has them, for a stream of this name.
[PERMISSIONS] = re.findall(
    r"^    permissions: \{.*?^    \}$",
    DOCUMENT.read_text().replace("DISCORD", "EVENTS"),
    re.MULTILINE | re.DOTALL,
)


def at(server: BrokerServer, scheme: str = "nats", **settings: object) -> dict[str, object]:
    return {"servers": [f"{scheme}://127.0.0.1:{server.port}"], **STREAM, **settings}


async def stored(server: BrokerServer) -> Any:
    """The newest message of the stream, as its API tells of it."""
    answer = await ask_nats(
        server, "$JS.API.STREAM.MSG.GET.EVENTS", b'{"last_by_subj":"discord.>"}'
    )
    return msgspec.json.decode(answer)["message"]


@pytest.mark.parametrize(
    ("authorization", "credential"),
    [
        ('authorization { user: bot, password: "a:b c" }', "bot:a:b c\n"),
        ('authorization { token: "t0ken" }', "t0ken"),
        (f"authorization {{ users: [{{ user: bot, password: p, {PERMISSIONS} }}] }}", "bot:p"),
    ],
)
async def test_credential_opens_the_door(
    tmp_path: Path, authorization: str, credential: str
) -> None:
    async with broker_server("nats", tmp_path / "s", options=[authorization]) as server:
        async with publishing("nats", at(server), tmp_path, credential=credential) as ours:
            ours.publish()
            await ours.all_acknowledged()
        async with publishing("nats", at(server), tmp_path, credential="bot:wrong") as ours:
            told = await ours.troubled("Authorization Violation", "discluster.nats")
            assert "wrong" not in told


async def test_credential_that_cannot_be_one_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match=r"discluster\.nats: the credential is empty"):
        async with publishing("nats", {}, tmp_path, credential="\n"):
            pass


@pytest.mark.parametrize("scheme", ["nats", "tls"])
def test_tls_with_an_authority_that_is_trusted(tmp_path: Path, scheme: str) -> None:
    # The loop of a cluster: TLS begins in the middle of a connection, which each loop does itself.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(tls_is_spoken(tmp_path, scheme))


async def tls_is_spoken(tmp_path: Path, scheme: str) -> None:
    made = loopback_certificate(tmp_path)
    files = f'cert_file: "{made.certificate}", key_file: "{made.key}"'
    options = [f'tls {{ {files}, ca_file: "{made.certificate}", verify: true }}']
    async with broker_server("nats", tmp_path / "s", options=options) as server:
        tls = {
            "authorities": str(made.certificate),
            "certificate": str(made.certificate),
            "key": str(made.key),
        }
        async with publishing("nats", at(server, scheme, tls=tls), tmp_path) as ours:
            ours.publish(b'{"x":"%b"}' % (b"y" * 100_000), count=30)
            await ours.all_acknowledged()
        async with publishing("nats", at(server, scheme), tmp_path) as ours:
            await ours.troubled("its certificate is not accepted")


async def test_tls_that_is_wanted_and_not_offered_is_no_connection(tmp_path: Path) -> None:
    async with (
        broker_server("nats", tmp_path / "s") as server,
        publishing("nats", at(server, "tls"), tmp_path) as ours,
    ):
        await ours.troubled("does not offer TLS")


async def test_files_for_tls_that_cannot_be_used_are_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nats\.tls: certificate and key go together"):
        async with publishing("nats", {"tls": {"key": "/x"}}, tmp_path):
            pass
    with pytest.raises(ConfigurationError, match=r"nats\.tls: a file cannot be used"):
        async with publishing("nats", {"tls": {"authorities": "/nowhere"}}, tmp_path):
            pass


async def test_missing_stream_is_told_and_what_waits_comes_when_it_is_there(
    tmp_path: Path,
) -> None:
    async with broker_server("nats", tmp_path / "s") as server:
        async with publishing("nats", at(server, stream={}), tmp_path) as ours:
            ours.publish(count=3)
            await ours.troubled("no stream takes discord.>", "nats.stream.create")
            assert ours.commands.acknowledged == []
            await ask_nats(
                server,
                "$JS.API.STREAM.CREATE.EVENTS",
                b'{"name":"EVENTS","subjects":["discord.>"],"storage":"file"}',
            )
            await ours.all_acknowledged()
            assert ours.handler.problem(1) is None
        assert (await stored(server))["seq"] == 3


async def test_server_without_jetstream_is_told(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    server = BrokerServer("nats", tmp_path / "s")
    plain = tmp_path / "s" / "nats.conf"
    plain.write_text(f'listen: "127.0.0.1:{server.port}"\n')
    await server.start()
    try:
        async with publishing("nats", at(server), tmp_path) as ours:
            await ours.troubled("no JetStream", "enable it")
    finally:
        await server.kill()


async def test_full_stream_acknowledges_nothing_until_there_is_room(tmp_path: Path) -> None:
    config = {
        "name": "EVENTS",
        "subjects": ["discord.>"],
        "storage": "file",
        "discard": "new",
        "max_msgs": 5,
    }
    async with broker_server("nats", tmp_path / "s") as server:
        await ask_nats(server, "$JS.API.STREAM.CREATE.EVENTS", msgspec.json.encode(config))
        async with publishing("nats", at(server), tmp_path) as ours:
            ours.publish(count=5)
            await ours.all_acknowledged()
            ours.publish(count=2)
            await ours.troubled("the stream refuses: maximum messages exceeded")
            assert ours.commands.acknowledged == [(1, 5)]
            await ask_nats(server, "$JS.API.STREAM.PURGE.EVENTS")
            await ours.all_acknowledged()


@pytest.mark.parametrize("limit", ["server", "stream"])
async def test_event_that_is_too_large_comes_without_its_body(tmp_path: Path, limit: str) -> None:
    options = ["max_payload: 65536"] if limit == "server" else []
    config = {
        "name": "EVENTS",
        "subjects": ["discord.>"],
        "storage": "file",
        "max_msg_size": 65_536 if limit == "stream" else -1,
    }
    async with broker_server("nats", tmp_path / "s", options=options) as server:
        await ask_nats(server, "$JS.API.STREAM.CREATE.EVENTS", msgspec.json.encode(config))
        async with publishing("nats", at(server), tmp_path) as ours:
            ours.publish(b'"%b"' % (b"y" * 99_998))
            await ours.all_acknowledged()
            message = await stored(server)
            assert "data" not in message
            assert b"Discluster-Left-Out: 100000\r\n" in msgspec.convert(
                message["hdrs"], bytes, strict=False
            )
            ours.publish(b'{"next":1}')
            await ours.all_acknowledged()
            assert "1 too large and without their body" in ours.handler.summary()
        assert (await stored(server))["seq"] == 2


async def test_same_event_is_stored_once(tmp_path: Path) -> None:
    async with broker_server("nats", tmp_path / "s") as server:
        for _ in range(2):  # as after a crash of the cluster
            async with publishing("nats", at(server), tmp_path) as ours:
                ours.publish(count=7)
                await ours.all_acknowledged()
        assert (await stored(server))["seq"] == 7


async def test_only_the_types_that_are_wanted_are_asked_for(tmp_path: Path) -> None:
    async with publishing("nats", {"events": ["MESSAGE_CREATE"]}, tmp_path) as ours:
        assert ours.handler.wants == frozenset({"MESSAGE_CREATE"})
