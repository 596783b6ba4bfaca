# SPDX-License-Identifier: Apache-2.0
"""CONTROL's UNIX sockets: what a hostile cluster, or an operator, writes to them.

CONTROL goes on serving, and tells MASTER nothing that MASTER would not take.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from discluster.control.calls import HostCalls
from discluster.control.clusters import ClusterConnection, ClusterHub
from discluster.control.daemon import ControlDaemon
from discluster.control.operators import operator_socket
from discluster.control.permits import PermitDesk
from discluster.control.store import ControlStore
from discluster.messages import (
    CallAnswer,
    CallRequest,
    ClearanceCase,
    ClusterReport,
    PermitRequest,
    PermitReturned,
    PermitUsed,
    StatusQuery,
    control_to_master,
    decode,
    encode,
)
from tests.clock import ManualClock, settle
from tests.fuzz import masters, shapes
from tests.notifier import RecordingNotifier
from tests.unit.control.leases import leasing
from tests.unit.control.purses import full_purse
from tests.unit.control.test_daemon import FakeSupervisor

LONGEST = 8 * 1024
_PERMITS = (PermitRequest, PermitUsed, PermitReturned)
_KINDS = (ClusterReport, *_PERMITS, ClearanceCase, CallRequest, CallAnswer)


def target(data: bytes) -> None:
    with masters.scratch() as directory, masters.quiet():
        masters.run(_scene(directory, data))


async def _scene(directory: Path, data: bytes) -> None:
    clock = ManualClock()
    daemon = ControlDaemon(
        host="alpha",
        store=ControlStore(directory),
        supervisor=FakeSupervisor(),
        permits=PermitDesk(clock=clock, interval=5, purse=full_purse(clock)),
        leasing=leasing(directory, clock=clock),
        clock=clock,
        notifier=RecordingNotifier(),
        checkpoint_interval=5,
    )

    def connection(cluster: int) -> ClusterConnection | None:
        return hub.connection(cluster)

    calls = HostCalls(host="alpha", clusters=lambda: (3, 4), connection=connection, clock=clock)
    timing = asyncio.create_task(calls.run())
    path = directory / "s"
    hub = ClusterHub(
        path=path,
        user=os.getuid,
        runs=_runs,
        on_report=daemon.cluster_reported,
        on_gone=daemon.cluster_gone,
        on_permit=daemon.permit_message,
        on_call=calls.cluster_said,
    )
    faults = _faults()
    faults.clear()
    await hub.open()
    try:
        async with _said(path, data):
            hello = daemon.hello()
            assert decode(control_to_master, encode(hello), peer="we") == hello
            assert encode(daemon.status())
        assert not hub.connections
    finally:
        await hub.close()
    sockets = operator_socket(directory / "o", daemon.status, calls.operator_asks)
    async with sockets, _said(directory / "o", data):
        await clock.advance(60)
    assert not timing.done(), timing
    timing.cancel()
    await asyncio.gather(timing, return_exceptions=True)
    assert not faults, faults


@asynccontextmanager
async def _said(path: Path, data: bytes) -> AsyncIterator[None]:
    """What follows once ``data`` was read; at the end the connection is over."""
    reader, writer = await asyncio.open_unix_connection(path)
    with contextlib.suppress(ConnectionError):
        writer.write(data + b"\n")
        await settle(8)
        yield
        if not writer.is_closing():
            writer.write_eof()
        async with asyncio.timeout(10):
            await reader.read()
    writer.close()
    await settle(4)


async def _runs(_cluster: int, _pid: int) -> bool:
    return True


@cache
def _faults() -> list[object]:
    """What nobody caught in a task of the loop."""
    found: list[object] = []
    loop = masters.loop()
    loop.set_exception_handler(lambda _, context: found.append(context))
    return found


def inputs() -> st.SearchStrategy[bytes]:
    report = shapes.struct(ClusterReport, oddness=80)
    message = st.one_of(report, shapes.any_of(*_KINDS, StatusQuery, oddness=30))
    lines = st.lists(shapes.as_json(message), min_size=1, max_size=4).map(b"\n".join)
    return shapes.damaged(lines)
