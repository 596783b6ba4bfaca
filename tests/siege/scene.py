# SPDX-License-Identifier: Apache-2.0
"""A MASTER under siege: the real process, honest hosts, and a crowd of attackers in another."""

import asyncio
import contextlib
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from discluster import places
from discluster.console import JoinToken, TokenRequest
from discluster.messages import encode
from tests.bench.master_fleet import Fleet, Rig, rig
from tests.bench.master_hosts import host_name
from tests.bench.processes import Program, cores, program
from tests.siege.crowd import Attack, Came
from tests.siege.honest import HonestHost, honest_host

HOSTS = 12
SHARDS = 192
LEASE = 10.0
_PATIENCE = 60.0


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What an attack did. ``before``, ``peak``: MASTER's memory, MB; ``pong``, ``permit``: the
    longest that an honest host waited, ``status``: that an operator did; seconds. ``dials``:
    honest hosts that had to dial again. ``files``: that MASTER had open, at most.
    """

    came: Came
    before: float
    peak: float
    pong: float
    permit: float
    permits: int
    status: float
    dials: int
    files: int

    def in_words(self, kind: str) -> str:
        return (
            f"{kind}: {self.came.attempts} connections in {self.came.seconds:.1f} s,"
            f" {self.came.refused} ended; memory {self.before:.0f} -> {self.peak:.0f} MB,"
            f" files {self.files}, pong {self.pong:.2f} s, permit {self.permit:.2f} s"
            f" ({self.permits}), status {self.status:.2f} s, {self.dials} honest dials"
        )


class Crowd:
    """The attackers' process."""

    def __init__(self, process: Program) -> None:
        self._process = process

    async def attack(self, attack: Attack) -> Came:
        self._process.say(msgspec.json.encode(attack).decode())
        return msgspec.json.decode(await self._process.line("came", _PATIENCE), type=Came)


class Scene:
    """``url``: MASTER's; ``honest``: the host that is watched."""

    def __init__(
        self,
        made: Rig,
        crowd: Crowd,
        directory: Path,
        operator: aiohttp.ClientSession,
        honest: HonestHost,
    ) -> None:
        self.master = made.master
        self.directory = directory
        self.operator = operator
        self.honest = honest
        self._rig = made
        self._crowd = crowd
        self.port = _port(directory)
        self.url = f"https://127.0.0.1:{self.port}"

    async def besiege(
        self,
        kind: str,
        *,
        connections: int,
        attempts: int = 3000,
        seconds: float = 3.0,
        addresses: int = 40,
        certificate: tuple[Path, Path] | None = None,
    ) -> Watched:
        """One attack, and what it did to everybody else."""
        attack = Attack(
            kind=kind,
            port=self.port,
            connections=connections,
            addresses=addresses,
            attempts=attempts,
            seconds=seconds,
            certificate=str(certificate[0]) if certificate else None,
            key=str(certificate[1]) if certificate else None,
        )
        self.honest.begin_anew()
        dials = (await self._rig.command("look 0")).dials
        before = memory(self.master.pid)
        watch = Watch(self.master.pid, self.operator)
        async with watch.looking():
            came = await self._crowd.attack(attack)
        assert not self.honest.ended, "the connection of the honest host has ended"
        watched = Watched(
            came=came,
            before=before,
            peak=watch.peak,
            pong=max(self.honest.slowest_pong, self.honest.waits),
            permit=self.honest.slowest_permit,
            permits=self.honest.permits,
            status=watch.slowest,
            dials=(await self._rig.command("look 0")).dials - dials,
            files=watch.files,
        )
        print(watched.in_words(kind))
        return watched

    def certificate(self, number: int) -> tuple[Path, Path]:
        """Of a host of the fleet."""
        return self.directory / f"{host_name(number)}.crt", self.directory / "host.key"

    async def token(self, host: str) -> JoinToken:
        """As an operator makes it."""
        body = encode(TokenRequest(host=host, ttl=60))
        async with self.operator.post("/v1/tokens", data=body) as response:
            assert response.status == 200, await response.text()
            return msgspec.json.decode(await response.read(), type=JoinToken)

    async def log(self) -> str:
        """What MASTER said."""
        return (self.directory / "master.log").read_text()


class Watch:
    """Looks at a process and asks MASTER's operator socket, again and again."""

    def __init__(self, pid: int, operator: aiohttp.ClientSession) -> None:
        self._pid = pid
        self._operator = operator
        self.peak = self.slowest = 0.0
        self.files = 0

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            self.peak = max(self.peak, memory(self._pid))
            self.files = max(self.files, len(list(Path(f"/proc/{self._pid}/fd").iterdir())))
            began = time.monotonic()
            async with self._operator.get("/v1/status") as response:
                await response.read()
                assert response.status == 200
            self.slowest = max(self.slowest, time.monotonic() - began)
            await asyncio.sleep(0.1)


def memory(pid: int) -> float:
    """Resident, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise AssertionError(f"process {pid} has no memory")


def _port(directory: Path) -> int:
    first = (directory / "master.yaml").read_text().splitlines()[0]
    return int(first.rpartition(":")[2])


def trusting(directory: Path, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """Trusts this fleet's authority; shows a certificate, if it has one."""
    context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    if pair is not None:
        context.load_cert_chain(*pair)
    return context


@asynccontextmanager
async def crowd(directory: Path) -> AsyncIterator[Crowd]:
    """Ready to attack."""
    async with program(
        [sys.executable, "-m", "tests.siege.crowd"],
        name="crowd",
        directory=directory,
        core=cores().simulator,
        extra={},
        obeys=True,
    ) as process:
        await process.line("ready", _PATIENCE)
        yield Crowd(process)


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """A fleet at rest: the last host is played by this process, the others by another."""
    fleet = Fleet(
        hosts=HOSTS,
        shards=SHARDS,
        lost=0,
        lease=LEASE,
        ping_interval=1.0,
        start_wait=20.0,
        rest=0.0,
    )
    async with contextlib.AsyncExitStack() as stack:
        made = await stack.enter_async_context(rig(fleet, directory, cores=cores()))
        attackers = await stack.enter_async_context(crowd(directory))
        await made.command(f"connect {HOSTS - 1}")
        pair = (directory / f"{host_name(HOSTS - 1)}.crt", directory / "host.key")
        url = f"https://127.0.0.1:{_port(directory)}"
        honest = await stack.enter_async_context(honest_host(url, trusting(directory, pair)))
        operator = await stack.enter_async_context(
            aiohttp.ClientSession(
                "http://master",
                connector=aiohttp.UnixConnector(path=str(places.master_socket(directory / "run"))),
                timeout=aiohttp.ClientTimeout(total=_PATIENCE),
            )
        )
        shards = SHARDS - len(list(honest.plan.shards()) if honest.plan else ())
        await made.command(f"settle {shards}")
        yield Scene(made, attackers, directory, operator, honest)
