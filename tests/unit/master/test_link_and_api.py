# SPDX-License-Identifier: Apache-2.0
"""A real MASTER on loopback, TLS and all, with a CONTROL played by hand."""

import asyncio
import datetime
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from discluster import __version__, pem
from discluster.clock import SystemClock
from discluster.console import (
    EventPage,
    Failure,
    FleetStatus,
    JoinAnswer,
    JoinRequest,
    JoinToken,
    PlanDiff,
    PlanHistory,
    RestartAnswer,
    RestartRequest,
    RollingChange,
    RollingRequest,
    RolloutStatus,
    TokenRequest,
)
from discluster.master.access.accounts import Accounts
from discluster.master.access.audit import AuditLog
from discluster.master.access.authority import Authority
from discluster.master.access.tls import ServerTls
from discluster.master.access.tokens import TokenDesk
from discluster.master.access.wiring import certificate_desk, enrolment
from discluster.master.api.certificates import CertificateRoutes
from discluster.master.api.machines import MachineApi
from discluster.master.api.operators import OperatorApi
from discluster.master.calls import FleetCalls
from discluster.master.hosts.link import ControlLink
from discluster.messages import (
    PROTOCOL,
    Goodbye,
    GoodbyeSeen,
    Hello,
    MasterToControl,
    Message,
    Ping,
    PlanPush,
    Pong,
    Rejected,
    Welcome,
    decode,
    encode,
    master_to_control,
)
from discluster.orders import (
    Drain,
    MovesStatus,
    Order,
    Ordered,
    Reload,
    RemoveHost,
    Rollback,
)
from discluster.plan import digest, fleet_plan_from_yaml, host_plan_from_yaml
from tests.clock import ManualClock
from tests.unit.master.fakes import Discord, Running, answer, settings
from tests.unit.master.fleets import report
from tests.unit.master.tls import client_context, csr_of, new_key, signed_host
from tests.waiting import wait_for

PATIENCE = 5.0


class Machine:
    """One CONTROL's socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, message: Message | bytes) -> None:
        await self.socket.send_bytes(message if isinstance(message, bytes) else encode(message))

    async def hear(self) -> MasterToControl | None:
        async with asyncio.timeout(PATIENCE):
            received = await self.socket.receive()
        if received.type is not aiohttp.WSMsgType.BINARY:
            return None
        message: MasterToControl = decode(master_to_control, received.data, peer="MASTER")
        return message

    async def hear_until(self, kind: type[Message]) -> Any:
        while (message := await self.hear()) is not None:
            if isinstance(message, kind):
                return message
        raise AssertionError(f"the connection ended without {kind.__name__}")


class Fleet:
    """A MASTER with its two HTTP interfaces."""

    def __init__(self, directory: Path, run: Running) -> None:
        self.directory = directory
        self.run = run
        self.now = datetime.datetime.now(datetime.UTC)
        self.authority = Authority(directory / "ca", now=self.now)
        self.tokens = TokenDesk(directory / "tokens.json")
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE))
        self.operator = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(directory / "master.sock")),
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
        )
        self.url = ""
        self.life = run.master.orders.settings.certificate_life
        self.machines: list[Machine] = []

    async def listen(self) -> list[web.AppRunner]:
        self.tls = ServerTls(
            self.authority, ["127.0.0.1"], life=lambda: self.life, clock=SystemClock()
        )
        master, clock = self.run.master, SystemClock()
        self.certificates = certificate_desk(
            master,
            directory=self.directory / "ca",
            authority=self.authority,
            tls=self.tls,
            events=self.run.events,
            clock=clock,
        )
        joining = enrolment(
            master,
            tokens=self.tokens,
            certificates=self.certificates,
            events=self.run.events,
            clock=clock,
        )
        self.calls = FleetCalls(master, clock=clock)
        link = ControlLink(
            master, self.certificates, self.calls, ping_interval=0.05, lease=30, clock=clock
        )
        machines = MachineApi(authority=self.authority, enrolment=joining, link=link)
        operators = OperatorApi(
            daemon=self.run.master,
            authority=self.authority,
            tokens=self.tokens,
            accounts=Accounts(self.directory / "operators.json"),
            audit=AuditLog(self.directory, keep=1000, clock=SystemClock()),
            events=self.run.events,
            settings_file=self.directory / "master.yaml",
            public_url="https://master.example:7443",
            login_life=7,
            clock=SystemClock(),
            more=CertificateRoutes(self.certificates).routes(),
        )
        runners = []
        for application in (machines.application(), operators.application()):
            runners.append(web.AppRunner(application, shutdown_timeout=0.2))
            await runners[-1].setup()
        assert runners[0].server is not None
        self.server = runners[0].server
        await web.TCPSite(runners[0], "127.0.0.1", 0, ssl_context=self.tls.context).start()
        await web.UnixSite(runners[1], str(self.directory / "master.sock")).start()
        self.url = f"https://127.0.0.1:{runners[0].addresses[0][1]}"
        return runners

    def context(self, host: str | None) -> ssl.SSLContext:
        if host is None:
            return client_context(self.authority)
        pair = signed_host(self.authority, host, self.directory, now=self.now)
        return client_context(self.authority, pair)

    async def enrol(self, host: str) -> ssl.SSLContext:
        """Joins with a token, as a machine does; what it dials with from then on."""
        key, token = new_key(), self.tokens.create(host=host, ttl=60, now=time.time())
        request = JoinRequest(token=token, host=host, csr=csr_of(key, host))
        status, body = await post_join(self, encode(request))
        assert status == 200, body
        both = self.directory / f"{host}.pem"
        joined = msgspec.json.decode(body, type=JoinAnswer)
        both.write_text(pem.private_pem(key) + joined.certificate)
        return client_context(self.authority, (both, both))

    async def dial(self, host: str | None, context: ssl.SSLContext | None = None) -> Machine:
        address = f"{self.url}/v1/control"
        context = context or self.context(host)
        machine = Machine(await self.session.ws_connect(address, ssl=context))
        # A socket that nobody holds is closed.
        self.machines.append(machine)
        return machine

    async def join(self, host: str, context: ssl.SSLContext | None = None) -> Machine:
        machine = await self.dial(host, context)
        await machine.say(Hello(protocol=PROTOCOL, version="1", report=report(0)))
        heard = await machine.hear()
        assert isinstance(heard, Welcome), heard
        return machine

    async def failure(self, method: str, path: str, **body: Any) -> tuple[int, Failure]:
        async with self.operator.request(method, f"http://master{path}", **body) as response:
            assert response.content_type == "application/json"
            return response.status, msgspec.json.decode(await response.read(), type=Failure)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    run = Running(tmp_path, settings("alpha", "beta"), Discord(answer()), ManualClock())
    (tmp_path / "master.yaml").write_text("hosts: {alpha: {}, beta: {}}\n")
    async with run:
        made = Fleet(tmp_path, run)
        runners = await made.listen()
        looking = asyncio.create_task(made.certificates.run())
        yield made
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await made.session.close()
        await made.operator.close()
        for runner in runners:
            await runner.cleanup()


async def test_a_host_is_greeted_and_gets_its_plan(fleet: Fleet) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    for name, machine in (("alpha", alpha), ("beta", beta)):
        push: PlanPush = await machine.hear_until(PlanPush)
        assert digest(push.text) == push.sha256
        assert host_plan_from_yaml(push.text, file="p").host == name


async def test_both_sides_ping(fleet: Fleet) -> None:
    alpha = await fleet.join("alpha")
    assert isinstance(await alpha.hear_until(Ping), Ping)
    await alpha.say(Ping(number=77))
    began = SystemClock().monotonic()
    pong = await alpha.hear_until(Pong)
    assert (pong.number, pong.now) == (77, pytest.approx(began, abs=5)), "and MASTER's clock"


async def test_a_goodbye_is_answered_on_the_wire(fleet: Fleet) -> None:
    alpha = await fleet.join("alpha")
    await alpha.say(Goodbye())
    assert await alpha.hear_until(GoodbyeSeen) == GoodbyeSeen()
    await alpha.socket.close()
    await wait_for(lambda: fleet.run.master.status().hosts[0].state == "unattended", PATIENCE)


async def test_the_newest_connection_of_a_host_replaces_the_older(fleet: Fleet) -> None:
    old = await fleet.join("alpha")
    new = await fleet.join("alpha")
    told: Rejected = await old.hear_until(Rejected)
    assert told.reason == "a newer connection of this host replaced this one"
    assert await old.hear() is None
    assert isinstance(await new.hear_until(Ping), Ping)
    assert fleet.run.master.status().hosts[0].state == "connected"


async def test_the_name_is_the_one_in_the_certificate(fleet: Fleet) -> None:
    await fleet.join("gamma")
    names = [host.host for host in fleet.run.master.status().hosts]
    assert names == ["alpha", "beta", "gamma"]
    assert [h.state for h in fleet.run.master.status().hosts] == [
        "expected",
        "expected",
        "connected",
    ]


async def test_a_machine_without_a_certificate_is_turned_away_in_words(fleet: Fleet) -> None:
    nobody = await fleet.dial(None)
    assert await nobody.hear() == Rejected(
        code="no-certificate", reason="it showed no certificate of this fleet"
    )
    assert await nobody.hear() is None
    assert nobody.socket.close_code == 4000


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (Hello(protocol=99, version="9.9", report=report(0)), "alpha speaks protocol 99 (version"),
        (Ping(number=1), "its first message must be hello"),
        (b"garbage", "alpha sent a message that does not fit the protocol"),
    ],
)
async def test_a_wrong_first_message_is_refused_in_words(
    fleet: Fleet, first: Message | bytes, said: str
) -> None:
    alpha = await fleet.dial("alpha")
    await alpha.say(first)
    told: Rejected = await alpha.hear_until(Rejected)
    assert told.code == "protocol"
    assert told.reason.startswith(said)
    assert fleet.run.master.status().hosts[0].state == "expected"


async def test_a_garbled_message_ends_that_connection_only(fleet: Fleet) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    await alpha.say(b"{")
    while await alpha.hear() is not None:
        pass
    await wait_for(lambda: fleet.run.master.status().hosts[0].state == "silent", PATIENCE)
    assert isinstance(await beta.hear_until(Ping), Ping)


# --- joining --------------------------------------------------------------------------------------


async def post_join(fleet: Fleet, body: bytes) -> tuple[int, bytes]:
    async with fleet.session.post(
        f"{fleet.url}/v1/join", data=body, ssl=fleet.context(None)
    ) as response:
        return response.status, await response.read()


async def test_a_machine_joins_with_a_token_once(fleet: Fleet) -> None:
    token = fleet.tokens.create(host="delta", ttl=60, now=time.time())
    request = encode(JoinRequest(token=token, host="delta", csr=csr_of(new_key(), "delta")))
    status, body = await post_join(fleet, request)
    assert status == 200
    joined = msgspec.json.decode(body, type=JoinAnswer)
    assert joined.ca == fleet.authority.bundle
    status, body = await post_join(fleet, request)
    assert status == 403
    assert msgspec.json.decode(body, type=Failure).code == "token-used"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad-request"),
        (b"\xff\xfe", 400, "bad-request"),
        (b"{}", 400, "bad-request"),
        (encode(JoinRequest(token="x", host="UPPER", csr="")), 409, "document"),
        (encode(JoinRequest(token="x", host="../../etc", csr="")), 409, "document"),
        (encode(JoinRequest(token="x", host="delta", csr="")), 403, "token-unknown"),
        (b" " * 100_000, 413, "http"),
    ],
)
async def test_a_bad_join_is_answered_in_words(
    fleet: Fleet, body: bytes, status: int, code: str
) -> None:
    answered, text = await post_join(fleet, body)
    failure = msgspec.json.decode(text, type=Failure)
    assert (answered, failure.code) == (status, code)
    assert failure.message


async def test_the_authority_can_be_fetched_and_operators_are_not_served_over_tls(
    fleet: Fleet,
) -> None:
    async with fleet.session.get(f"{fleet.url}/v1/ca", ssl=fleet.context(None)) as response:
        assert await response.text() == fleet.authority.certificate
    for path in ("/v1/status", "/v1/plan", "/v1/tokens"):
        async with fleet.session.get(fleet.url + path, ssl=fleet.context("alpha")) as response:
            assert response.status == 404
    async with fleet.session.get(f"{fleet.url}/v1/control", ssl=fleet.context("alpha")) as response:
        assert response.status == 400


# --- operators ------------------------------------------------------------------------------------


async def test_operators_get_status_plans_and_tokens(fleet: Fleet) -> None:
    await fleet.join("alpha")
    await fleet.join("beta")
    await wait_for(lambda: fleet.run.master.fleet is not None, PATIENCE)
    get = fleet.operator.get
    async with get("http://master/v1/status") as response:
        status = msgspec.json.decode(await response.read(), type=FleetStatus)
    assert (status.version, status.shard_count) == (__version__, 4)
    async with get("http://master/v1/plan") as response:
        plan = fleet_plan_from_yaml(await response.text(), file="p")
    assert plan == fleet.run.master.fleet
    async with get("http://master/v1/plan/alpha") as response:
        assert host_plan_from_yaml(await response.text(), file="p").host == "alpha"
    (fleet.directory / "master.yaml").write_text("shards_per_cluster: 1\n")
    async with get("http://master/v1/diff") as response:
        diff = msgspec.json.decode(await response.read(), type=PlanDiff)
    assert "to another cluster of the same host" in diff.summary
    async with fleet.operator.post(
        "http://master/v1/tokens", data=encode(TokenRequest(host="delta", ttl=60))
    ) as response:
        token = msgspec.json.decode(await response.read(), type=JoinToken)
    assert token.command == (
        f"discluster-control join https://master.example:7443 --token {token.token}"
        f" --ca-fingerprint {fleet.authority.fingerprint} --host delta"
    )


async def test_operators_restart_clusters_over_the_socket(fleet: Fleet) -> None:
    url = "http://master/v1/rolling"
    status, failure = await fleet.failure("GET", "/v1/rolling")
    assert (status, failure.code) == (404, "no-rollout")
    machines = {name: await fleet.join(name) for name in ("alpha", "beta")}
    for name, machine in machines.items():
        push: PlanPush = await machine.hear_until(PlanPush)
        shards = list(host_plan_from_yaml(push.text, file=name).shards())
        number = 0 if name == "alpha" else 1
        await machine.say(report(push.generation, shards, cluster=number))

    async def begun() -> bool:
        body = encode(RollingRequest(at_a_time=1))
        async with fleet.operator.post(url, data=body) as response:
            return response.status == 200

    await wait_for(begun, PATIENCE, what="both hosts have reported")
    async with fleet.operator.get(url) as response:
        rollout = msgspec.json.decode(await response.read(), type=RolloutStatus)
    assert [cluster.state for cluster in rollout.clusters] == ["underway", "waiting"]
    body = encode(RollingChange(action="pause"))
    async with fleet.operator.post(f"{url}/change", data=body) as response:
        rollout = msgspec.json.decode(await response.read(), type=RolloutStatus)
    assert rollout.state == "paused"
    body = encode(RestartRequest(clusters=(1,)))
    async with fleet.operator.post("http://master/v1/restart", data=body) as response:
        answered = msgspec.json.decode(await response.read(), type=RestartAnswer)
    assert answered.runs == {1: 1}


async def test_restarts_that_cannot_be_are_answered_in_words(fleet: Fleet) -> None:
    status, failure = await fleet.failure(
        "POST", "/v1/rolling", data=encode(RollingRequest(at_a_time=0))
    )
    assert (status, failure.message) == (400, "at least one cluster at a time")
    status, failure = await fleet.failure(
        "POST", "/v1/rolling/change", data=encode(RollingChange(action="continue", timeout=0.5))
    )
    assert (status, failure.code) == (400, "bad-request")
    status, failure = await fleet.failure("POST", "/v1/rolling", data=encode(RollingRequest()))
    assert (status, failure.code) == (409, "restart-refused")
    assert failure.message.startswith("not now: waiting for alpha, beta")


async def test_what_operators_ask_in_vain_is_answered_in_words(fleet: Fleet) -> None:
    status, failure = await fleet.failure("GET", "/v1/plan")
    assert (status, failure.code) == (409, "no-plan")
    assert failure.message.startswith("there is no plan yet: waiting for")
    status, failure = await fleet.failure("GET", "/v1/diff")
    assert (status, failure.code) == (409, "no-plan")
    await fleet.join("alpha")
    await fleet.join("beta")
    await wait_for(lambda: fleet.run.master.fleet is not None, PATIENCE)
    status, failure = await fleet.failure("GET", "/v1/plan/nobody")
    assert (status, failure.hint) == (404, "hosts in it: alpha, beta")
    (fleet.directory / "master.yaml").write_text("shards_per_clutser: 1\n")
    status, failure = await fleet.failure("GET", "/v1/diff")
    assert (status, failure.code) == (409, "document")
    assert "did you mean 'shards_per_cluster'?" in failure.message
    assert (await fleet.failure("GET", "/v1/none"))[0] == 404
    assert (await fleet.failure("POST", "/v1/status"))[0] == 405
    for body in (b"", b"{", encode(TokenRequest(ttl=0)), encode(TokenRequest(ttl=1e9))):
        assert (await fleet.failure("POST", "/v1/tokens", data=body))[0] == 400
    bad = encode(TokenRequest(host="UPPER"))
    assert (await fleet.failure("POST", "/v1/tokens", data=bad))[0] == 409


async def test_events_are_answered_and_waited_for(fleet: Fleet) -> None:
    fleet.run.events.record("host", "one", host="alpha")
    fleet.run.events.record("host", "two", host="beta")
    newest = fleet.run.events.newest

    async def ask(query: str) -> EventPage:
        async with fleet.operator.get(f"http://master/v1/events?{query}") as response:
            assert response.status == 200, await response.text()
            return msgspec.json.decode(await response.read(), type=EventPage)

    page = await ask("host=beta&last=1")
    assert [event.sentence for event in page.events] == ["two"]
    waiting = asyncio.create_task(ask(f"after={newest}&wait=30"))
    # The request is there once its answer is held back; what comes then is what it gets.
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    fleet.run.events.record("host", "three")
    page = await asyncio.wait_for(waiting, PATIENCE)
    assert [event.sentence for event in page.events] == ["three"]
    page = await ask(f"after={newest + 1}&wait=0.05")
    assert page.events == ()


async def test_question_for_events_that_makes_no_sense_is_refused(fleet: Fleet) -> None:
    async with fleet.operator.get("http://master/v1/events?after=yesterday") as response:
        failure = msgspec.json.decode(await response.read(), type=Failure)
        assert (response.status, failure.code) == (400, "bad-request")


# --- orders ---------------------------------------------------------------------------------------


async def ordered(fleet: Fleet, order: Order) -> Ordered:
    async with fleet.operator.post("http://master/v1/orders", data=encode(order)) as response:
        assert response.status == 200, await response.text()
        return msgspec.json.decode(await response.read(), type=Ordered)


async def test_orders_are_taken_over_the_socket_and_their_moves_are_told(fleet: Fleet) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    for machine in (alpha, beta):
        push: PlanPush = await machine.hear_until(PlanPush)
        plan = host_plan_from_yaml(push.text, file="p")
        await machine.say(report(plan.generation, plan.shards()))
    assert await fleet.failure("GET", "/v1/moves") == (
        404,
        Failure(code="no-moves", message="no order has moved a shard yet"),
    )
    dry = await ordered(fleet, Drain(host="beta", dry_run=True))
    assert (dry.diff.summary, dry.serial) == ("2 shards would move: 2 from beta to alpha", 0)
    taken = await ordered(fleet, Drain(host="beta", deadline=600))
    assert (taken.serial, taken.diff.changes) == (1, dry.diff.changes)
    async with fleet.operator.get("http://master/v1/moves") as response:
        moves = msgspec.json.decode(await response.read(), type=MovesStatus)
    assert (moves.order, moves.state, moves.total) == ("drain beta", "running", 2)
    async with fleet.operator.get("http://master/v1/history") as response:
        history = msgspec.json.decode(await response.read(), type=PlanHistory)
    assert [entry.current for entry in history.entries] == [False, True]
    first = history.entries[0].generation
    async with fleet.operator.get(f"http://master/v1/history/{first}") as response:
        assert fleet_plan_from_yaml(await response.text(), file="h").generation == first


async def test_orders_that_cannot_be_are_answered_in_words(fleet: Fleet) -> None:
    status, failure = await fleet.failure("POST", "/v1/orders", data=encode(Drain(host="beta")))
    assert (status, failure.code) == (409, "order-refused")
    assert failure.message.startswith("not now: waiting for alpha, beta")
    await fleet.join("alpha")
    await fleet.join("beta")
    await wait_for(lambda: fleet.run.master.fleet is not None, PATIENCE)
    wrong = [
        (Drain(host="gamma"), 404, "no-such-host"),
        (Drain(host="beta", deadline=0), 400, "bad-request"),
        (Rollback(generation=77), 404, "no-such-generation"),
        (RemoveHost(host="beta"), 409, "order-refused"),
    ]
    for order, expected, code in wrong:
        status, failure = await fleet.failure("POST", "/v1/orders", data=encode(order))
        assert (status, failure.code) == (expected, code)
    for body in (b"{", b"{}", b'{"type": "Conquer"}', b'{"type": "Drain"}'):
        assert (await fleet.failure("POST", "/v1/orders", data=body))[0] == 400
    assert (await fleet.failure("GET", "/v1/history/77"))[0] == 404


async def test_a_reload_over_the_socket_tells_every_fault_and_keeps_what_is_in_force(
    fleet: Fleet,
) -> None:
    file = fleet.directory / "master.yaml"
    file.write_text("hosts: {alpha: {weight: much}}\nshards_per_cluster: 0\n")
    status, failure = await fleet.failure("POST", "/v1/orders", data=encode(Reload()))
    assert (status, failure.code) == (409, "document")
    first, second = failure.message.splitlines()
    assert first.startswith(f"{file}:1: hosts.alpha.weight: ")
    assert second.startswith(f"{file}:2: shards_per_cluster: ")
    assert failure.hint == "the settings in force stay; correct the file and reload again"
    file.write_text("hosts: {alpha: {}, beta: {}}\nshards_per_cluster: 3\nevents_kept: 500\n")
    told = await ordered(fleet, Reload())
    reloads = {change.path: change.reloads for change in told.settings}
    assert reloads == {"shards_per_cluster": True, "events_kept": False}
    assert (await ordered(fleet, Reload())).done == (
        "in force when MASTER is restarted: events_kept",
    )


async def test_a_removed_host_is_turned_away_until_it_joins_with_a_token(fleet: Fleet) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    for machine in (alpha, beta):
        push: PlanPush = await machine.hear_until(PlanPush)
        plan = host_plan_from_yaml(push.text, file="p")
        await machine.say(report(plan.generation, plan.shards()))
    await beta.socket.close()
    await wait_for(lambda: fleet.run.master.status().hosts[1].state == "silent", PATIENCE)
    await ordered(fleet, RemoveHost(host="beta", lost=True))
    again = await fleet.dial("beta")
    told: Rejected = await again.hear_until(Rejected)
    assert told.code == "removed"
    assert "beta was removed from the fleet" in told.reason
    enrolled = await fleet.enrol("beta")
    with pytest.raises(AssertionError, match="beta was revoked"):
        await fleet.join("beta")  # with what it had before
    await fleet.join("beta", enrolled)
