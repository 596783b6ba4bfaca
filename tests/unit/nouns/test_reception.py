# SPDX-License-Identifier: Apache-2.0
"""Connections over real sockets, on both event loops."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from discluster.admission import Bounds
from discluster.reception import Limits, Reception, bound_sockets, bound_unix_socket, peer_user
from tests.certificates import LoopbackCertificate, loopback_certificate
from tests.waiting import wait_for

Scene = Callable[[Coroutine[Any, Any, None]], None]
SMALL = Limits(
    bounds=Bounds(strangers=8, per_address=4, per_name=2, moment=0.05),
    handshake=0.5,
    unsettled=0.5,
    bytes=100,
)


def with_asyncio(scene: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner() as runner:
        runner.run(scene)


def with_uvloop(scene: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene)


both = pytest.mark.parametrize("run", [with_asyncio, with_uvloop])


class House:
    """A listener that echoes."""

    def __init__(self, limits: Limits, certificate: LoopbackCertificate | None = None) -> None:
        self.told: list[str] = []
        self.heard = b""
        self.reception = Reception(
            what="the house", limits=limits, name=lambda _: None, tell=self.told.append
        )
        self.context = certificate.server_context() if certificate else None
        self.trusting = certificate.trusting_context() if certificate else None
        self.transports: list[asyncio.BaseTransport] = []
        self.port = 0

    async def __aenter__(self) -> "House":
        sockets = bound_sockets("127.0.0.1", 0)
        self.port = sockets[0].getsockname()[1]
        self.reception.open(sockets, self._guest, lambda: self.context)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.reception.close()

    def _guest(self) -> asyncio.BaseProtocol:
        reader = asyncio.StreamReader()
        return asyncio.StreamReaderProtocol(reader, self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.transports.append(writer.transport)
        with contextlib.suppress(OSError):
            while data := await reader.read(1000):
                self.heard += data
                writer.write(data)
        writer.close()

    async def dial(
        self, address: str = "127.0.0.1", *, tls: bool = True
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=self.trusting if tls else None,
            local_addr=(address, 0),
        )


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(5):
            return await reader.read(1000) == b""
    except ConnectionError:
        return True


async def hang_up(*peers: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    for _, writer in peers:
        writer.transport.abort()
    await asyncio.sleep(0)


@both
@pytest.mark.parametrize("secure", [True, False])
def test_connection_is_served_and_forgotten(run: Scene, secure: bool, tmp_path: Path) -> None:
    async def scene() -> None:
        certificate = loopback_certificate(tmp_path) if secure else None
        async with House(SMALL, certificate) as house:
            reader, writer = await house.dial()
            writer.write(b"hello")
            assert await reader.read(5) == b"hello"
            assert house.reception.admission.strangers == 1
            await hang_up((reader, writer))
            await wait_for(lambda: not house.reception.admission.strangers, 5)
            assert not house.told

    run(scene())


@both
def test_connection_that_comes_to_nothing_is_ended(run: Scene, tmp_path: Path) -> None:
    """Without TLS, and with TLS and no further word."""

    async def scene() -> None:
        async with House(SMALL, loopback_certificate(tmp_path)) as house:
            peers = [await house.dial(tls=False), await house.dial()]
            for reader, _ in peers:
                assert await ended(reader)
            assert house.reception.admission.strangers == 0
            await hang_up(*peers)

    run(scene())


@both
def test_settled_connection_may_last(run: Scene) -> None:
    async def scene() -> None:
        async with House(SMALL) as house:
            reader, writer = await house.dial()
            await wait_for(lambda: house.transports, 5)
            house.reception.settle(house.transports[0])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await reader.read(1)
            writer.write(b"still here")
            assert await reader.read(100) == b"still here"
            await hang_up((reader, writer))

    run(scene())


@both
def test_stranger_that_says_too_much_is_ended_and_a_known_one_is_not(run: Scene) -> None:
    async def scene() -> None:
        async with House(SMALL) as house:
            stranger, known = await house.dial(), await house.dial()
            await wait_for(lambda: len(house.transports) == 2, 5)
            port = known[1].get_extra_info("sockname")[1]
            for transport in house.transports:
                if transport.get_extra_info("peername")[1] == port:
                    house.reception.recognise(transport, "alpha")
            for _, writer in (stranger, known):
                writer.write(b"x" * 101)
            assert await ended(stranger[0])
            assert await known[0].readexactly(101) == b"x" * 101
            assert house.heard == b"x" * 101
            await hang_up(stranger, known)

    run(scene())


@both
def test_crowd_from_one_address_keeps_no_other_out(run: Scene, tmp_path: Path) -> None:
    async def scene() -> None:
        async with House(SMALL, loopback_certificate(tmp_path)) as house:
            crowd = []
            for number in range(40):
                crowd.append(await house.dial(f"127.0.0.{2 + number % 3}", tls=False))
                assert house.reception.admission.strangers <= SMALL.bounds.strangers
            reader, writer = await house.dial("127.0.0.9")
            writer.write(b"hello")
            assert await reader.read(5) == b"hello"
            await wait_for(lambda: house.told, 5)
            (told,) = house.told
            assert "connections to the house were turned away, of too many at once" in told
            await hang_up(*crowd, (reader, writer))

    run(scene())


@both
def test_closing_gives_a_moment_for_what_is_still_to_be_sent(run: Scene) -> None:
    async def scene() -> None:
        async with House(SMALL) as house:
            reader, writer = await house.dial()
            await wait_for(lambda: house.transports, 5)
            house.transports[0].write(b"last words")  # type: ignore[attr-defined]
            await house.reception.close(patience=5)
            assert await reader.read(100) == b"last words"
            assert await ended(reader)
            await hang_up((reader, writer))

    run(scene())


@both
def test_peer_that_does_not_read_does_not_delay_the_end(run: Scene) -> None:
    async def scene() -> None:
        async with House(SMALL) as house:
            peer = await house.dial()
            await wait_for(lambda: house.transports, 5)
            house.transports[0].write(b"x" * 50_000_000)  # type: ignore[attr-defined]
            async with asyncio.timeout(3):
                await house.reception.close(patience=0.1)
            await hang_up(peer)

    run(scene())


async def test_socket_in_the_way_is_replaced_and_the_peers_user_is_known(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.sock"
    with bound_unix_socket(path, mode=0o600) as first:
        first.listen()
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            connected, _ = first.accept()
            with connected:
                assert peer_user(connected) == tmp_path.stat().st_uid
    bound_unix_socket(path, mode=0o600).close()


def test_address_that_cannot_be_had_leaves_nothing_open() -> None:
    with pytest.raises(OSError, match="assign"):
        bound_sockets("192.0.2.77", 7443)
