# SPDX-License-Identifier: Apache-2.0
"""Hosts that ask each other about MASTER, over real TLS on loopback."""

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec

from discluster import pem
from discluster.clock import SystemClock
from discluster.control.addresses import Endpoint, is_loopback, outward_address
from discluster.control.identity import Identity
from discluster.control.panel import WitnessPanel
from discluster.control.witness import Witness
from discluster.errors import ConfigurationError
from discluster.master.access.authority import Authority
from discluster.messages import WitnessAnswer
from tests.clock import ManualClock
from tests.unit.control.masters import NOW, joined_identity
from tests.waiting import wait_for


def never(said: object) -> bool:
    """All are waited for."""
    return False


ANSWER = WitnessAnswer(host="beta", hears=True, age=0.5, generation=7)
WALL = NOW.timestamp()


class Fleet:
    """An authority and the hosts alpha, who asks, and beta, who answers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory / "ca", now=NOW)
        self.alpha = joined_identity(directory / "alpha", self.authority, host="alpha")
        self.beta = joined_identity(directory / "beta", self.authority, host="beta")
        self.panel = WitnessPanel(self.alpha, host="alpha", wall=lambda: WALL)
        self.changes = 0

    def _changed(self) -> None:
        self.changes += 1

    def witness(
        self,
        listen: str = "127.0.0.1:0",
        *,
        identity: Identity | None = None,
        announced: str | None = None,
        answer: WitnessAnswer = ANSWER,
        clock: ManualClock | None = None,
    ) -> Witness:
        own = identity or self.beta
        return Witness(
            listen=Endpoint.read(listen),
            announced=announced,
            ssl_context=lambda: own.witness_context("beta", now=WALL),
            admits=own.admits,
            answer=lambda: answer,
            on_change=self._changed,
            clock=clock or SystemClock(),
        )

    @asynccontextmanager
    async def serving(self, witness: Witness | None = None) -> AsyncIterator[str]:
        """The address."""
        witness = witness or self.witness()
        witness.open()
        task = asyncio.create_task(witness.run())
        try:
            yield witness.address(None) or ""
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def with_asyncio(scene: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner() as runner:
        runner.run(scene)


def with_uvloop(scene: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene)


@pytest.mark.parametrize("run", [with_asyncio, with_uvloop])
def test_host_of_the_fleet_is_answered(
    fleet: Fleet, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def scene() -> None:
        async with fleet.serving() as address:
            for _ in range(3):
                assert await fleet.panel.ask({"beta": address}, 5, never) == {"beta": ANSWER}
            assert fleet.changes == 1
        assert await fleet.panel.ask({"beta": address}, 5, never) == {
            "beta": f"{address}: Connection refused"
        }

    run(scene())


async def talk(address: str, context: ssl.SSLContext | None, request: bytes) -> bytes:
    """What comes back until the end; empty if it was broken off."""
    at = Endpoint.read(address)
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection(at.host, at.port, ssl=context)
        try:
            writer.write(request)
            async with asyncio.timeout(8):
                return await reader.read()
        finally:
            writer.transport.abort()
    return b""


REQUEST = b"GET /v1/witness HTTP/1.1\r\nHost: beta\r\n\r\n"


def without_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_stranger_is_told_nothing(fleet: Fleet, tmp_path: Path) -> None:
    others = Authority(tmp_path / "others", now=NOW)
    stranger = joined_identity(tmp_path / "stranger", others, host="alpha")
    long_ago = NOW - datetime.timedelta(days=500)
    expired = joined_identity(tmp_path / "expired", fleet.authority, now=long_ago)
    contexts: dict[str, ssl.SSLContext | None] = {
        "no certificate": without_certificate(),
        "another fleet's": stranger.asking_context("alpha", now=WALL),
        "expired": expired.asking_context("alpha", now=long_ago.timestamp()),
        "no TLS": None,
    }
    old = contexts["TLS 1.2"] = fleet.alpha.asking_context("alpha", now=WALL)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with fleet.serving() as address:
        for kind, context in contexts.items():
            assert await talk(address, context, REQUEST) == b"", kind
        own = fleet.alpha.asking_context("alpha", now=WALL)
        assert b'"generation":7' in await talk(address, own, REQUEST)


async def test_host_that_was_revoked_is_neither_answered_nor_believed(fleet: Fleet) -> None:
    """MASTER told both; each knows of the other that it counts no more."""
    async with fleet.serving() as address:
        own = fleet.alpha.asking_context("alpha", now=WALL)
        assert b"200 OK" in await talk(address, own, REQUEST)
        fleet.beta.trust(fleet.authority.bundle, {"alpha": WALL})
        assert await talk(address, own, REQUEST) == b""
        fleet.beta.trust(fleet.authority.bundle, {})
        fleet.alpha.trust(fleet.authority.bundle, {"beta": WALL})
        said = await fleet.panel.ask({"beta": address}, 5, never)
        assert said["beta"] == f"{address} is not beta of this fleet"


async def test_witness_goes_on_with_a_new_certificate_and_other_authorities(
    fleet: Fleet, tmp_path: Path
) -> None:
    def take_new(identity: Identity, host: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        request = pem.request_for(key, host)
        identity.renew(key, fleet.authority.sign_host(request, host, now=NOW), now=WALL)

    witness = fleet.witness()
    async with fleet.serving(witness) as address:
        former = fleet.alpha.asking_context("alpha", now=WALL)
        fleet.authority.announce(NOW)
        for host in (fleet.alpha, fleet.beta):
            host.trust(fleet.authority.bundle, {})
        fleet.authority.replace()
        take_new(fleet.alpha, "alpha")
        witness.renew()
        assert await fleet.panel.ask({"beta": address}, 5, never) == {"beta": ANSWER}
        take_new(fleet.beta, "beta")
        witness.renew()
        assert await fleet.panel.ask({"beta": address}, 5, never) == {"beta": ANSWER}
        assert b"200 OK" in await talk(address, former, REQUEST), "both authorities count"
        fleet.authority.retire()
        for host in (fleet.alpha, fleet.beta):
            host.trust(fleet.authority.bundle, {})
        witness.renew()
        assert await fleet.panel.ask({"beta": address}, 5, never) == {"beta": ANSWER}
        assert await talk(address, former, REQUEST) == b"", "the old one does no more"


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST.replace(b"GET", b"POST"),
        REQUEST.replace(b"witness", b"status"),
        REQUEST.replace(b"witness", b"witness?all"),
        b"\r\n\r\n",
    ],
)
async def test_there_is_nothing_else_to_be_had(fleet: Fleet, request_: bytes) -> None:
    own = fleet.alpha.asking_context("alpha", now=WALL)
    async with fleet.serving() as address:
        assert (await talk(address, own, request_)).startswith(b"HTTP/1.1 404 ")


async def test_request_without_end_is_broken_off(fleet: Fleet) -> None:
    own = fleet.alpha.asking_context("alpha", now=WALL)
    async with fleet.serving() as address:
        assert await talk(address, own, b"GET /v1/witness HTTP/1.1\r\nX: " + b"x" * 99_999) == b""
        assert await fleet.panel.ask({"beta": address}, 5, never) == {"beta": ANSWER}


async def test_silent_guests_do_not_keep_others_out_for_long(fleet: Fleet) -> None:
    """More connections than it takes, none of which says a word."""
    async with fleet.serving() as address:
        at = Endpoint.read(address)
        guests = [await asyncio.open_connection(at.host, at.port) for _ in range(80)]
        try:

            async def answered() -> bool:
                return await fleet.panel.ask({"beta": address}, 2, never) == {"beta": ANSWER}

            assert not await answered()
            await wait_for(answered, 12)
        finally:
            for _, writer in guests:
                writer.transport.abort()


async def test_guest_that_says_nothing_does_not_delay_the_end(fleet: Fleet) -> None:
    own = fleet.alpha.asking_context("alpha", now=WALL)
    async with asyncio.timeout(4):
        async with fleet.serving() as address:
            at = Endpoint.read(address)
            _, writer = await asyncio.open_connection(at.host, at.port, ssl=own)
            assert await fleet.panel.ask({"beta": address}, 5, never) == {"beta": ANSWER}
        writer.transport.abort()


async def test_answer_counts_only_from_the_named_host(fleet: Fleet, tmp_path: Path) -> None:
    gamma = joined_identity(tmp_path / "gamma", fleet.authority, host="gamma")
    async with (
        fleet.serving(fleet.witness(identity=gamma)) as address,
        fleet.serving(fleet.witness(answer=ANSWER)) as honest,
    ):
        said = await fleet.panel.ask({"beta": address, "gamma": address}, 5, never)
        assert said["beta"] == f"{address} is not beta of this fleet"
        assert said["gamma"] == f"{address} answers as beta"
        assert await fleet.panel.ask({"beta": honest}, 5, never) == {"beta": ANSWER}


def certificate(identity_directory: Path) -> bytes:
    text = (identity_directory / "host.pem").read_text()
    return ssl.PEM_cert_to_DER_cert(pem.pem_blocks(text, "CERTIFICATE")[0])


def test_only_a_hosts_own_valid_certificate_is_its(fleet: Fleet, tmp_path: Path) -> None:
    beta = certificate(tmp_path / "beta")
    is_of = fleet.alpha.is_certificate_of
    assert is_of("beta", beta, now=WALL)
    assert not is_of("alpha", beta, now=WALL)
    assert not is_of("beta", beta, now=WALL + 366 * 86_400)
    assert not is_of("beta", beta, now=WALL - 2 * 86_400)
    assert not is_of("beta", None, now=WALL)
    assert not is_of("beta", b"garbage", now=WALL)
    others = Authority(tmp_path / "others", now=NOW)
    joined_identity(tmp_path / "other", others, host="beta")
    assert not is_of("beta", certificate(tmp_path / "other"), now=WALL)
    fleet.authority.server_context(["beta"], now=NOW)
    masters = pem.pem_blocks(fleet.authority.server_certificate(), "CERTIFICATE")[0]
    assert not is_of("beta", ssl.PEM_cert_to_DER_cert(masters), now=WALL), "it is for a server"


async def test_slow_host_does_not_delay_the_round(fleet: Fleet) -> None:
    """One that takes connections and never says a word, as a machine that hangs."""
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        slow = f"127.0.0.1:{hanging.getsockname()[1]}"
        async with fleet.serving() as address:
            began = asyncio.get_running_loop().time()
            said = await fleet.panel.ask({"gamma": slow, "beta": address}, 1.0, never)
            assert asyncio.get_running_loop().time() - began < 2
    assert said == {"gamma": f"no answer from {slow}", "beta": ANSWER}


async def test_address_that_is_none_is_told(fleet: Fleet) -> None:
    wrong = {"beta": "127.0.0.1:99999", "gamma": "x" * 70 + ".example:7444"}
    said = await fleet.panel.ask(wrong, 5, never)
    assert said == {name: f"{address} is no address" for name, address in wrong.items()}


async def test_round_ends_when_enough_is_known(fleet: Fleet) -> None:
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen()
        slow = f"127.0.0.1:{hanging.getsockname()[1]}"
        async with fleet.serving() as address, asyncio.timeout(5):
            said = await fleet.panel.ask({"gamma": slow, "beta": address}, 60, bool)
    assert said == {"beta": ANSWER}


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"x" * 99_999,
        b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{}",
    ],
)
async def test_answer_that_is_none_is_told(fleet: Fleet, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    context = fleet.beta.witness_context("beta", now=WALL)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        said = (await fleet.panel.ask({"beta": address}, 5, never))["beta"]
    assert isinstance(said, str)
    assert said.startswith(address), said


async def test_host_that_did_not_join_can_ask_nobody(tmp_path: Path) -> None:
    panel = WitnessPanel(Identity(tmp_path), host="alpha", wall=lambda: WALL)
    said = await panel.ask({"beta": "127.0.0.1:1"}, 1, never)
    assert "has not joined the fleet" in str(said["beta"])
    with pytest.raises(ConfigurationError, match="has not joined"):
        Identity(tmp_path).witness_context("alpha", now=WALL)


async def test_port_that_is_taken_is_told_and_tried_again(fleet: Fleet) -> None:
    clock = ManualClock()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        witness = fleet.witness(address, clock=clock)
        async with fleet.serving(witness) as none:
            assert none == ""
            assert witness.trouble == (
                f"witness_listen {address} cannot be used: Address already in use (another program"
                " has this port: set witness_listen in control.yaml; CONTROL tries again by itself)"
            )
            await clock.advance(6)
            assert fleet.changes == 0
            other.close()
            await clock.advance(6)
            assert witness.address(None) == address
            assert not witness.trouble
            assert fleet.changes == 1
            assert await fleet.panel.ask({"beta": address}, 5, never) == {"beta": ANSWER}


@pytest.mark.parametrize("listen", ["192.0.2.77:7444", "127.0.0.1:99999"])
def test_address_that_is_not_this_machines_is_told(fleet: Fleet, listen: str) -> None:
    witness = fleet.witness(listen)
    witness.open()
    assert "it must be of this machine" in (witness.trouble or "")


@pytest.mark.parametrize(
    ("listen", "announced", "towards_master", "told"),
    [
        ("127.0.0.1:0", None, "127.0.0.1", "127.0.0.1:{}"),
        ("127.0.0.1:0", "192.0.2.7:7000", "127.0.0.1", "192.0.2.7:7000"),
        ("0.0.0.0:0", None, "192.0.2.9", ":{}"),
        ("0.0.0.0:0", None, None, ":{}"),
        ("[::]:0", None, "2001:db8::1", ":{}"),
        ("[::1]:0", None, None, "[::1]:{}"),
    ],
)
def test_address_is_told_as_others_can_use_it(
    fleet: Fleet, listen: str, announced: str | None, towards_master: str | None, told: str
) -> None:
    witness = fleet.witness(listen, announced=announced)
    assert witness.address(towards_master) is None
    witness.open()
    try:
        address = witness.address(towards_master) or ""
        assert address == told.format(address.rpartition(":")[2])
    finally:
        witness.close()


def test_machine_of_master_tells_its_outward_address(fleet: Fleet) -> None:
    witness = fleet.witness("0.0.0.0:0")
    witness.open()
    try:
        address = witness.address("127.0.1.1") or ""
        assert Endpoint.read(address).host == (outward_address() or "")
        assert not is_loopback(Endpoint.read(address).host)
    finally:
        witness.close()


@pytest.mark.parametrize("text", ["192.0.2.1:7444", "[2001:db8::1]:7444", "beta.example:1"])
def test_endpoint_reads_what_it_writes(text: str) -> None:
    assert str(Endpoint.read(text)) == text
