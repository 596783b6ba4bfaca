# SPDX-License-Identifier: Apache-2.0
"""A thousand CONTROLs in one process, as MASTER sees them: `python -m tests.bench.master_hosts`.

Each has a TLS connection and a certificate of its own and speaks the protocol of
`discluster.messages`: it greets, follows every plan that it is pushed, reports at once when its
plan changed and every five seconds otherwise, tells its sessions every three seconds, pings and
answers pings. It runs no clusters: a shard of its plan is ready at once, and one that left is
released at once. Commands come on standard input, one a line, and each is answered by one line.
"""

import asyncio
import os
import random
import re
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import uvloop

from discluster import __version__
from discluster.messages import (
    PROTOCOL,
    Allowance,
    AllowanceReport,
    Checkpoint,
    ClusterView,
    Hello,
    HostReport,
    Message,
    Ping,
    PlanPush,
    Pong,
    Rejected,
    ShardView,
    Welcome,
    decode,
    encode,
    master_to_control,
)
from discluster.plan import HostPlan, Session, digest, host_plan_from_yaml
from tests.bench.processes import cpu_seconds

REPORT_EVERY: Final = 5.0
CHECKPOINT_EVERY: Final = 3.0
EVENTS_PER_SECOND: Final = 5
_AT_ONCE: Final = 64
_QUIET: Final = 2.0
_LONGEST_PLAN: Final = 64 * 1024 * 1024


class Progress(msgspec.Struct, kw_only=True):
    """What came of a command. ``at``: of the last plan since the command before that changed what a
    host runs, or now; monotonic seconds. ``cpu``: seconds that MASTER had used then. ``pushes``,
    ``bytes``: of the plans since the command before; ``generations``: how many different.
    ``dials``: beyond the first of each host, since the start; 0 unless a process was starved.
    """

    at: float
    cpu: float
    pushes: int
    bytes: int
    generations: int
    dials: int


class Fleet:
    """Who runs what, over all hosts, and what was received."""

    def __init__(self, master: int) -> None:
        """``master``: its process."""
        self._master = master
        self.owners: Counter[int] = Counter()
        self.twice = 0
        self.unplanned: set[str] = set()
        self.wide: set[str] = set()
        self.per_cluster = 0
        self.pushes = 0
        self.bytes = 0
        self.dials = 0
        self._last = (0.0, 0.0)
        self._moved = False
        self.generations: set[int] = set()
        self.changed = asyncio.Event()

    def move(self, before: set[int], after: set[int]) -> None:
        """A host that had ``before`` has ``after``."""
        for shard in before - after:
            self.owners[shard] -= 1
            if not self.owners[shard]:
                del self.owners[shard]
        for shard in after - before:
            self.owners[shard] += 1
            # A host releases in the report that it sends before MASTER can give anything away.
            self.twice += self.owners[shard] > 1

    def take(self, host: str, push: PlanPush, plan: HostPlan, *, other: bool) -> None:
        """``host`` was pushed a plan. ``other``: than it had, in more than the generation."""
        self.pushes += 1
        self.bytes += len(push.text)
        if other:
            self._last = self._now()
            self._moved = True
        self.generations.add(plan.generation)
        if plan.clusters:
            self.unplanned.discard(host)
        wide = any(len(c.shards) > self.per_cluster for c in plan.clusters.values())
        (self.wide.add if self.per_cluster and wide else self.wide.discard)(host)
        self.changed.set()

    def progress(self) -> Progress:
        """Since the last call."""
        at, cpu = self._last if self._moved else self._now()
        self._moved = False
        found = Progress(
            at=at,
            cpu=cpu,
            pushes=self.pushes,
            bytes=self.bytes,
            generations=len(self.generations),
            dials=self.dials,
        )
        self.pushes = self.bytes = 0
        self.generations = set()
        return found

    def _now(self) -> tuple[float, float]:
        return time.monotonic(), cpu_seconds(self._master)


class SimulatedHost:
    """One CONTROL."""

    def __init__(self, name: str, *, fleet: Fleet, context: ssl.SSLContext) -> None:
        self.name = name
        self._fleet = fleet
        self._context = context
        self._plan: HostPlan | None = None
        self._sessions: dict[int, Session] = {}
        self._entered: dict[int, int] = {}
        self._released: dict[int, Session] = {}
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._lost = False
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, session: aiohttp.ClientSession, url: str, gate: asyncio.Semaphore) -> None:
        """Dials, and dials again, until the power is cut."""
        self._fleet.unplanned.add(self.name)
        while not self._lost:
            try:
                async with gate:
                    await self._connect(session, url)
                assert self._socket is not None
                await self._read(self._socket)
            except (aiohttp.ClientError, OSError) as error:
                print(f"{self.name}: {error!r}", file=sys.stderr, flush=True)
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            self._fleet.dials += not self._lost
            await asyncio.sleep(random.uniform(0, 1))

    async def _connect(self, session: aiohttp.ClientSession, url: str) -> None:
        self._socket = await session.ws_connect(
            f"{url}/v1/control", ssl=self._context, max_msg_size=_LONGEST_PLAN
        )
        await self._send(Hello(protocol=PROTOCOL, version=__version__, report=self._report()))
        await self._send(AllowanceReport(serial=0))
        welcome = decode(master_to_control, await self._socket.receive_bytes(), peer="MASTER")
        if not isinstance(welcome, Welcome):
            raise SystemExit(f"{self.name}: MASTER says {welcome}")
        self._spawn(self._every(welcome.ping_interval, lambda: Ping(number=1)))
        self._spawn(self._every(REPORT_EVERY, self._report))
        self._spawn(self._every(CHECKPOINT_EVERY, self._checkpoint))

    def lose(self) -> None:
        """As by a power cut: the connection stays as it is, and nothing is said any more."""
        self._lost = True
        self._fleet.unplanned.discard(self.name)
        self._fleet.wide.discard(self.name)
        self._fleet.move(set(self._sessions), set())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(_ended)

    async def _send(self, message: Message) -> None:
        if self._socket is not None and not self._lost and not self._socket.closed:
            await self._socket.send_bytes(encode(message))

    async def _every(self, seconds: float, make: Callable[[], Message]) -> None:
        await asyncio.sleep(random.uniform(0, seconds))
        while not self._lost:
            await self._send(make())
            await asyncio.sleep(seconds)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for received in socket:
            if self._lost:
                continue
            message = decode(master_to_control, received.data, peer="MASTER")
            if isinstance(message, Ping):
                await self._send(Pong(number=message.number))
            elif isinstance(message, PlanPush):
                self._follow(message)
                await self._send(self._report())
            elif isinstance(message, Allowance):
                told = {name: getattr(message, name) for name in ("serial", "identifies", "daily")}
                await self._send(AllowanceReport(resets_in=message.resets_in, **told))
            elif isinstance(message, Rejected):
                said = f"{self.name}: MASTER ends the connection: {message.reason}"
                print(said, file=sys.stderr, flush=True)

    def _follow(self, push: PlanPush) -> None:
        if digest(push.text) != push.sha256:
            raise SystemExit(f"{self.name}: the plan is not what its digest says")
        plan = host_plan_from_yaml(push.text, file=self.name)
        mine = {shard for cluster in plan.clusters.values() for shard in cluster.shards}
        before = set(self._sessions)
        for shard in before - mine:
            self._released[shard] = self._sessions.pop(shard)
        for shard in mine - before:
            self._released.pop(shard, None)
            self._sessions[shard] = plan.handover.get(shard) or _fresh_session()
            self._entered[shard] = plan.generation
        other = self._plan is None or self._plan.clusters != plan.clusters
        self._plan = plan
        self._fleet.move(before, mine)
        self._fleet.take(self.name, push, plan, other=other)

    def _report(self) -> HostReport:
        plan = self._plan
        if plan is None:
            return HostReport(plan_generation=0, witness="127.0.0.1:7444")
        return HostReport(
            plan_generation=plan.generation,
            holding=tuple(sorted(self._sessions)),
            released=self._released,
            entered={shard: self._entered[shard] for shard in self._released},
            shard_count=plan.shard_count,
            clusters=tuple(self._cluster(n, c.shards, c.run) for n, c in plan.clusters.items()),
            summary=f"{len(plan.clusters)} clusters run",
            slots=plan.identify,
            witness="127.0.0.1:7444",
            panel=tuple(plan.witnesses),
        )

    def _cluster(self, number: int, shards: tuple[int, ...], run: int) -> ClusterView:
        assert self._plan is not None
        return ClusterView(
            cluster=number,
            unit="active",
            detail="running",
            pid=10_000 + number,
            connected=True,
            generation=self._plan.generation,
            run=run,
            uptime=time.monotonic(),
            handler="counting, 0 events waiting",
            cpu=0.125,
            memory=180_000_000 + number,
            event_rate=EVENTS_PER_SECOND * len(shards) + 0.5,
            shards=tuple(
                ShardView(
                    shard=shard,
                    state="ready",
                    since=time.monotonic(),
                    latency=0.0431,
                    guilds=1000,
                    seq=self._sessions[shard].seq,
                    event_age=0.0173,
                    events=self._sessions[shard].seq,
                    identifies=1,
                )
                for shard in shards
            ),
        )

    def _checkpoint(self) -> Message:
        passed = int(CHECKPOINT_EVERY * EVENTS_PER_SECOND)
        self._sessions = {
            shard: msgspec.structs.replace(session, seq=session.seq + passed)
            for shard, session in self._sessions.items()
        }
        return Checkpoint(
            shard_count=self._plan.shard_count if self._plan else 0,
            sessions=self._sessions,
            entered={shard: self._entered[shard] for shard in self._sessions},
        )


def _fresh_session() -> Session:
    return Session(
        session_id=f"{random.getrandbits(128):032x}",
        resume_url="wss://gateway-us-east1-b.discord.gg",
        seq=1,
        guilds=1000,
    )


def _ended(task: asyncio.Task[None]) -> None:
    """A host that fails makes the measurement void; a connection that ends does not."""
    if task.cancelled() or isinstance(error := task.exception(), ConnectionError):
        return
    if error is not None:
        print(f"failed: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)


class Bench:
    """Does what the commands say."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, directory: Path, *, fleet: Fleet
    ) -> None:
        self._session = session
        self._url = url
        self._directory = directory
        self._fleet = fleet
        self._hosts: list[SimulatedHost] = []
        self._tasks: list[asyncio.Task[None]] = []

    def connect(self, until: int) -> None:
        """More hosts, until there are so many."""
        gate = asyncio.Semaphore(_AT_ONCE)

        def dial(number: int) -> SimulatedHost:
            name = host_name(number)
            context = ssl.create_default_context(cafile=self._directory / "ca.crt")
            context.load_cert_chain(self._directory / f"{name}.crt", self._directory / "host.key")
            host = SimulatedHost(name, fleet=self._fleet, context=context)
            task = asyncio.create_task(host.run(self._session, self._url, gate))
            task.add_done_callback(_ended)
            self._tasks.append(task)
            return host

        numbers = range(len(self._hosts), until)
        self._hosts += map(dial, numbers)

    def lose(self, count: int) -> None:
        """The last ``count`` hosts."""
        for host in self._hosts[-count:]:
            host.lose()
        del self._hosts[-count:]

    def narrow(self, per_cluster: int) -> None:
        """From now on a host is late whose clusters have more shards."""
        self._fleet.per_cluster = per_cluster
        self._fleet.wide = {host.name for host in self._hosts}

    async def settle(self, shards: int) -> None:
        """Returns when every shard runs, every host has some, in clusters as they should be, and no
        plan came for a while.
        """
        fleet = self._fleet
        while True:
            fleet.changed.clear()
            wanting = len(fleet.owners) < shards or fleet.unplanned or fleet.wide
            try:
                await asyncio.wait_for(fleet.changed.wait(), None if wanting else _QUIET)
            except TimeoutError:
                break
        if fleet.twice:
            raise SystemExit(f"{fleet.twice} times a shard was given to a second host")

    async def obey(self, line: str) -> Progress:
        """One command with a number."""
        match = re.fullmatch(r"(connect|lose|narrow|settle|look) (\d+)", line.strip())
        if match is None:
            raise SystemExit(f"no command: {line}")
        command, number = match[1], int(match[2])
        if command == "settle":
            await self.settle(number)
        elif command != "look":
            getattr(self, command)(number)
        return self._fleet.progress()


def host_name(number: int) -> str:
    """Sorted by number."""
    return f"host-{number:05d}"


async def main(url: str, directory: str, master: str) -> None:
    """Reads commands until the end."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        bench = Bench(session, url, Path(directory), fleet=Fleet(int(master)))
        print("ready", flush=True)
        while line := (await lines.readline()).decode():
            done = await bench.obey(line)
            print("done", msgspec.json.encode(done).decode(), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
