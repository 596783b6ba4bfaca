# SPDX-License-Identifier: Apache-2.0
"""CONTROL's socket for operators."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from discluster.console import CallEntry, CallReport, HostStatus, control_to_operator
from discluster.control.operators import operator_socket
from discluster.errors import UnavailableError
from discluster.messages import (
    CallRequest,
    ClusterReport,
    Message,
    PermitRequest,
    StatusQuery,
    decode,
    encode,
)


async def nothing(_: CallRequest) -> CallReport:
    """No cluster is called."""
    return CallReport(entries=())


STATUS = HostStatus(host="alpha", state="local", master="connected")


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "run" / "control.sock"
    async with operator_socket(path, lambda: STATUS, nothing):
        yield path
    assert not path.exists()


async def ask(path: Path, said: bytes) -> bytes:
    """Everything that is answered."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(said)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_operator_is_told_the_machines_status(path: Path) -> None:
    line = await ask(path, encode(StatusQuery()) + b"\n")
    assert decode(control_to_operator, line, peer="CONTROL") == STATUS


async def test_socket_is_for_owner_and_group(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


REPORT = ClusterReport(cluster=3, pid=1, generation=0, uptime=0, handler="", shards=())


@pytest.mark.parametrize("message", [REPORT, PermitRequest(shard=1)])
async def test_operator_cannot_pose_as_a_cluster(path: Path, message: Message) -> None:
    assert await ask(path, encode(message) + b"\n") == b""


@pytest.mark.parametrize("said", [b"\xff\n", b'{"type":"x"}\n', b"x" * 100_000])
async def test_senseless_asker_is_cut_off_and_nobody_else(path: Path, said: bytes) -> None:
    assert await ask(path, said) == b""
    assert await ask(path, encode(StatusQuery()) + b"\n")


async def test_second_control_is_refused(path: Path) -> None:
    with pytest.raises(UnavailableError, match="another CONTROL is running"):
        async with operator_socket(path, lambda: STATUS, nothing):
            pass
    assert path.exists()


async def test_asker_that_never_asks_holds_up_no_end(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with operator_socket(path, lambda: STATUS, nothing):
        _, writer = await asyncio.open_unix_connection(path)
        assert await ask(path, encode(StatusQuery()) + b"\n"), "both are served by now"
    async with asyncio.timeout(5):
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_operator_calls_the_clusters_here(tmp_path: Path) -> None:
    asked: list[CallRequest] = []
    report = CallReport(entries=(CallEntry(cluster=3, host="alpha"),), unasked="because")

    async def call(request: CallRequest) -> CallReport:
        asked.append(request)
        return report

    path = tmp_path / "control.sock"
    wanted = CallRequest(
        number=0, name="stats", args=msgspec.Raw(b'"%s"' % (b"x" * 32_000)), timeout=1.0
    )
    async with operator_socket(path, lambda: STATUS, call):
        line = await ask(path, encode(wanted) + b"\n")
    assert decode(control_to_operator, line, peer="CONTROL") == report
    assert asked == [wanted]
