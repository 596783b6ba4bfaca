# SPDX-License-Identifier: Apache-2.0
"""A MASTER with its two HTTP interfaces on loopback, as operators meet it."""

import datetime
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import web
from cryptography.hazmat.primitives import serialization

from discluster.clock import DAY, SystemClock
from discluster.console import Failure
from discluster.master.access.accounts import Accounts
from discluster.master.access.audit import AuditLog
from discluster.master.access.authority import Authority
from discluster.master.access.tls import ServerTls
from discluster.master.access.tokens import TokenDesk
from discluster.master.access.wiring import certificate_desk, enrolment
from discluster.master.api.calls import CallRoutes
from discluster.master.api.machines import MachineApi
from discluster.master.api.operators import OperatorApi
from discluster.master.api.sockets import listening
from discluster.master.calls import FleetCalls
from discluster.master.hosts.link import ControlLink
from discluster.messages import Message, encode
from discluster.operators import (
    AuditEntry,
    AuditQuery,
    LoginAnswer,
    LoginRequest,
    RemoteRole,
)
from tests.clock import ManualClock
from tests.unit.master.fakes import Discord, Running, answer, settings
from tests.unit.master.tls import client_context, csr_of, new_key, signed_host

PATIENCE = 5.0
Pair = tuple[Path, Path]


class SetClock(SystemClock):
    """The machine's clocks, with a wall clock that a test puts forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def wall(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class Answer(NamedTuple):
    """What came back. ``code``: of a failure."""

    status: int
    body: bytes

    def read(self, shape: Any) -> Any:
        assert self.status == 200, self.body
        return msgspec.json.decode(self.body, type=shape)

    @property
    def failure(self) -> Failure:
        assert self.status >= 400, self.body
        return msgspec.json.decode(self.body, type=Failure)

    @property
    def code(self) -> str:
        return self.failure.code


class Front:
    """``url``: of the TLS side. ``socket``: the other one."""

    def __init__(self, directory: Path, run: Running) -> None:
        self.directory = directory
        self.run = run
        self.clock = SetClock()
        self.socket = directory / "master.sock"
        self.authority = Authority(directory / "ca", now=datetime.datetime.now(datetime.UTC))
        self.accounts = Accounts(directory / "operators.json")
        self.audit = AuditLog(directory, keep=1000, clock=self.clock)
        self.tokens = TokenDesk(directory / "tokens.json")
        self.calls = FleetCalls(run.master, clock=self.clock)
        self.api = OperatorApi(
            daemon=run.master,
            authority=self.authority,
            tokens=self.tokens,
            accounts=self.accounts,
            audit=self.audit,
            events=run.events,
            settings_file=directory / "master.yaml",
            public_url="https://master.example:7443",
            login_life=7,
            clock=self.clock,
            more=CallRoutes(self.calls).routes(),
        )
        self.url = ""

    async def listen(self) -> list[web.AppRunner]:
        master, events = self.run.master, self.run.events
        tls = ServerTls(self.authority, ["127.0.0.1"], life=lambda: DAY, clock=SystemClock())
        certificates = certificate_desk(
            master,
            directory=self.directory / "ca",
            authority=self.authority,
            tls=tls,
            events=events,
            clock=self.clock,
        )
        joining = enrolment(
            master,
            tokens=self.tokens,
            certificates=certificates,
            events=events,
            clock=self.clock,
        )
        link = ControlLink(
            master, certificates, self.calls, ping_interval=1, lease=30, clock=self.clock
        )
        machines = MachineApi(authority=self.authority, enrolment=joining, link=link).application()
        self.api.attach(machines)
        runners = []
        for application in (machines, self.api.application()):
            runners.append(web.AppRunner(application, shutdown_timeout=0.2))
            await runners[-1].setup()
        await web.TCPSite(runners[0], "127.0.0.1", 0, ssl_context=tls.context).start()
        await web.SockSite(runners[1], listening(self.socket, group="no-such-group")).start()
        self.url = f"https://127.0.0.1:{runners[0].addresses[0][1]}"
        return runners

    # --- asking ---

    async def locally(self, method: str, path: str, body: Message | bytes | None = None) -> Answer:
        """On the UNIX socket."""
        connector = aiohttp.UnixConnector(str(self.socket))
        async with aiohttp.ClientSession(connector=connector) as session:
            return await _ask(session, method, f"http://master/v1{path}", body)

    async def remotely(
        self,
        method: str,
        path: str,
        body: Message | bytes | None = None,
        *,
        pair: Pair | None = None,
        token: str | None = None,
        prefix: str = "/v1/operator",
    ) -> Answer:
        """Over TLS, showing a certificate or a token."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        async with aiohttp.ClientSession(headers=headers) as session:
            url = f"{self.url}{prefix}{path}"
            return await _ask(session, method, url, body, ssl=self.context(pair))

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        return client_context(self.authority, pair)

    # --- operators ---

    def token(self, name: str, role: RemoteRole, *, ttl: float = 60.0) -> str:
        """A token for calls."""
        return self.accounts.create(name, role, kind="token", ttl=ttl, now=self.clock.wall())

    def login_token(self, name: str, role: RemoteRole, *, ttl: float = 60.0) -> str:
        return self.accounts.create(name, role, kind="login", ttl=ttl, now=self.clock.wall())

    async def log_in(self, token: str) -> Answer:
        request = LoginRequest(token=token, csr=csr_of(new_key(), "whoever"))
        return await self.remotely("POST", "/login", request, prefix="/v1")

    async def logged_in(self, name: str, role: RemoteRole) -> Pair:
        """The files of a certificate of that operator."""
        key = new_key()
        request = LoginRequest(token=self.login_token(name, role), csr=csr_of(key, name))
        answered = await self.remotely("POST", "/login", request, prefix="/v1")
        found: LoginAnswer = answered.read(LoginAnswer)
        return self.kept(name, found, key)

    def kept(self, name: str, found: LoginAnswer, key: Any) -> Pair:
        pair = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        pair[0].write_text(found.certificate)
        pair[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def host(self, name: str) -> Pair:
        now = datetime.datetime.now(datetime.UTC)
        return signed_host(self.authority, name, self.directory, now=now)

    # --- the audit log ---

    def audited(self) -> list[AuditEntry]:
        return list(self.audit.page(AuditQuery()).entries)

    def on_disk(self) -> str:
        return (self.directory / "audit.jsonl").read_text()


async def _ask(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    body: Message | bytes | None,
    **more: Any,
) -> Answer:
    data = encode(body) if isinstance(body, Message) else body
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with session.request(method, url, data=data, timeout=timeout, **more) as response:
        return Answer(response.status, await response.read())


@asynccontextmanager
async def front(directory: Path) -> AsyncIterator[Front]:
    """A fleet of alpha and beta, whom nobody has heard of yet."""
    run = Running(directory, settings("alpha", "beta"), Discord(answer()), ManualClock())
    (directory / "master.yaml").write_text("hosts: {alpha: {}, beta: {}}\n")
    async with run:
        made = Front(directory, run)
        runners = await made.listen()
        try:
            yield made
        finally:
            made.audit.close()
            for runner in runners:
                await runner.cleanup()
