# SPDX-License-Identifier: Apache-2.0
"""Edges: resume hosts with addresses of their own, drained, refusing, silent, and back."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from discluster.errors import ConfigurationError, UnavailableError
from discluster.simulator import ledger
from discluster.simulator.client import SimulatorClient, SimulatorError
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.certificates import loopback_certificate
from tests.unit.simulator.client import TIMEOUT, Client
from tests.unit.simulator.conftest import Rig, StartRig

FAST = 0.01  # real seconds per simulated second
OWN = {"edge_addresses": ("127.0.0.2:0", "127.0.0.3:0")}
BOTH = pytest.mark.parametrize("settings", [{"edges": 2}, OWN], ids=["paths", "addresses"])


async def states(rig: Rig) -> dict[str, str]:
    return {edge.name: edge.state for edge in await rig.control.edges()}


async def back(rig: Rig, edge: str = "edge-a") -> None:
    """Wait until an edge is up again."""

    def is_back(record: ledger.AnyRecord) -> bool:
        return (
            isinstance(record, ledger.Fault)
            and record.action == "edge-back"
            and record.detail == {"edge": edge}
        )

    await rig.control.wait_for_record(is_back, TIMEOUT)
    assert (await states(rig))[edge] == "up"


async def lost(rig: Rig, **options: Any) -> Client:
    client = await rig.ready(**options)
    await rig.control.drop(client.dispatches[0]["d"]["shard"][0])
    return client


async def test_resume_urls_are_other_addresses(start: StartRig) -> None:
    rig = await start(**OWN)
    first, second = await rig.ready((0, 4)), await rig.ready((1, 4))
    assert first.resume_url.startswith("ws://127.0.0.2:")
    assert second.resume_url.startswith("ws://127.0.0.3:")
    urls = {edge.name: edge.url for edge in await rig.control.edges()}
    assert urls["edge-a"] == first.resume_url
    assert urls["main"] == rig.simulator.gateway_url
    await rig.control.drop("all")
    await rig.resumed(first)
    await rig.resumed(second)
    opened = await rig.control.ledger(kinds=["open"])
    assert [record.edge for record in opened if isinstance(record, ledger.Open)] == [
        "main",
        "main",
        "edge-a",
        "edge-b",
    ]


@BOTH
async def test_identify_on_a_resume_host_is_a_violation(
    start: StartRig, settings: dict[str, Any]
) -> None:
    rig = await start(**settings)
    url = (await rig.ready()).resume_url
    await (await rig.dial(url)).identify((1, 4))
    record = await rig.control.wait_for_record(lambda r: r.kind == "violation", TIMEOUT)
    assert isinstance(record, ledger.Violation)
    assert record.rule == "identify-on-resume-host"


async def test_an_edge_of_its_own_has_no_paths(start: StartRig) -> None:
    rig = await start(**OWN)
    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
        await rig.dial(rig.simulator.gateway_url + "/edge-a")
    assert error.value.status == 404


@BOTH
async def test_refusing_edge_comes_back(start: StartRig, settings: dict[str, Any]) -> None:
    rig = await start(**settings, time_factor=FAST)
    client = await lost(rig)
    assert await rig.control.edge("edge-a", "refuse", seconds=20) == 0
    assert (await states(rig))["edge-a"] == "refusing"
    expected = aiohttp.ClientConnectorError if settings is OWN else aiohttp.ClientError
    with pytest.raises(expected):
        await rig.dial(client.resume_url)
    await rig.dial()  # the others are up
    await back(rig)
    await rig.resumed(client)


@BOTH
async def test_black_hole_takes_the_connection_and_says_nothing(
    start: StartRig, settings: dict[str, Any]
) -> None:
    rig = await start(**settings)
    client = await lost(rig)
    await rig.control.edge("edge-a", "black-hole")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.dial(client.resume_url), 0.2)
    await rig.control.edge("edge-a", "up")
    await rig.resumed(client)


@BOTH
async def test_new_sessions_go_where_an_edge_is_up(
    start: StartRig, settings: dict[str, Any]
) -> None:
    rig = await start(**settings)
    await rig.control.edge("edge-a", "refuse")
    urls = {(await rig.ready((shard, 4))).resume_url for shard in range(3)}
    by_name = {edge.name: edge.url for edge in await rig.control.edges()}
    assert urls == {by_name["edge-b"]}


@BOTH
@pytest.mark.parametrize(("how", "code"), [("rst", None), ("close", 1001)])
async def test_outage_of_all_edges_ends_what_is_connected(
    start: StartRig, settings: dict[str, Any], how: Any, code: int | None
) -> None:
    rig = await start(**settings, time_factor=FAST)
    clients = [await rig.ready((shard, 4)) for shard in range(3)]
    assert await rig.control.edge("all", "refuse", seconds=30, connections=how) == 3
    for client in clients:
        assert await client.closed() == code
    with pytest.raises(aiohttp.ClientError):
        await rig.dial()
    assert set((await states(rig)).values()) == {"refusing"}
    for name in ("main", "edge-a", "edge-b"):
        await back(rig, name)
    for client in clients:
        await rig.resumed(client)


async def test_outage_can_leave_connections_half_open(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await client.reach((await rig.control.shards())[0].seq)
    await rig.control.edge("main", "refuse", connections="mute")
    await client.send(1, client.seq)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.receive(), 0.1)


@BOTH
async def test_drain_moves_clients_one_by_one_then_closes_and_refuses(
    start: StartRig, settings: dict[str, Any]
) -> None:
    rig = await start(**settings, time_factor=FAST)
    clients = [await rig.ready((shard, 4)) for shard in range(3)]
    assert await rig.control.edge("main", "drain", spacing=5, grace=20) == 3
    assert (await states(rig))["main"] == "draining"
    for client in clients:
        await client.op(7)
    clients[0].kill()
    assert await clients[1].closed() == 1001
    assert await clients[2].closed() == 1001
    with pytest.raises(aiohttp.ClientError):
        await rig.dial()
    assert (await states(rig))["main"] == "refusing"
    begun, *told = await rig.control.ledger(kinds=["fault", "reconnect"])
    for number, record in enumerate(told):
        assert record.time - begun.time >= 5 * number - 0.01
    await rig.control.edge("main", "up")
    await rig.dial()


async def test_a_newer_order_overrules_the_timer_of_an_older(start: StartRig) -> None:
    rig = await start(time_factor=FAST)
    await rig.control.edge("edge-a", "refuse", seconds=5)
    await rig.control.edge("edge-a", "black-hole", seconds=30)
    begun = (await rig.control.ledger(kinds=["fault"]))[-1].time
    await back(rig)
    assert (await rig.control.ledger(kinds=["fault"]))[-1].time - begun >= 30


async def test_an_edge_does_not_come_back_after_the_simulator_ended(start: StartRig) -> None:
    rig = await start(**OWN, time_factor=FAST)
    host, port = (await rig.ready()).resume_url.removeprefix("ws://").split(":")
    await rig.control.edge("edge-a", "refuse", seconds=10)
    await rig.simulator.__aexit__(None, None, None)
    await asyncio.sleep(15 * FAST)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_unknown_edge_is_told_apart(start: StartRig) -> None:
    rig = await start(edges=1)
    with pytest.raises(SimulatorError, match=r"no edge edge-x.*main, edge-a"):
        await rig.control.edge("edge-x", "up")


async def test_edges_over_tls_with_black_hole(tmp_path: Path) -> None:
    made = loopback_certificate(tmp_path)
    context: ssl.SSLContext = made.trusting_context()
    settings = SimulatorSettings(
        tls_certificate=str(made.certificate),
        tls_key=str(made.key),
        guilds=0,
        edge_addresses=("127.0.0.2:0",),
    )
    query = "/?v=10&encoding=json"
    async with (
        Simulator(settings) as simulator,
        SimulatorClient(simulator.control_url) as control,
        aiohttp.ClientSession() as http,
    ):
        url = {edge.name: edge.url for edge in await control.edges()}["edge-a"]
        assert url.startswith("wss://127.0.0.2:")
        for order in ("black-hole", "refuse", "up"):
            await control.edge("edge-a", order)
            dialing = http.ws_connect(url + query, ssl=context)
            if order == "up":
                async with dialing as ws:
                    assert (await ws.receive_json())["op"] == 10
                break
            with pytest.raises(TimeoutError if order == "black-hole" else aiohttp.ClientError):
                await asyncio.wait_for(dialing, 0.2)


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.2:x", ":5", "127.0.0.2:70000"])
def test_an_edge_address_must_be_one(address: str) -> None:
    with pytest.raises(ConfigurationError, match="edge_addresses"):
        Simulator(SimulatorSettings(edge_addresses=(address,)))


async def test_a_taken_edge_address_is_reported(start: StartRig) -> None:
    rig = await start(**OWN)
    url = (await rig.ready()).resume_url.removeprefix("ws://")
    with pytest.raises(UnavailableError, match=url):
        await Simulator(SimulatorSettings(edge_addresses=(url,))).__aenter__()
