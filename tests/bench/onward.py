# SPDX-License-Identifier: Apache-2.0
"""A cluster that passes events on, and whoever gets them: bots, or a broker."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.bench.cluster import Cluster, ClusterSetting, cluster
from tests.bench.orders import EVENT, READY, Orders
from tests.bench.processes import BenchError, Program, program
from tests.bench.rows import Fed, Row
from tests.brokers import installation
from tests.brokers.servers import Kind, broker_server
from tests.ports import free_port

_PATIENCE: Final = 120.0
_STREAM: Final = "DISCORD"
_CLIENTS: Final = "tests.bench.clients"


@asynccontextmanager
async def passing_on(
    row: Row, orders: Orders, directory: Path, *, core: int, beside: int
) -> AsyncIterator[tuple[Cluster, Program]]:
    """The cluster on ``core``, and the program that tells what arrived, on ``beside``."""
    async with AsyncExitStack() as stack:
        settings: Mapping[str, object]
        if row.fed is not None:
            port = free_port()
            settings = {"local_gateway": {"first_port": port, "clients": list(row.fed.clients)}}
            counts = _bots(row.fed)
            orders_there = replace(
                orders, gateway=f"ws://127.0.0.1:{port}", compression=row.fed.compression
            )
        else:
            assert row.broker is not None
            port = await stack.enter_async_context(_server(row.broker, directory))
            settings = {row.broker: _publishing(row.broker, port)}
            counts, orders_there = _reader(row.broker, port), orders
        measured = ClusterSetting(
            gateway=orders.gateway,
            token=orders.token,
            shard_count=orders.shards,
            shards=tuple(range(orders.shards)),
            compression=row.compression,
            handler=row.handler,
            settings=settings,
        )
        one = await stack.enter_async_context(cluster(measured, directory, core=core, extra={}))
        await one.wait_for_ready(_PATIENCE)
        told = program(
            counts,
            name="counts",
            directory=directory,
            core=beside,
            extra=orders_there.environment(),
        )
        process = await stack.enter_async_context(told)
        await process.line(READY, _PATIENCE)
        yield one, process


def _bots(fed: Fed) -> list[str]:
    return [sys.executable, "-m", f"{_CLIENTS}.receiver", *fed.clients]


def _reader(broker: Kind, port: int) -> list[str]:
    name = _STREAM if broker == "nats" else f"discord:{EVENT}"
    return [sys.executable, "-m", f"{_CLIENTS}.published", broker, str(port), name]


def _publishing(broker: Kind, port: int) -> dict[str, object]:
    """Only what is counted is published."""
    if broker == "redis":
        return {"server": f"redis://127.0.0.1:{port}", "length": 0, "events": [EVENT]}
    stream = {"create": _STREAM}
    return {"servers": [f"nats://127.0.0.1:{port}"], "stream": stream, "events": [EVENT]}


@asynccontextmanager
async def _server(broker: Kind, directory: Path) -> AsyncIterator[int]:
    """Its port. It runs where this process does."""
    name = f"{broker}-server"
    if installation.program(name) is None:
        raise BenchError(f"{name} is missing (apt install {name}; or leave out --rows '{broker}*')")
    async with broker_server(broker, directory / broker) as server:
        yield server.port
