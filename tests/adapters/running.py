# SPDX-License-Identifier: Apache-2.0
"""A cluster with the bot of an example; the test plays CONTROL, the simulator Discord."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from discluster import places
from discluster.messages import Assignment
from discluster.simulator.client import SimulatorClient
from discluster.simulator.guilds import guild_id, shard_of
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.adapters import redirected
from tests.clients import installation
from tests.clients.foreign import loopback_environment
from tests.scenario.processes import REPOSITORY, Service
from tests.unit.cluster.controls import FakeControl
from tests.waiting import wait_for

Library = Literal["discord.py", "hikari"]

# hikari reads the application's id out of the token's first part.
TOKEN = "MTAw.simulated.token"
CLUSTER = 3
SHARDS = 2
GUILDS = 24
MEMBERS = 40
PATIENCE = 20.0
EXAMPLES = {
    "discord.py": REPOSITORY / "examples" / "discord_py_bot",
    "hikari": REPOSITORY / "examples" / "hikari_bot",
}


class Running:
    """One cluster of SHARDS shards."""

    def __init__(
        self,
        library: Library,
        directory: Path,
        simulator: Simulator,
        client: SimulatorClient,
        *,
        bot: str,
        settings: str,
    ) -> None:
        self.library = library
        self.simulator = client
        self.notes = directory / "notes"
        self.state = directory / "state"
        self.control = FakeControl(places.clusters_socket(directory / "run"))
        self._gateway = simulator.gateway_url
        self._generation = 0
        (directory / "run").mkdir()
        (directory / "credentials").mkdir()
        (directory / "credentials" / "discluster.token").write_text(TOKEN)
        config = directory / "cluster.yaml"
        config.write_text(settings)
        self.service = Service(
            "discluster.cluster.main",
            ["--config", str(config), str(CLUSTER)],
            log=directory / "cluster.log",
            extra={
                **loopback_environment(),
                "PYTHONPATH": f"{REPOSITORY}:{EXAMPLES[library]}:{directory}",
                "CREDENTIALS_DIRECTORY": str(directory / "credentials"),
                redirected.API: simulator.api,
                redirected.LIBRARY: library,
                redirected.MODULE: bot,
                redirected.NOTES: str(self.notes),
            },
        )

    async def start(self, *shards: int) -> None:
        """Start the cluster, with all shards unless some are named; they are ready then."""
        await wait_for(lambda: not self.control.connected, PATIENCE, what="the last one is gone")
        await self.service.start()
        await wait_for(lambda: self.control.connected, PATIENCE, what="the cluster at CONTROL")
        await self.assign(*(shards or range(SHARDS)))

    async def assign(self, *shards: int) -> None:
        """Give the cluster these shards, and wait until they are ready."""
        self._generation += 1
        self.control.say(
            Assignment(
                cluster=CLUSTER,
                generation=self._generation,
                shard_count=SHARDS,
                gateway_url=self._gateway,
                shards=shards,
            )
        )
        await wait_for(lambda: self.ready() == set(shards), PATIENCE, what=f"{shards} ready")

    def ready(self) -> set[int]:
        """The shards that are, by the newest report of this assignment."""
        report = self.control.reports[-1] if self.control.reports else None
        if report is None or report.generation != self._generation or not self.control.connected:
            return set()
        return {view.shard for view in report.shards if view.state == "ready"}

    async def asked(self, guild: int, content: str) -> str:
        """Somebody says something there; what the bot answers, as Discord got it."""
        before = len(await self.answers(guild))
        await self.simulator.say(guild, content)

        async def answered() -> bool:
            return len(await self.answers(guild)) > before

        await wait_for(answered, PATIENCE, what=f"an answer to {content}")
        return (await self.answers(guild))[before]

    async def answers(self, guild: int) -> list[str]:
        """What the bot said there over HTTP."""
        path = f"/channels/{guild}/messages"
        return [r.body["content"] for r in await self.records("rest") if r.path == path]

    async def know(self, guilds: int, *, shards: Sequence[int] = range(SHARDS)) -> None:
        """Wait until the bot says that its caches are as they should be."""
        wanted = {
            "guilds": guilds,
            "channels": 2 * guilds,
            "shards": list(shards),
            "ready": True,
            "me": True,
        }
        state: dict[str, Any] = {}

        async def known() -> bool:
            state.update(json.loads(await self.asked(guild_of(0), redirected.STATE)))
            return state | wanted == state and 0 < state["latency"] < PATIENCE

        try:
            await wait_for(known, PATIENCE, what="full caches")
        except TimeoutError:
            raise AssertionError(f"{state}, not {wanted}") from None

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        await wait_for(condition, PATIENCE, what=what)

    async def anew(self, shard: int) -> bool:
        """Whether the shard has begun a second session, and is ready."""
        begun = [record for record in await self.records("ready") if record.shard[0] == shard]
        return len(begun) > 1 and shard in self.ready()

    async def records(self, kind: str) -> list[Any]:
        return list(await self.simulator.ledger(kinds=[kind]))

    async def sent(self) -> set[tuple[int, int]]:
        """Guild and count of all events that were sent to any session."""
        logs = [await self.simulator.sent(shard) for shard in range(SHARDS)]
        return {(guild, count) for log in logs for guild, count, _ in log}

    async def everything_noted(self) -> None:
        """The stream ends, and the bot's listener has had all of it."""
        await self.simulator.stream(0)
        sent = await self.sent()
        await wait_for(
            lambda: sent <= redirected.read(self.notes), PATIENCE, what=f"{len(sent)} events noted"
        )


def guild_of(shard: int) -> int:
    """The first guild of a shard."""
    return next(g for g in map(guild_id, range(GUILDS)) if shard_of(g, SHARDS) == shard)


def _settings(text: str, bot: str, directory: Path) -> str:
    """As written, but for the places; the handler is made by tests.adapters.redirected."""
    ours = {
        f"handler: {bot}:handler": "handler: tests.adapters.redirected:handler",
        "/srv/bot/venv": str(installation.PYTHON.parent.parent),
    }
    for theirs, replaced in ours.items():
        assert theirs in text
        text = text.replace(theirs, replaced)
    return f"{text}state_directory: {directory / 'state'}\nruntime_directory: {directory / 'run'}\n"


@asynccontextmanager
async def running(
    library: Library,
    directory: Path,
    *,
    bot: str = "bot",
    config: str | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """A cluster that is ready. ``bot``: its module. ``config``: its cluster.yaml; None: that
    of the example. ``settings``: of the simulator.
    """
    example = (EXAMPLES[library] / "cluster.yaml").read_text()
    written = _settings(config or example, "bot" if config is None else bot, directory)
    chosen: dict[str, Any] = {
        "tokens": (TOKEN,),
        "shards": SHARDS,
        "guilds": GUILDS,
        "members": MEMBERS,
        "events_per_second": 0.0,
        "heartbeat_interval": 2.0,
        "identify_interval": 0.1,
        "max_concurrency": SHARDS,
        **settings,
    }
    async with (
        Simulator(SimulatorSettings(**chosen)) as simulator,
        SimulatorClient(simulator.control_url) as client,
    ):
        run = Running(library, directory, simulator, client, bot=bot, settings=written)
        async with run.control:
            try:
                await run.start()
                yield run
            except BaseException:
                print(f"--- the cluster:\n{run.service.log()[-20_000:]}\n--- the ledger:")
                print(*(await client.ledger())[-50:], sep="\n")
                raise
            finally:
                await run.service.kill()
