# SPDX-License-Identifier: Apache-2.0
"""A simulator with a foreign client on it, and what both said when a test failed."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from discluster.simulator.client import SimulatorClient
from discluster.simulator.intents import DEFINED_INTENTS, PRIVILEGED_INTENTS, Intent
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.certificates import loopback_certificate
from tests.clients import installation
from tests.clients.foreign import Compression, ForeignClient, Library, Report, Wanted
from tests.skipping import skip_what_is_not_installed
from tests.waiting import wait_for

# hikari reads the application's id out of the token's first part.
TOKEN = "MTAw.simulated.token"
INTENTS = DEFINED_INTENTS & ~PRIVILEGED_INTENTS | Intent.MESSAGE_CONTENT
GUILDS = 64
SHARDS = 4
PATIENCE = 30.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, or refuse where nothing may be skipped."""
    skip_what_is_not_installed(
        items, Path(__file__).parent, reason_to_skip=installation.reason_to_skip
    )


@dataclass
class Meeting:
    """A simulator and the client that is connected to it."""

    simulator: SimulatorClient
    client: ForeignClient
    shards: int

    async def records(self, *kinds: str) -> list[Any]:
        """The ledger, of these kinds."""
        return list(await self.simulator.ledger(kinds=kinds))

    async def said(self, event: str, shards: Collection[int]) -> None:
        """The client has said `ready` or `resumed` of at least these shards."""
        await self.client.until(
            lambda: set(self.client.heard(event)) >= set(shards), what=f"{event}: {shards}"
        )

    async def beats(self) -> None:
        """Every connection that is open has sent two heartbeats, so that a gap can be judged."""

        async def beaten() -> bool:
            beats = Counter(record.connection for record in await self.records("heartbeat"))
            open_now = [view.connection for view in await self.simulator.shards()]
            return all(beats[connection] >= 2 for connection in open_now)

        await wait_for(beaten, PATIENCE, what="heartbeats of all connections")

    async def sent(self) -> dict[str, list[int]]:
        """Counts of all events by guild, as they were sent."""
        counts: dict[str, list[int]] = {}
        for shard in range(self.shards):
            for guild, count, _ in await self.simulator.sent(shard):
                counts.setdefault(str(guild), []).append(count)
        return counts

    async def everything(self) -> Report:
        """End the stream, wait until the client has had as much as was sent, and ask it."""
        await self.simulator.stream(0)
        sent = sum(map(len, (await self.sent()).values()))

        async def arrived() -> bool:
            report = await self.client.report()
            return sum(map(len, report.counts.values())) >= sent

        await wait_for(arrived, PATIENCE, what=f"{sent} events")
        return await self.client.report()

    async def oracles(self) -> dict[str, set[str]]:
        """What the client is accused of: texts by oracle."""
        accused: dict[str, set[str]] = {}
        for verdict in await self.simulator.judgement():
            accused.setdefault(verdict.oracle, set()).add(verdict.text)
        return accused


Meet = Callable[..., Awaitable[Meeting]]


@pytest.fixture
def installed() -> None:
    """For tests that need the clients: without them they are skipped."""


@pytest.fixture
async def meet(
    request: pytest.FixtureRequest, tmp_path: Path, installed: None
) -> AsyncIterator[Meet]:
    """`meeting = await meet("eris", compress="none", setting=value, …)`."""
    failed_before = request.session.testsfailed
    async with AsyncExitStack() as stack:
        meetings: list[Meeting] = []

        async def start(
            library: Library,
            *,
            compress: Compression = "zlib",
            shards: int = SHARDS,
            paced: bool = True,
            tls: bool = False,
            **settings: Any,
        ) -> Meeting:
            trusted = None
            if tls:
                made = loopback_certificate(tmp_path)
                trusted = made.certificate
                files = {"tls_certificate": str(made.certificate), "tls_key": str(made.key)}
                settings = {**settings, **files}
            simulator = await stack.enter_async_context(Simulator(_settings(shards, settings)))
            control = await stack.enter_async_context(SimulatorClient(simulator.control_url))
            wanted = Wanted(
                api=simulator.api,
                gateway=simulator.gateway_url,
                token=TOKEN,
                shards=shards,
                intents=INTENTS,
                compress=compress,
                paced=paced,
            )
            client = ForeignClient(library, wanted, directory=tmp_path / library, trusted=trusted)
            await stack.enter_async_context(client)
            meetings.append(Meeting(control, client, shards))
            return meetings[-1]

        yield start
        if request.session.testsfailed > failed_before:
            for meeting in meetings:
                await _show(meeting)


async def _show(meeting: Meeting) -> None:
    print(f"--- the client:\n{meeting.client.log()}\n--- the ledger:")
    for record in await meeting.simulator.ledger():
        print(record)


def _settings(shards: int, changed: dict[str, Any]) -> SimulatorSettings:
    settings: dict[str, Any] = {
        "tokens": (TOKEN,),
        "gateway_ports": (0, 0, 0),
        "guilds": GUILDS,
        "shards": shards,
        "events_per_second": 25.0,
        # Short, so that a test sees several; not scaled, since clients pace IDENTIFY by 5 s.
        "heartbeat_interval": 2.0,
        # They count 5 s from their own sending: what the first one is held up by on its way, more
        # than the second, is missing between the two arrivals.
        "identify_interval": 4.5,
        **changed,
    }
    return SimulatorSettings(**settings)
