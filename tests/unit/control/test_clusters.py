# SPDX-License-Identifier: Apache-2.0
"""CONTROL's socket for its clusters."""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from discluster.console import HostStatus, control_to_operator
from discluster.control.clusters import ClusterConnection, ClusterHub
from discluster.errors import UnavailableError
from discluster.messages import (
    ClearanceCase,
    ClusterReport,
    Message,
    Permit,
    PermitMessage,
    PermitRequest,
    PermitUsed,
    StatusQuery,
    control_to_cluster,
    decode,
    encode,
)
from tests.waiting import wait_for


def report(cluster: int = 3) -> ClusterReport:
    return ClusterReport(cluster=cluster, pid=1, generation=0, uptime=0, handler="", shards=())


class Ears:
    """Everything that the hub tells."""

    def __init__(self, path: Path, users: frozenset[int] | None = None) -> None:
        self.path = path
        self.reports: list[tuple[int, bool]] = []
        self.gone: list[int] = []
        self.permits: list[tuple[ClusterConnection, Message]] = []
        self.hub = ClusterHub(
            path=path,
            allowed_users=users if users is not None else frozenset({os.getuid()}),
            on_report=lambda r, c, introduces: self.reports.append((r.cluster, introduces)),
            on_gone=self.gone.append,
            on_permit=self._permit,
            status=lambda: HostStatus(host="alpha", state="local", master="connected"),
        )

    def _permit(
        self, connection: ClusterConnection, message: PermitMessage | ClearanceCase
    ) -> None:
        self.permits.append((connection, message))


class Peer:
    """A process on the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, *messages: Message | bytes) -> None:
        for message in messages:
            self._writer.write(message if isinstance(message, bytes) else encode(message) + b"\n")

    async def hear(self, *, as_operator: bool = False) -> Message | None:
        async with asyncio.timeout(5):
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return None
        if as_operator:
            answer: Message = decode(control_to_operator, line, peer="CONTROL")
            return answer
        return decode(control_to_cluster, line, peer="CONTROL") if line else None

    async def leave(self) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)


@pytest.fixture
async def ears(tmp_path: Path) -> AsyncIterator[Ears]:
    made = Ears(tmp_path / "control.sock")
    await made.hub.open()
    yield made
    await made.hub.close()


async def dial(ears: Ears) -> Peer:
    return Peer(*await asyncio.open_unix_connection(ears.path))


async def test_report_introduces_a_cluster_that_then_gets_messages(ears: Ears) -> None:
    peer = await dial(ears)
    peer.say(report(), report(), PermitRequest(shard=4))
    await wait_for(lambda: ears.permits, 5)
    assert ears.reports == [(3, True), (3, False)]
    ears.permits[0][0].send(Permit(shard=4, since=1.0, until=2.0))
    assert await peer.hear() == Permit(shard=4, since=1.0, until=2.0)
    await peer.leave()
    await wait_for(lambda: ears.gone == [3], 5)
    assert ears.hub.connection(3) is None


async def test_newest_connection_of_a_cluster_wins(ears: Ears) -> None:
    old = await dial(ears)
    old.say(report())
    await wait_for(lambda: len(ears.reports) == 1, 5)
    new = await dial(ears)
    new.say(report())
    assert await old.hear() is None
    connection = ears.hub.connection(3)
    assert connection is not None
    connection.send(Permit(shard=1, since=1.0, until=2.0))
    assert await new.hear() == Permit(shard=1, since=1.0, until=2.0)
    assert ears.reports == [(3, True), (3, True)]
    assert ears.gone == [], "the cluster is there"
    await old.leave()
    await new.leave()


@pytest.mark.parametrize(
    "said",
    [
        b"garbage\n",
        b'{"type":"unheard_of"}\n',
        b'{"type":"cluster_report","cluster":"x"}\n',
        b"\xff\xfe\n",
        encode(PermitUsed(shard=1)) + b"\n",
        b"x" * (5 * 1024 * 1024),
    ],
    ids=["garbage", "unknown", "wrong-type", "binary", "not-introduced", "oversized"],
)
async def test_senseless_peer_is_cut_off_and_nobody_else(ears: Ears, said: bytes) -> None:
    good = await dial(ears)
    good.say(report(5))
    bad = await dial(ears)
    bad.say(said)
    assert await bad.hear() is None
    good.say(PermitRequest(shard=9))
    await wait_for(lambda: ears.permits, 5)
    assert ears.gone == []
    await bad.leave()
    await good.leave()


async def test_operator_gets_the_status_without_being_a_cluster(ears: Ears) -> None:
    peer = await dial(ears)
    peer.say(StatusQuery())
    answer = await peer.hear(as_operator=True)
    assert isinstance(answer, HostStatus)
    assert answer.host == "alpha"
    await peer.leave()
    assert ears.reports == []
    assert ears.gone == []


async def test_second_control_is_refused(ears: Ears) -> None:
    second = Ears(ears.path)
    with pytest.raises(UnavailableError, match="another CONTROL is running") as caught:
        await second.hub.open()
    assert "runtime_directory" in str(caught.value.hint)
    await second.hub.close()
    assert ears.path.exists()


async def test_socket_that_a_killed_control_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    ears = Ears(path)
    await ears.hub.open()
    assert path.stat().st_mode & 0o777 == 0o660
    peer = await dial(ears)
    peer.say(report())
    await wait_for(lambda: ears.reports, 5)
    await ears.hub.close()
    assert await peer.hear() is None
    await peer.leave()
    assert not path.exists()


async def test_socket_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"control\.sock: the socket .* cannot be made"):
        await Ears(tmp_path / "file" / "control.sock").hub.open()


async def test_own_user_is_refused_if_it_is_not_allowed(tmp_path: Path) -> None:
    ears = Ears(tmp_path / "control.sock", users=frozenset({os.getuid() + 1}))
    await ears.hub.open()
    peer = await dial(ears)
    peer.say(report())
    assert await peer.hear() is None
    assert ears.reports == []
    await peer.leave()
    await ears.hub.close()


NOBODY = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
try:
    s.sendall(sys.argv[2].encode() + b"\\n")
    s.settimeout(5)
    got = s.recv(100)
except ConnectionError:
    got = b""
sys.exit(0 if not got else 1)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_process_of_another_user_is_refused() -> None:
    """Even one that the file's permissions let in."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        ears = Ears(Path(directory) / "control.sock", users=frozenset({0}))
        await ears.hub.open()
        ears.path.chmod(0o666)
        child = await asyncio.create_subprocess_exec(
            # A copy of the checkout's Python may lie where nobody may not go.
            "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable,
            *("-c", NOBODY, str(ears.path), encode(StatusQuery()).decode()),
        )
        assert await child.wait() == 0
        await ears.hub.close()


async def test_closing_the_hub_ends_all_connections(ears: Ears) -> None:
    peers = [await dial(ears) for _ in range(3)]
    for number, peer in enumerate(peers):
        peer.say(report(number))
    await wait_for(lambda: len(ears.reports) == 3, 5)
    await ears.hub.close()
    for peer in peers:
        assert await peer.hear() is None
        await peer.leave()
    assert not ears.path.exists()
