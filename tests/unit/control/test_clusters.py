# SPDX-License-Identifier: Apache-2.0
"""CONTROL's socket for its clusters."""

import asyncio
import os
import pwd
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import msgspec
import pytest

from discluster.control.clusters import ClusterConnection, ClusterHub, cluster_user
from discluster.errors import ConfigurationError, UnavailableError
from discluster.messages import (
    LONGEST_VALUE,
    Call,
    CallAnswer,
    CallRequest,
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

    def __init__(
        self, path: Path, *, user: int | None = None, clusters: Collection[int] = range(10)
    ) -> None:
        """``clusters``: those that this process is taken for."""
        self.path = path
        self.clusters = clusters
        self.reports: list[tuple[int, bool]] = []
        self.gone: list[int] = []
        self.permits: list[tuple[ClusterConnection, Message]] = []
        self.calls: list[tuple[int, Message]] = []
        self.hub = ClusterHub(
            path=path,
            user=lambda: os.getuid() if user is None else user,
            runs=self._runs,
            on_report=lambda r, c, introduces: self.reports.append((r.cluster, introduces)),
            on_gone=self.gone.append,
            on_permit=self._permit,
            on_call=lambda connection, message: self.calls.append((connection.cluster, message)),
        )

    async def _runs(self, cluster: int, pid: int) -> bool:
        return pid == os.getpid() and cluster in self.clusters

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

    async def hear(self) -> Message | None:
        async with asyncio.timeout(5):
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return None
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
        encode(StatusQuery()) + b"\n",
        b"x" * (5 * 1024 * 1024),
    ],
    ids=["garbage", "unknown", "wrong-type", "binary", "not-introduced", "operator", "oversized"],
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


async def test_cluster_that_poses_as_another_one_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And takes nothing from the one that is there."""
    ears = Ears(tmp_path / "control.sock", clusters={3})
    await ears.hub.open()
    good = await dial(ears)
    good.say(report(3))
    await wait_for(lambda: ears.reports == [(3, True)], 5)
    bad = await dial(ears)
    bad.say(report(4), PermitRequest(shard=1))
    assert await bad.hear() is None
    assert f"process {os.getpid()} is none of cluster 4" in caplog.text
    good.say(PermitRequest(shard=9))
    await wait_for(lambda: ears.permits, 5)
    assert [message for _, message in ears.permits] == [PermitRequest(shard=9)]
    assert ears.reports == [(3, True)]
    await bad.leave()
    await good.leave()
    await ears.hub.close()


async def test_cluster_that_reports_for_another_one_is_cut_off(
    ears: Ears, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await dial(ears)
    peer.say(report(3), report(4))
    assert await peer.hear() is None
    await wait_for(lambda: ears.gone == [3], 5)
    assert ears.reports == [(3, True)]
    assert "cluster 3 reports for cluster 4" in caplog.text
    await peer.leave()


async def test_process_whose_id_may_be_anothers_by_now_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It connects, leaves the connection to its parent, and ends: systemd would be asked of whoever
    has its id next."""
    ears = Ears(tmp_path / "control.sock")
    await ears.hub.open()
    kept = socket.socket(socket.AF_UNIX)
    child = os.fork()
    if not child:
        kept.connect(str(ears.path))
        os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    ears.hub._runs = _anybody
    peer = Peer(*await asyncio.open_unix_connection(sock=kept))
    peer.say(report(3))
    assert await peer.hear() is None
    assert ears.reports == []
    await peer.leave()
    await ears.hub.close()


async def _anybody(_cluster: int, _pid: int) -> bool:
    return True


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
    with pytest.raises(UnavailableError, match=r"control\.sock: the socket cannot be made"):
        await Ears(tmp_path / "file" / "control.sock").hub.open()


async def test_own_user_is_refused_if_it_is_not_allowed(tmp_path: Path) -> None:
    ears = Ears(tmp_path / "control.sock", user=os.getuid() + 1)
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
        ears = Ears(Path(directory) / "control.sock", user=0)
        await ears.hub.open()
        ears.path.chmod(0o666)
        child = await asyncio.create_subprocess_exec(
            # A copy of the checkout's Python may lie where nobody may not go.
            "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable,
            *("-c", NOBODY, str(ears.path), encode(report()).decode()),
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


def test_clusters_of_the_embedded_supervisor_have_our_own_user() -> None:
    assert cluster_user("embedded") == os.getuid()


def test_machine_without_the_clusters_user_is_told_how_it_is_made() -> None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    if "discluster-cluster" in names:
        assert cluster_user("systemd") == pwd.getpwnam("discluster-cluster").pw_uid
        return
    with pytest.raises(ConfigurationError, match="no user discluster-cluster") as caught:
        cluster_user("systemd")
    assert "systemd-sysusers" in str(caught.value.hint)


# --- clusters that mean no good -------------------------------------------------------------------


async def test_cluster_that_does_not_read_is_broken_off_and_nobody_else(ears: Ears) -> None:
    deaf, good = await dial(ears), await dial(ears)
    deaf.say(report(3))
    good.say(report(4))
    await wait_for(lambda: len(ears.reports) == 2, 5)
    for _ in range(100_000):
        if (connection := ears.hub.connection(3)) is None:
            break
        connection.send(Permit(shard=4, since=1.0, until=2.0))
    await wait_for(lambda: ears.gone == [3], 5)
    good.say(PermitRequest(shard=9))
    await wait_for(lambda: ears.permits, 5)
    await deaf.leave()
    await good.leave()


async def test_cluster_that_floods_is_read_later_and_nobody_else_waits(ears: Ears) -> None:
    flood, good = await dial(ears), await dial(ears)
    flood.say(report(3))
    good.say(report(4))
    flood.say(*[PermitRequest(shard=1)] * 20_000)
    await wait_for(lambda: len(ears.permits) > 3000, 10)
    good.say(PermitRequest(shard=9))
    await wait_for(lambda: any(c.cluster == 4 for c, _ in ears.permits), 2)
    assert len(ears.permits) < 15_000
    await flood.leave()
    await good.leave()


async def test_process_that_opens_many_connections_keeps_few(ears: Ears) -> None:
    peers = [await dial(ears) for _ in range(50)]
    heard = [asyncio.create_task(peer.hear()) for peer in peers]
    await wait_for(lambda: sum(task.done() for task in heard) >= 46, 5)
    for task in heard:
        task.cancel()
    await asyncio.gather(*heard, return_exceptions=True)
    for peer in peers:
        await peer.leave()


LONG = CallAnswer(number=1, cluster=3, value=msgspec.Raw(b'"%s"' % (b"x" * (LONGEST_VALUE - 2))))


async def test_call_and_the_longest_answer_pass(ears: Ears) -> None:
    peer = await dial(ears)
    peer.say(report(3))
    await wait_for(lambda: ears.hub.connection(3), 5)
    connection = ears.hub.connection(3)
    assert connection is not None
    call = Call(number=1, name="stats", clusters=(3,), timeout=1.0)
    assert connection.send_call(call)
    assert await peer.hear() == call
    peer.say(LONG, CallRequest(number=2, name="stats", timeout=1.0))
    await wait_for(lambda: len(ears.calls) == 2, 5)
    assert ears.calls[0] == (3, LONG)
    await peer.leave()
    await wait_for(lambda: ears.gone == [3], 5)
    assert not connection.send_call(call)


async def test_cluster_that_does_not_read_calls_gets_no_more_and_stays_connected(
    ears: Ears,
) -> None:
    deaf = await dial(ears)
    deaf.say(report(3))
    await wait_for(lambda: ears.hub.connection(3), 5)
    connection = ears.hub.connection(3)
    assert connection is not None
    sent = 0
    while connection.send_call(LONG):
        sent += 1
    assert sent > 100
    # What cannot wait is written at once; it does not break the connection off.
    for _ in range(100):
        connection.send(Permit(shard=4, since=1.0, until=2.0))
    deaf.say(PermitRequest(shard=4))
    await wait_for(lambda: ears.permits, 5)
    assert ears.hub.connection(3) is connection
    await deaf.leave()
