# SPDX-License-Identifier: Apache-2.0
"""What the network of a fleet on loopback loses is lost, and comes late when it is mended."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.ports import free_port
from tests.scenario import owners
from tests.scenario.network import MASTER
from tests.scenario.wires import FAR, NEAR, Wires

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SOON = 5.0
# Loopback needs a fraction of a millisecond.
NOTHING_COMES = 0.2


@asynccontextmanager
async def line(*, delay: float = 0.0) -> AsyncIterator[tuple[Wires, Ends, Ends]]:
    """A connection from alpha to MASTER: the network, alpha's end, MASTER's end."""
    port, there = free_port(), asyncio.Queue[Ends]()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await there.put((reader, writer))

    wires = Wires(lambda _: "alpha", delay=delay, rng=random.Random(1))
    async with await asyncio.start_server(accepted, NEAR, port):
        await wires.lead_to(MASTER, port)
        here = await asyncio.open_connection(FAR, port)
        far = await there.get()
        try:
            yield wires, here, far
        finally:
            here[1].transport.abort()
            far[1].transport.abort()
            await wires.close()


async def said(source: Ends, target: Ends, word: bytes) -> bytes:
    source[1].write(word)
    async with asyncio.timeout(SOON):
        return await target[0].readexactly(len(word))


async def silent(target: Ends) -> bool:
    try:
        async with asyncio.timeout(NOTHING_COMES):
            await target[0].readexactly(1)
    except TimeoutError:
        return True
    return False


async def test_one_way_cut_loses_one_way_only_until_it_is_mended() -> None:
    async with line() as (wires, here, there):
        assert await said(here, there, b"first") == b"first"
        await wires.cut("alpha", MASTER, one_way=True)
        here[1].write(b"late")
        assert await silent(there)
        assert await said(there, here, b"back") == b"back"
        await wires.mend("alpha", MASTER)
        assert await said(here, there, b"r") == b"l", "what was sent first comes first"


async def test_unplugged_place_is_told_nothing_not_even_an_end() -> None:
    async with line() as (wires, here, there):
        await wires.unplug("alpha")
        there[1].close()
        assert await silent(here)
        await wires.plug("alpha")
        async with asyncio.timeout(SOON):
            assert await here[0].read() == b""


async def test_connections_of_a_machine_that_was_off_end_and_deliver_nothing() -> None:
    async with line() as (wires, here, there):
        await wires.unplug("alpha")
        here[1].write(b"late")
        assert await silent(there)
        wires.forget("alpha")
        async with asyncio.timeout(SOON):
            assert await there[0].read() == b""


async def test_delayed_word_is_late_each_way() -> None:
    clock = asyncio.get_running_loop().time
    async with line(delay=0.15) as (_, here, there):
        began = clock()
        await said(here, there, b"there")
        await said(there, here, b"back")
        assert clock() - began >= 0.3


async def test_lossy_line_loses_no_word_but_time() -> None:
    clock = asyncio.get_running_loop().time
    async with line() as (wires, here, there):
        await wires.lose(1.0)
        began = clock()
        assert await said(here, there, b"word") == b"word"
        assert clock() - began >= 0.2


async def test_connection_is_known_by_the_settings_of_the_program_that_opened_it(
    tmp_path: Path,
) -> None:
    """Of a host's CONTROL and of its clusters; nobody else's."""
    connects = f"import socket, sys; socket.create_connection(({NEAR!r}, int(sys.argv[3]))).recv(9)"
    callers = asyncio.Queue[asyncio.StreamWriter]()

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await callers.put(writer)

    async with await asyncio.start_server(accepted, NEAR, 0) as server:
        port = server.sockets[0].getsockname()[1]
        for config, name in (("alpha", "alpha"), ("alpha-cluster", "alpha")):
            words = ("--config", str(tmp_path / f"{config}.yaml"), str(port))
            program = await asyncio.create_subprocess_exec(sys.executable, "-c", connects, *words)
            async with asyncio.timeout(SOON):
                caller = await callers.get()
            own = caller.get_extra_info("peername")[1]
            assert owners.name_of(tmp_path, own) == name
            assert owners.name_of(tmp_path / "other", own) is None
            caller.close()
            assert await program.wait() == 0
