# SPDX-License-Identifier: Apache-2.0
"""The control API and its client."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from discluster.errors import ConfigurationError, UnavailableError
from discluster.simulator import ledger
from discluster.simulator.client import SimulatorClient, SimulatorError
from discluster.simulator.guilds import guild_id
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.certificates import loopback_certificate
from tests.unit.simulator.client import dialing
from tests.unit.simulator.conftest import Rig, StartRig


async def post(rig: Rig, path: str, body: str) -> tuple[int, Any]:
    async with rig.dialer.http.post(rig.simulator.control_url + path, data=body) as response:
        assert response.headers["Content-Type"] == "application/json"
        return response.status, await response.json()


async def test_ledger_is_json_lines_and_can_be_filtered(start: StartRig) -> None:
    rig = await start()
    await rig.ready()
    async with rig.dialer.http.get(
        rig.simulator.control_url + "/ledger", params={"since": "1", "kind": "identify,ready"}
    ) as response:
        assert response.headers["Content-Type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    assert [line["kind"] for line in lines] == ["identify", "ready"]
    assert [line["n"] for line in lines] == [2, 3]
    assert lines[0]["shard"] == [0, 4]
    assert lines[0]["accepted"] is True
    assert lines[0]["session"] == lines[1]["session"]


async def test_ledger_waits_for_the_next_record(start: StartRig) -> None:
    rig = await start()
    waiting = asyncio.create_task(rig.control.ledger(0, wait=5.0))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await rig.dial()
    assert [record.kind for record in await waiting] == ["open"]
    assert await rig.control.ledger(1, wait=0.01) == []


async def test_forgotten_records_do_not_shift_the_numbers() -> None:
    book = ledger.Ledger(clock=lambda: 0.0, limit=10)
    for number in range(100):
        book.append(ledger.Command(op=number))
    assert book.last == 100
    assert [record.n for record in book.since(95)] == [96, 97, 98, 99, 100]
    assert 10 <= len(book.since(0)) <= 20
    assert book.since(0)[-1].n == 100


def test_records_survive_the_wire() -> None:
    book = ledger.Ledger(clock=lambda: 1.5, limit=10)
    first = book.append(ledger.Close(by="tcp", shard=(1, 2), session="s"))
    second = book.append(ledger.Fault(action="drop", detail={"code": None}))
    assert ledger.decode_lines(ledger.encode_lines(book.since())) == [first, second]


async def test_shards_and_summary_tell_the_truth(start: StartRig) -> None:
    rig = await start(guilds=8)
    client = await rig.ready((1, 4))
    other = await rig.ready((0, 4))
    for reader in (client, other):
        await reader.reach(3)
    await client.heartbeat()
    other.kill()
    views = await rig.control.wait_for_shards(lambda v: v[0].state == "detached", 5)
    assert [(view.shard, view.state) for view in views] == [
        ((0, 4), "detached"),
        ((1, 4), "connected"),
    ]
    assert (views[1].seq, views[1].acknowledged, views[1].guilds) == (3, 3, 2)
    summary = await rig.control.summary()
    assert (summary.identifies, summary.connections, summary.heartbeats) == (2, 2, 1)
    assert (summary.sent, summary.acknowledged, summary.unacknowledged) == (6, 3, 3)
    assert (summary.lost, summary.closes) == (0, {"tcp": 1})
    assert summary.budget.remaining == 998
    await rig.control.invalidate(0)
    summary = await rig.control.summary()
    assert (summary.sent, summary.unacknowledged, summary.lost) == (6, 0, 3)


async def test_shards_are_named_by_id_by_pair_or_all(start: StartRig) -> None:
    rig = await start()
    await rig.ready((0, 2))
    await rig.ready((0, 4))
    await rig.ready((1, 4))
    assert await rig.control.event("all", "A", {}) is None
    assert await rig.control.invalidate((0, 2)) == 1
    assert await rig.control.drop(0) == 1
    assert await rig.control.drop("all") == 1
    assert await rig.control.drop("all") == 0


async def test_sent_lists_what_was_sent(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    guild = guild_id(0)
    for _ in range(3):
        await rig.control.event(0, "X", {"guild_id": str(guild)})
    await client.until(lambda payload: payload["d"].get("_count") == 3)
    assert await rig.control.sent(0) == [(guild, 1, 6), (guild, 2, 7), (guild, 3, 8)]
    assert await rig.control.sent(1) == []


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        ("/drop", "{}", "shard"),
        ("/drop", '{"shard":3}', "shard 3 has no living session"),
        ("/drop", '{"shard":"some"}', "shard"),
        ("/drop", '{"shard":0,"kode":1}', "kode"),
        ("/drop", "nonsense", "JSON"),
        ("/event", '{"shard":0,"t":"X"}', "`d`"),
        ("/stream", '{"events_per_second":-1}', "at least 0"),
        ("/budget", '{"remaining":-1}', "at least 0"),
        ("/token/revoke", '{"bot":5}', "no bot 5"),
        ("/token/accept", '{"token":""}', "empty"),
        ("/intents", '{"privileged":["GUILDS"]}', "GUILDS"),
    ],
)
async def test_bad_requests_are_told_what_to_do(
    start: StartRig, path: str, body: str, part: str
) -> None:
    rig = await start()
    await rig.ready()
    status, answer = await post(rig, path, body)
    assert status == 400
    assert part in answer["error"]
    assert answer["hint"]


async def test_unknown_queries_are_told_what_to_do(start: StartRig) -> None:
    rig = await start()
    base = rig.simulator.control_url
    for path, status in [
        ("/ledger?kind=x", 400),
        ("/ledger?since=x", 400),
        ("/sent", 400),
        ("/x", 404),
        ("/drop", 405),
    ]:
        async with rig.dialer.http.get(base + path) as response:
            assert response.status == status
            assert set(await response.json()) == {"error", "hint"}
    with pytest.raises(SimulatorError, match="no living session"):
        await rig.control.mute(9, 1.0)


async def test_control_on_a_unix_socket(tmp_path: Path) -> None:
    where = f"unix:{tmp_path}/simulator.sock"
    async with Simulator(SimulatorSettings(control=where)) as simulator:
        assert simulator.control_url == where
        async with SimulatorClient(where) as client:
            assert await client.shards() == []
        with pytest.raises(UnavailableError, match="another program"):
            await Simulator(SimulatorSettings(control=where)).__aenter__()
    assert list(tmp_path.iterdir()) == []


async def test_waiting_ends_with_a_timeout(start: StartRig) -> None:
    rig = await start()
    with pytest.raises(TimeoutError):
        await rig.control.wait_for_connected(1, 0.05)
    with pytest.raises(TimeoutError):
        await rig.control.wait_for_record(lambda record: False, 0.05)


async def test_tls_serves_wss_and_https(tmp_path: Path) -> None:
    settings, context = _over_tls(tmp_path)
    async with Simulator(settings) as simulator, dialing(simulator.gateway_url) as dialer:
        assert simulator.api.startswith("https://")
        assert simulator.gateway_url.startswith("wss://")
        async with dialer.http.get(simulator.api + "/gateway", ssl=context) as response:
            assert (await response.json())["url"] == simulator.gateway_url
        url = simulator.gateway_url + "/?v=10&encoding=json"
        async with dialer.http.ws_connect(url, ssl=context) as ws:
            assert json.loads((await ws.receive()).data)["op"] == 10


async def test_a_failed_tls_handshake_does_not_keep_the_simulator_from_ending(
    tmp_path: Path,
) -> None:
    settings, _ = _over_tls(tmp_path)
    async with asyncio.timeout(5), Simulator(settings) as simulator:
        host, port = simulator.gateway_url.removeprefix("wss://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        writer.close()


def _over_tls(directory: Path) -> tuple[SimulatorSettings, ssl.SSLContext]:
    """Settings of a simulator with a certificate, and a context that trusts it."""
    made = loopback_certificate(directory)
    settings = SimulatorSettings(
        tls_certificate=str(made.certificate), tls_key=str(made.key), guilds=0
    )
    return settings, made.trusting_context()


async def test_a_taken_port_is_reported(start: StartRig) -> None:
    rig = await start()
    port = int(rig.simulator.gateway_url.rpartition(":")[2])
    for settings in (
        SimulatorSettings(gateway_ports=(port,)),
        SimulatorSettings(http_port=port),
        SimulatorSettings(control=f"127.0.0.1:{port}"),
    ):
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}") as error:
            await Simulator(settings).__aenter__()
        assert error.value.hint


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"session_ttl_minimum": 400.0}, "session_ttl_maximum"),
        ({"gateway_ports": ()}, "gateway_ports"),
        ({"tokens": ()}, "tokens"),
        ({"tokens": ("a", "a")}, "twice"),
        ({"tls_key": "x"}, "tls_certificate"),
        ({"assigned_multiple": 3}, "multiple"),
    ],
)
def test_contradicting_settings_are_refused(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigurationError, match=part):
        Simulator(SimulatorSettings(**settings))


@pytest.mark.parametrize("control", ["somewhere", "host:port", ":"])
async def test_a_control_address_must_be_one(control: str) -> None:
    with pytest.raises(ConfigurationError, match="not an address"):
        await Simulator(SimulatorSettings(control=control)).__aenter__()


async def test_a_broken_stream_of_events_does_not_go_unnoticed() -> None:
    stopped_clock = [False]

    def clock() -> float:
        if stopped_clock[0]:
            raise RuntimeError("the clock stopped")
        return time.monotonic()

    async def run() -> None:
        async with Simulator(SimulatorSettings(), clock=clock) as simulator:
            stopped_clock[0] = True
            await simulator.serve(asyncio.Event())

    with pytest.raises(RuntimeError, match="the clock stopped"):
        await asyncio.wait_for(run(), 5)


async def test_session_ids_repeat_with_the_seed_and_are_never_shared(start: StartRig) -> None:
    runs = []
    for seed in (1, 1, 2):
        rig = await start(seed=seed, tokens=("one", "two"))
        clients = [
            await rig.ready(shard, token=token)
            for token in ("one", "two")
            for shard in ((0, 4), (0, 4), (1, 4), (0, 2))
        ]
        runs.append([client.session_id for client in clients])
    assert runs[0] == runs[1]
    assert len({*runs[0], *runs[2]}) == 16


async def test_connections_end_with_the_simulator() -> None:
    async with dialing("") as dialer:
        async with Simulator(SimulatorSettings()) as simulator:
            dialer.gateway_url = simulator.gateway_url
            client = await dialer.dial()
            raw_reader, raw_writer = await asyncio.open_connection(
                *simulator.gateway_url.removeprefix("ws://").split(":")
            )
            closing = asyncio.create_task(client.closed())
        assert await closing == 1001
        with pytest.raises(ConnectionResetError):
            await raw_reader.read()
        raw_writer.close()
        with pytest.raises(aiohttp.ClientError):
            await dialer.dial()
