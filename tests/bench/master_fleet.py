# SPDX-License-Identifier: Apache-2.0
"""MASTER as a process, a thousand simulated CONTROLs in another, and whoever looks at both."""

import asyncio
import contextlib
import datetime
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from discluster import places
from discluster.console import Event, EventPage
from discluster.master.access.authority import Authority
from tests.bench.master_hosts import Progress, host_name
from tests.bench.processes import BenchError, Cores, Program, program
from tests.ports import free_port
from tests.waiting import wait_for

PATIENCE: Final = 300.0
_LOOKED_EVERY: Final = 0.1


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured. ``lease``, ``ping_interval``, ``start_wait``, ``rest``: seconds; ``lost``:
    hosts whose power is cut.
    """

    hosts: int
    shards: int
    lease: float
    ping_interval: float
    start_wait: float
    rest: float
    lost: int


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """What something cost MASTER. ``seconds``: until the last plan was out; ``cpu``: seconds;
    ``stall``: the longest that its operator's socket did not answer; ``pushes``, ``bytes``: plans
    that hosts got; ``generations``: different ones among them.
    """

    seconds: float
    cpu: float
    stall: float
    pushes: int
    bytes: int
    generations: int


class Rig:
    """Both processes, and MASTER's operator socket."""

    def __init__(
        self, fleet: Fleet, directory: Path, master: Program, operator: aiohttp.ClientSession
    ) -> None:
        self.fleet = fleet
        self.master = master
        self._directory = directory
        self._operator = operator
        self._hosts: Program | None = None
        self._stall = 0.0

    def attach(self, hosts: Program) -> None:
        """The process of the CONTROLs."""
        self._hosts = hosts

    async def command(self, line: str) -> Progress:
        """To the CONTROLs; returns when it is done."""
        assert self._hosts is not None
        self._hosts.say(line)
        return msgspec.json.decode(await self._hosts.line("done", PATIENCE), type=Progress)

    async def span(self, *commands: str, order: bytes | None = None) -> Span:
        """An order of the operator's, if there is one, and commands, until the last is done."""
        await self.command("look 0")
        self._stall = 0.0
        began, cpu = time.monotonic(), self.master.cpu_seconds
        ordering = self.order(order) if order is not None else asyncio.sleep(0)
        told, _ = await asyncio.gather(self._all(commands), ordering)
        return Span(
            seconds=told[-1].at - began,
            cpu=told[-1].cpu - cpu,
            stall=self._stall,
            pushes=sum(one.pushes for one in told),
            bytes=sum(one.bytes for one in told),
            generations=max(one.generations for one in told),
        )

    async def _all(self, commands: tuple[str, ...]) -> list[Progress]:
        return [await self.command(line) for line in commands]

    async def order(self, body: bytes) -> None:
        """What disclusterctl posts."""
        async with self._operator.post("/v1/orders", data=body) as response:
            if response.status != 200:
                raise BenchError(f"MASTER refused the order: {await response.text()}")

    async def rest(self, seconds: float) -> Span:
        """Nothing happens for so long but what always does."""
        await self.command("look 0")
        self._stall = 0.0
        began, cpu = time.monotonic(), self.master.cpu_seconds
        await asyncio.sleep(seconds)
        cpu, took = self.master.cpu_seconds - cpu, time.monotonic() - began
        told = await self.command("look 0")
        return Span(
            seconds=took,
            cpu=cpu,
            stall=self._stall,
            pushes=told.pushes,
            bytes=told.bytes,
            generations=told.generations,
        )

    async def events(self, *, since: float) -> tuple[Event, ...]:
        """What MASTER recorded since then (wall clock, seconds)."""
        found: tuple[Event, ...] = ()
        after = 0
        while True:
            query = {"since": f"{since}", "after": f"{after}"}
            async with self._operator.get("/v1/events", params=query) as response:
                page = msgspec.json.decode(await response.read(), type=EventPage)
            found, after = found + page.events, page.upto
            if after == page.newest:
                return found

    async def look(self) -> None:
        """Asks MASTER something small again and again, until cancelled."""
        while True:
            began = time.monotonic()
            async with self._operator.get("/v1/events", params={"last": "0"}) as response:
                await response.read()
            self._stall = max(self._stall, time.monotonic() - began)
            await asyncio.sleep(_LOOKED_EVERY)

    def set_cluster_size(self, size: int) -> None:
        """In MASTER's settings; a reload takes it."""
        path = self._directory / "master.yaml"
        lines = [x for x in path.read_text().splitlines() if not x.startswith("shards_per_cluster")]
        path.write_text("\n".join([*lines, f"shards_per_cluster: {size}", ""]))


@asynccontextmanager
async def rig(fleet: Fleet, directory: Path, *, cores: Cores) -> AsyncIterator[Rig]:
    """MASTER runs; no host has dialled yet."""
    port = free_port()
    _prepare(fleet, directory, port)
    socket = places.master_socket(directory / "run")
    async with contextlib.AsyncExitStack() as stack:
        master = await stack.enter_async_context(
            program(
                [
                    *(sys.executable, "-m", "discluster.master.main"),
                    *("--config", str(directory / "master.yaml")),
                ],
                name="master",
                directory=directory,
                core=cores.client,
                extra={},
            )
        )
        await wait_for(socket.exists, PATIENCE, what="MASTER's socket")
        operator = await stack.enter_async_context(
            aiohttp.ClientSession(
                "http://master",
                connector=aiohttp.UnixConnector(path=str(socket)),
                timeout=aiohttp.ClientTimeout(total=PATIENCE),
            )
        )
        made = Rig(fleet, directory, master, operator)
        command = [
            *(sys.executable, "-m", "tests.bench.master_hosts"),
            *(f"https://127.0.0.1:{port}", str(directory), str(master.pid)),
        ]
        hosts = await stack.enter_async_context(
            program(
                command,
                name="hosts",
                directory=directory,
                core=cores.simulator,
                extra={},
                obeys=True,
            )
        )
        await hosts.line("ready", PATIENCE)
        made.attach(hosts)
        looking = asyncio.create_task(made.look())
        try:
            yield made
        finally:
            looking.cancel()
            await asyncio.wait([looking])


def _prepare(fleet: Fleet, directory: Path, port: int) -> None:
    """Settings for MASTER, its authority, and a certificate for each host, all for one key."""
    # One more than are expected: it joins later.
    names = [host_name(number) for number in range(fleet.hosts + 1)]
    (directory / "master.yaml").write_text(
        f"listen: 127.0.0.1:{port}\n"
        f"shard_count: {fleet.shards}\n"
        "gateway_url: wss://gateway.discord.gg\nmax_concurrency: 16\n"
        f"lease: {fleet.lease}\nping_interval: {fleet.ping_interval}\n"
        f"start_wait: {fleet.start_wait}\n"
        f"state_directory: {directory}\nruntime_directory: {directory / 'run'}\n"
        f"hosts: {{{', '.join(f'{name}: {{}}' for name in names[:-1])}}}\n"
    )
    now = datetime.datetime.now(datetime.UTC)
    authority = Authority(directory / "master" / "ca", now=now)
    (directory / "ca.crt").write_text(authority.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    (directory / "host.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    for name in names:
        (directory / f"{name}.crt").write_text(authority.sign_host(pem, name, now=now))
