# SPDX-License-Identifier: Apache-2.0
"""CONTROL's connection to MASTER against a small real server with TLS."""

import asyncio
import datetime
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import WSMsgType

from discluster.clock import SystemClock
from discluster.control.identity import Identity
from discluster.control.link import MasterLink
from discluster.control.mastertime import MasterTime
from discluster.errors import ConfigurationError, StateError
from discluster.lease import boottime
from discluster.master.access.authority import Authority
from discluster.messages import (
    PROTOCOL,
    Goodbye,
    GoodbyeSeen,
    Hello,
    HostReport,
    MasterToControl,
    Permit,
    PermitReturned,
    Ping,
    Pong,
    Rejected,
)
from tests.clock import ManualClock
from tests.ports import free_port
from tests.unit.control.leases import Contacts
from tests.unit.control.masters import NOW, WELCOME, Conversation, SmallMaster, joined_identity
from tests.waiting import wait_for

PERMIT = Permit(shard=3, since=1.0, until=2.0)


class Walled(SystemClock):
    """With a wall clock that may be wrong."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.wall = wall  # type: ignore[method-assign]


class Control:
    """The link and what it told."""

    def __init__(
        self,
        url: Callable[[], str],
        identity: Identity,
        *,
        clock: ManualClock | None = None,
        wall: Callable[[], float] = NOW.timestamp,
        connect_timeout: float = 5.0,
    ) -> None:
        self.messages: list[MasterToControl] = []
        self.connected = self.lost = 0
        self.contacts = Contacts()
        self.link = MasterLink(
            url=url,
            ssl_context=lambda: identity.ssl_context("alpha", now=wall()),
            hello=lambda: Hello(
                protocol=PROTOCOL, version="0", report=HostReport(plan_generation=7)
            ),
            on_connected=self._connected,
            on_lost=self._lost,
            on_message=self.messages.append,
            contact=self.contacts,
            clock=clock or Walled(wall),
            rng=random.Random(1),
            connect_timeout=connect_timeout,
            longest_pause=0.3,
        )

    def _connected(self, time: MasterTime) -> None:
        self.time = time
        self.connected += 1

    def _lost(self) -> None:
        self.lost += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Control"]:
        task = asyncio.create_task(self.link.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def says(self, text: str) -> None:
        """The state comes to hold ``text``."""
        try:
            await wait_for(lambda: text in self.link.state, 5)
        except TimeoutError:
            raise AssertionError(f"{text!r} is not in {self.link.state!r}") from None


@pytest.fixture
def master(tmp_path: Path) -> SmallMaster:
    return SmallMaster(tmp_path / "master")


@pytest.fixture
def identity(tmp_path: Path, master: SmallMaster) -> Identity:
    return joined_identity(tmp_path / "identity", master.authority)


async def test_link_greets_with_a_snapshot_and_passes_messages(
    master: SmallMaster, identity: Identity
) -> None:
    heard: list[object] = []

    async def script(conversation: Conversation) -> None:
        heard.append(await conversation.hear())
        await conversation.say(WELCOME)
        await conversation.say(Ping(number=5))
        await conversation.say(PERMIT)
        heard.append(await conversation.hear())
        heard.append(await conversation.hear())

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await wait_for(lambda: control.messages, 5)
        control.link.send(PermitReturned(shard=3))
        await wait_for(lambda: len(heard) >= 3, 5)
    assert isinstance(heard[0], Hello)
    assert heard[0].report.plan_generation == 7
    assert heard[1:3] == [Pong(number=5), PermitReturned(shard=3)]
    assert control.messages[0] == PERMIT
    assert control.connected >= 1


async def test_link_learns_masters_time_from_the_greeting_and_from_pongs(
    master: SmallMaster, identity: Identity
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        greeted.append(SystemClock().monotonic())
        await conversation.say(WELCOME)
        await conversation.hear()

    greeted: list[float] = []
    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await wait_for(lambda: control.connected, 5)
        assert control.time.surely_before(WELCOME.now) <= SystemClock().monotonic()
        # It asks again at once; here MASTER's clock stands still.
        await wait_for(lambda: control.time.surely_before(WELCOME.now) >= greeted[0], 4)


async def test_lost_link_is_told_and_made_again_with_a_new_snapshot(
    master: SmallMaster, identity: Identity
) -> None:
    async def script(conversation: Conversation) -> None:
        assert isinstance(await conversation.hear(), Hello)
        await conversation.say(WELCOME)

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await wait_for(lambda: control.connected >= 2 and control.lost >= 2, 10)
        await control.says("MASTER closed the connection")


async def test_control_that_starts_first_waits_for_master(
    master: SmallMaster, identity: Identity
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        await conversation.hear()

    master.script = script
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    async with Control(lambda: url, identity).running() as control:
        await control.says(f"MASTER cannot be reached at {url}: Connection refused")
        await control.says("is discluster-master running there")
        async with master.serve(port=port):
            await control.says("connected")
            assert control.link.connected
        await wait_for(lambda: not control.link.connected, 5)


async def test_pauses_grow_and_are_bounded(master: SmallMaster, identity: Identity) -> None:
    """Attempts against a closed port: 0.25 s at first, then no more than the longest pause."""

    class Pauses(ManualClock):
        taken: list[float]

        async def sleep(self, seconds: float) -> None:
            self.taken.append(seconds)
            await asyncio.sleep(0)

    clock = Pauses()
    clock.taken = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{closed.getsockname()[1]}"
        async with Control(lambda: url, identity, clock=clock).running():
            await wait_for(lambda: len(clock.taken) >= 20, 10)
    assert 0.125 <= clock.taken[0] <= 0.375
    assert all(0.15 <= pause <= 0.45 for pause in clock.taken[1:])
    assert len({round(pause, 6) for pause in clock.taken}) > 10, "jittered"


async def test_not_joined_is_told_with_the_way_to_join(tmp_path: Path) -> None:
    def url() -> str:
        raise ConfigurationError("this machine has not joined a fleet", hint="run this and that")

    async with Control(url, Identity(tmp_path)).running() as control:
        await control.says("this machine has not joined a fleet (run this and that)")


async def test_master_of_another_authority_is_refused(tmp_path: Path, master: SmallMaster) -> None:
    other = Authority(tmp_path / "other", now=NOW)
    identity = joined_identity(tmp_path / "identity", other)
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("is not accepted")
        await control.says("must join again")
        assert master.connections == 0


async def test_expired_certificate_of_master_is_told(tmp_path: Path) -> None:
    long_ago = NOW - datetime.timedelta(days=500)
    master = SmallMaster(tmp_path / "master", now=long_ago)
    identity = joined_identity(tmp_path / "identity", master.authority)
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("certificate has expired")
        await control.says("the clocks must agree")


async def test_own_expired_certificate_is_told(tmp_path: Path, master: SmallMaster) -> None:
    long_ago = NOW - datetime.timedelta(days=500)
    identity = joined_identity(tmp_path / "identity", master.authority, now=long_ago)
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("this machine's certificate expired on")
        await control.says("disclusterctl token create --host alpha")


async def test_clocks_that_differ_are_told_when_a_certificate_seems_untimely(
    tmp_path: Path, master: SmallMaster
) -> None:
    """This machine's clock is three months ahead: its own certificate looks expired to it."""
    identity = joined_identity(tmp_path / "identity", master.authority)
    ahead = ManualClock(wall=NOW.timestamp() + 90 * 86_400)
    async with master.serve():
        async with Control(lambda: master.url, identity, wall=ahead.wall).running() as control:
            await control.says("this machine's certificate expired on")
            await control.says("this machine's clock is 90 d")
            await control.says("ahead of MASTER's (set the clock that is wrong")
        behind = ManualClock(wall=NOW.timestamp() - 10 * 3600)
        async with Control(lambda: master.url, identity, wall=behind.wall).running() as control:
            await control.says("this machine's certificate is valid only in 9 h")
            await control.says("this machine's clock is 10 h")
            await control.says("behind MASTER's")


@pytest.mark.parametrize(
    ("code", "away"), [("revoked", True), ("removed", True), ("closed", False)]
)
@pytest.mark.parametrize("greeted", [False, True])
async def test_host_that_is_kept_out_knows_that_its_shards_go_to_others(
    master: SmallMaster, identity: Identity, code: str, away: bool, greeted: bool
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        if greeted:
            await conversation.say(WELCOME)
        await conversation.say(Rejected(code=code, reason="so it is"))

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("so it is")
        assert ("turned away" in control.contacts.told) is away


async def test_certificate_of_another_fleet_is_told(tmp_path: Path, master: SmallMaster) -> None:
    other = Authority(tmp_path / "other", now=NOW)
    identity = joined_identity(tmp_path / "identity", other)
    (tmp_path / "identity" / "ca.crt").write_text(master.authority.certificate)
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("does not accept this machine's certificate: then join again")
        assert master.connections == 0


async def test_server_that_is_no_master_is_told(master: SmallMaster, identity: Identity) -> None:
    async with (
        master.serve(),
        Control(lambda: f"{master.url}/elsewhere", identity).running() as control,
    ):
        await control.says("HTTP 404")
        await control.says("is this the address of a MASTER")


async def test_rejection_is_told_in_masters_words(master: SmallMaster, identity: Identity) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(Rejected(code="protocol", reason="install the same version"))

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("MASTER refused this machine: install the same version")
        assert control.connected == 0


@pytest.mark.parametrize(("code", "taken"), [("protocol", False), ("removed", True)])
async def test_hello_that_another_version_refuses_was_not_taken(
    master: SmallMaster, identity: Identity, code: str, taken: bool
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(Rejected(code=code, reason="no"))

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("MASTER refused this machine: no")
        assert ("not taken" in control.contacts.told) is not taken


async def test_later_rejection_is_told_too(master: SmallMaster, identity: Identity) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        await conversation.say(Rejected(code="closed", reason="a newer connection took over"))

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("MASTER ended the connection: a newer connection took over")


async def test_garbage_of_master_is_told(master: SmallMaster, identity: Identity) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        await conversation.socket.send_bytes(b"garbage")

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("MASTER sent a message that does not fit the protocol")


async def test_master_that_does_not_greet_is_given_up(
    master: SmallMaster, identity: Identity
) -> None:
    control = Control(lambda: master.url, identity, connect_timeout=0.3)
    async with master.serve(), control.running():
        await control.says("no answer in time")
        await wait_for(lambda: master.connections >= 2, 5)


async def test_silent_master_is_noticed_within_its_lease(
    master: SmallMaster, identity: Identity
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(msgspec.structs.replace(WELCOME, ping_interval=0.05, lease=0.2))
        await asyncio.get_running_loop().create_future()

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("MASTER has been silent for")
        assert control.lost >= 1


async def test_goodbye_is_acknowledged(master: SmallMaster, identity: Identity) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        assert await conversation.hear() == Goodbye()
        await conversation.say(GoodbyeSeen())
        await conversation.socket.receive()

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        assert await control.link.say_goodbye(0.1) is False, "there is no connection yet"
        await control.says("connected")
        assert await control.link.say_goodbye(5) is True


async def test_goodbye_is_not_waited_for_once_the_connection_is_lost(
    master: SmallMaster, identity: Identity
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        await conversation.hear()

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("connected")
        async with asyncio.timeout(5):
            assert await control.link.say_goodbye(60) is False


async def test_goodbye_to_a_deaf_master_is_not_waited_for_long(
    master: SmallMaster, identity: Identity
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        await asyncio.get_running_loop().create_future()

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("connected")
        assert await control.link.say_goodbye(0.1) is False


# --- who hears whom ---


class OneWay:
    """A network between CONTROL and MASTER that loses one direction when told to."""

    def __init__(self, master_url: str) -> None:
        self._port = int(master_url.rpartition(":")[2])
        self.lose: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["OneWay"]:
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        ways = (("to master", reader, far_writer), ("to control", far_reader, writer))
        self._tasks |= {asyncio.create_task(self._pass_on(*way)) for way in ways}

    async def _pass_on(
        self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(65_536):
                if way not in self.lose:
                    writer.write(data)
        finally:
            writer.close()


async def pinging(conversation: Conversation) -> None:
    """A MASTER that asks and answers every twentieth of a second."""
    await conversation.hear()
    await conversation.say(msgspec.structs.replace(WELCOME, ping_interval=0.05, lease=0.6))

    async def ask() -> None:
        for number in range(10_000):
            await conversation.say(Ping(number=number))
            await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask())
    try:
        while True:
            await conversation.hear()
    finally:
        asking.cancel()


async def test_answers_prove_when_master_heard_us(master: SmallMaster, identity: Identity) -> None:
    began = boottime()
    master.script = pinging
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await wait_for(lambda: control.contacts.told.count("confirmed") >= 3, 5)
        contacts = control.contacts
    assert contacts.told[:3] == ["greeting", "heard", "welcomed"], "before the hello is sent"
    assert contacts.length == 0.6
    assert contacts.sent == sorted(contacts.sent)
    assert began < contacts.sent[0]
    assert contacts.sent[-1] < boottime()


async def test_one_way_cut_to_master_is_heard_but_proves_nothing(
    master: SmallMaster, identity: Identity
) -> None:
    """MASTER is heard all the time; it hears nothing, and will give our shards away."""
    master.script = pinging
    async with (
        master.serve(),
        OneWay(master.url).running() as network,
        Control(lambda: network.url, identity).running() as control,
    ):
        contacts = control.contacts
        await wait_for(lambda: "confirmed" in contacts.told, 5)
        network.lose.add("to master")
        cut = boottime()
        await wait_for(lambda: contacts.told[-8:] == ["heard"] * 8, 5)
        assert max(contacts.sent) < cut
        await control.says("MASTER has answered nothing for")
        assert max(contacts.sent) < cut


async def test_one_way_cut_from_master_proves_nothing_either(
    master: SmallMaster, identity: Identity
) -> None:
    master.script = pinging
    async with (
        master.serve(),
        OneWay(master.url).running() as network,
        Control(lambda: network.url, identity).running() as control,
    ):
        await wait_for(lambda: "confirmed" in control.contacts.told, 5)
        network.lose.add("to control")
        cut = boottime()
        await control.says("MASTER has been silent for")
        assert max(control.contacts.sent) < cut


async def test_pong_to_no_ping_of_this_connection_confirms_nothing(
    master: SmallMaster, identity: Identity
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        await conversation.say(Pong(number=99, now=WELCOME.now))
        await conversation.say(PERMIT)
        await asyncio.get_running_loop().create_future()

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await wait_for(lambda: control.messages, 5)
        assert "confirmed" not in control.contacts.told


async def test_hello_that_must_not_be_sent_is_not(master: SmallMaster, identity: Identity) -> None:
    control = Control(lambda: master.url, identity)

    def refuse() -> None:
        raise StateError("lease.json: cannot be written")

    control.contacts.greeting = refuse  # type: ignore[method-assign]
    heard: list[object] = []

    async def script(conversation: Conversation) -> None:
        received = await conversation.socket.receive(timeout=5)
        heard.append(received.data if received.type is WSMsgType.BINARY else None)

    master.script = script
    async with master.serve(), control.running():
        await control.says("lease.json: cannot be written")
        await wait_for(lambda: heard, 5)
    assert set(heard) == {None}


# --- a MASTER that is broken, or is none ----------------------------------------------------------


async def test_master_that_asks_without_end_and_reads_nothing_is_left(
    master: SmallMaster, identity: Identity
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(msgspec.structs.replace(WELCOME, lease=1.0, ping_interval=0.2))
        while True:
            await conversation.say(Ping(number=1))
            await asyncio.sleep(0)

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running():
        await wait_for(lambda: master.connections >= 2, 10)


async def test_what_waits_for_a_master_that_does_not_read_is_bounded(
    master: SmallMaster, identity: Identity
) -> None:
    reads = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.hear()
        await conversation.say(WELCOME)
        await reads.wait()

    master.script = script
    async with master.serve(), Control(lambda: master.url, identity).running() as control:
        await control.says("connected")
        for _ in range(200_000):
            control.link.send(PermitReturned(shard=1))
        await control.says("MASTER does not read what it is told")
        reads.set()


@pytest.mark.parametrize("endless", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 101 X\r\nX: ", b""])
async def test_peer_that_sends_without_end_or_nothing_is_left_in_time(
    identity: Identity, tmp_path: Path, endless: bytes
) -> None:
    """It has MASTER's certificate: that it has another one TLS finds out."""
    context = SmallMaster(tmp_path / "master").authority.server_context(["127.0.0.1"], now=NOW)
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            writer.write(endless)
            while endless:
                writer.write(b"x" * 65536)
                await writer.drain()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Control(lambda: url, identity, connect_timeout=0.5).running():
            await wait_for(lambda: connections >= 2, 10)
