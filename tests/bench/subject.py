# SPDX-License-Identifier: Apache-2.0
"""Whatever is measured, started and ready."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.cluster import DEFAULT_HANDLER, Cluster, ClusterSetting, cluster, split
from tests.bench.load import TOKEN, Load
from tests.bench.onward import passing_on
from tests.bench.orders import NEVER, READY, Compression, Orders
from tests.bench.processes import Program, program
from tests.bench.rows import SHARDS, Row, modules

_PATIENCE: Final = 120.0


@asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """A directory whose name is short enough for a UNIX socket."""
    with tempfile.TemporaryDirectory(prefix="discluster-bench-") as name:
        yield Path(name)


class Subject(NamedTuple):
    """``clusters``: empty where it is not ours. ``counts``: who says ``counted``; not one of the
    ``processes`` that are measured where events are passed on.
    """

    processes: tuple[Program, ...]
    clusters: tuple[Cluster, ...]
    counts: Program


@asynccontextmanager
async def subject(
    row: Row,
    simulator: Load,
    directory: Path,
    *,
    core: int,
    beside: int,
    shards: int = SHARDS,
    marks: tuple[int, ...] = (NEVER,),
    ca: Path | None = None,
) -> AsyncIterator[Subject]:
    """The client of ``row`` with all its shards ready, on ``core``; what it passes events on to
    is on the core ``beside``. With ``ca`` it trusts that certificate.
    """
    orders = Orders(
        api=simulator.api,
        gateway=simulator.gateway,
        token=TOKEN,
        shards=shards,
        compression=row.compression,
        marks=marks,
        modules=str(modules()),
    )
    extra = orders.environment()
    if ca is not None:
        extra |= {"SSL_CERT_FILE": str(ca), "NODE_EXTRA_CA_CERTS": str(ca)}
    if row.onward:
        async with passing_on(row, orders, directory, core=core, beside=beside) as (one, counts):
            yield Subject((one.process,), (one,), counts)
    elif row.handler:
        settings = cluster_settings(
            simulator.gateway, shards, compression=row.compression, handler=row.handler
        )
        async with clusters(settings, directory, core=core, extra=extra) as started:
            processes = tuple(one.process for one in started)
            yield Subject(processes, started, processes[0])
    else:
        other = program(row.command, name=row.name, directory=directory, core=core, extra=extra)
        async with other as process:
            await process.line(READY, _PATIENCE)
            yield Subject((process,), (), process)


def cluster_settings(
    gateway: str,
    shards: int,
    *,
    compression: Compression = "zstd",
    handler: str = DEFAULT_HANDLER,
) -> list[ClusterSetting]:
    """Of as many clusters as so many shards need."""
    return [
        ClusterSetting(
            number=number,
            gateway=gateway,
            token=TOKEN,
            shard_count=shards,
            shards=part,
            compression=compression,
            handler=handler,
        )
        for number, part in enumerate(split(shards))
    ]


@asynccontextmanager
async def clusters(
    settings: Sequence[ClusterSetting], directory: Path, *, core: int, extra: dict[str, str]
) -> AsyncIterator[tuple[Cluster, ...]]:
    """Starts them side by side; all their shards are ready."""
    async with AsyncExitStack() as stack:
        started = [
            await stack.enter_async_context(cluster(one, directory, core=core, extra=extra))
            for one in settings
        ]
        for one in started:
            await one.wait_for_ready(_PATIENCE)
        yield tuple(started)
