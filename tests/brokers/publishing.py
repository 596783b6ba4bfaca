# SPDX-License-Identifier: Apache-2.0
"""A handler of ours with a real broker, in the test's own process."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from discluster.clock import SystemClock
from discluster.cluster.handlers.builtin import Surroundings
from discluster.cluster.handlers.loading import load_handler
from discluster.cluster.handlers.publishing.handler import PublishingHandler
from discluster.cluster.settings import ClusterSettings
from discluster.gateway.events import LATER
from discluster.secret import Secret
from tests.brokers.servers import BrokerServer, Kind
from tests.unit.cluster.publishing.events import event
from tests.unit.cluster.quiet import QuietCommands
from tests.waiting import wait_for

PATIENCE = 20.0


class Publishing:
    """The handler, and what it said."""

    def __init__(self, handler: PublishingHandler, commands: QuietCommands) -> None:
        self.handler = handler
        self.commands = commands
        self._seq = 0

    def publish(self, body: bytes = b"{}", *, count: int = 1) -> None:
        """Events of shard 1, in one batch."""
        first, self._seq = self._seq + 1, self._seq + count
        events = [event(seq, body=body) for seq in range(first, self._seq + 1)]
        assert self.handler.handle_batch(events) is LATER

    async def all_acknowledged(self) -> None:
        await wait_for(
            lambda: self.commands.acknowledged[-1:] == [(1, self._seq)],
            PATIENCE,
            what=f"all is acknowledged: {self.handler.summary()}",
        )

    async def troubled(self, *words: str) -> str:
        """Waits until status tells of a problem with these words in it; which it is."""

        def told() -> bool:
            problem = self.handler.problem(1) or ""
            return all(word in problem for word in words)

        await wait_for(told, PATIENCE, what=f"{words} in {self.handler.problem(1)!r}")
        return self.handler.problem(1) or ""


@asynccontextmanager
async def publishing(
    kind: Kind, settings: Mapping[str, object], directory: Path, *, credential: str | None = None
) -> AsyncIterator[Publishing]:
    """``settings``: the handler's group. ``credential``: as systemd would hand it over."""
    if credential is not None:
        (directory / f"discluster.{kind}").write_text(credential)
    surroundings = Surroundings(
        settings=msgspec.convert({kind: {"connect_limit": 2, **settings}}, ClusterSettings),
        cluster=3,
        token=Secret("t"),
        environ={"CREDENTIALS_DIRECTORY": str(directory)},
        clock=SystemClock(),
        rng=random.Random(1),
    )
    handler = load_handler(kind, surroundings)
    assert isinstance(handler, PublishingHandler)
    commands = QuietCommands()
    await handler.start(3, commands)
    try:
        yield Publishing(handler, commands)
    finally:
        await handler.stop()


async def ask_nats(server: BrokerServer, subject: str, body: bytes = b"") -> bytes:
    """A request by hand: the answer's text."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b'CONNECT {"verbose":false}\r\nSUB _INBOX.ask 1\r\n')
    writer.write(b"PUB %b _INBOX.ask %d\r\n%b\r\n" % (subject.encode(), len(body), body))
    try:
        async with asyncio.timeout(PATIENCE):
            while not (line := await reader.readline()).startswith(b"MSG "):
                assert line, "it closed the connection"
            return await reader.readexactly(int(line.split()[-1]))
    finally:
        writer.close()


async def ask_redis(server: BrokerServer, *words: str) -> bytes:
    """A command by hand: the first line of the reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(" ".join(words).encode() + b"\r\n")
    try:
        async with asyncio.timeout(PATIENCE):
            return await reader.readline()
    finally:
        writer.close()
