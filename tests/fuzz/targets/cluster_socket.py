# SPDX-License-Identifier: Apache-2.0
"""A cluster's end of CONTROL's socket: what comes from it, and from its files."""

import asyncio
import random
from pathlib import Path

from hypothesis import strategies as st

from discluster.cluster.calls import ClusterCalls
from discluster.cluster.control import ControlLink
from discluster.cluster.gate import ClusterGate
from discluster.cluster.stored import Stored
from discluster.errors import ProtocolError
from discluster.lease import read_lease
from discluster.messages import (
    Assignment,
    Call,
    CallAnswer,
    CallAsked,
    Clearance,
    ClusterReport,
    Halt,
    Lease,
    Message,
    Permit,
    PermitDenied,
    Rejected,
    control_to_cluster,
    decode,
    encode,
)
from tests.clock import ManualClock, settle
from tests.fuzz import masters, shapes
from tests.unit.cluster.controls import endless_lease

LONGEST = 8 * 1024


def target(data: bytes) -> None:
    with masters.scratch() as directory, masters.quiet():
        masters.run(_scene(directory, data))
        (directory / "assignment.json").write_bytes(data)
        (directory / "lease.json").write_bytes(data)
        Stored(
            assignment=directory / "assignment.json",
            lease=lambda: read_lease(directory / "lease.json", boot_id="b"),
        ).read()


async def _scene(directory: Path, data: bytes) -> None:
    told: list[Message] = []
    clock = ManualClock()
    calls = ClusterCalls(cluster=3, methods={"a": lambda args: args}, clock=clock)
    link = ControlLink(
        path=directory / "s",
        report=lambda: ClusterReport(
            cluster=3, pid=1, generation=0, uptime=1, handler="", shards=()
        ),
        on_assignment=told.append,
        on_lease=told.append,
        gate=ClusterGate(lease=endless_lease(), clock=clock, rng=random.Random(1)),
        calls=calls,
        clock=clock,
        rng=random.Random(1),
    )

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(serve, directory / "s")
    running = asyncio.create_task(link.run())
    waiting = asyncio.create_task(link.acquire(3))
    timing = asyncio.create_task(calls.run())
    await clock.advance(0.2)
    await settle(20)
    assert not running.done(), running
    assert not timing.done(), timing
    server.close()
    for task in (running, waiting, timing):
        task.cancel()
    await asyncio.gather(running, waiting, timing, return_exceptions=True)
    meant = _meant(data)
    assert all(message in meant for message in told)


def _meant(data: bytes) -> list[Message]:
    found: list[Message] = []
    for line in data.split(b"\n"):
        try:
            found.append(decode(control_to_cluster, line, peer="CONTROL"))
            assert encode(found[-1])
        except ProtocolError:
            break
    return found


def inputs() -> st.SearchStrategy[bytes]:
    kinds = (Assignment, Assignment, Lease, Permit, PermitDenied, Clearance, Halt, Rejected)
    calls = (Call, CallAsked, CallAnswer)
    message = shapes.as_json(shapes.any_of(*kinds, *calls, oddness=40))
    return shapes.damaged(st.lists(message, min_size=1, max_size=4).map(b"\n".join))
