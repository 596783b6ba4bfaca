# SPDX-License-Identifier: Apache-2.0
"""Operators at MASTER's two doors, over a real UNIX socket and real TLS: who gets in, what each
role may do, and what the audit log says of it.
"""

import asyncio
import contextlib
import os
import pwd
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import aiohttp
import pytest
from aiohttp import web

from discluster.console import EventQuery, FleetStatus, RestartAnswer, TokenRequest
from discluster.errors import RefusedError
from discluster.master.access.callers import Caller, LocalDoor, operator_in
from discluster.master.access.names import UserNames
from discluster.master.access.throttle import FREE
from discluster.master.api.gate import Gate
from discluster.master.api.routes import Route
from discluster.master.api.sockets import listening
from discluster.messages import Rejected, decode, encode, master_to_control
from discluster.operators import (
    AuditPage,
    LoginAnswer,
    LoginRequest,
    OperatorCredential,
    OperatorList,
    OperatorRequest,
    RemoteRole,
    RenewLogin,
    RevokeOperator,
    WhoAmI,
    allows,
)
from discluster.orders import Drain, Reload
from tests.unit.master.front import Front, Pair, front
from tests.unit.master.tls import csr_of, new_key
from tests.waiting import wait_for

DAY = 86_400.0
PATIENCE = 5.0

# What each route needs. A route that is added must be added here, with thought.
ROLES = {
    "GET /status": "view",
    "GET /plan": "view",
    "GET /plan/{host}": "view",
    "GET /diff": "view",
    "GET /history": "view",
    "GET /history/{generation:[0-9]{1,18}}": "view",
    "GET /events": "view",
    "GET /audit": "view",
    "GET /identify": "view",
    "GET /moves": "view",
    "GET /rolling": "view",
    "GET /whoami": "view",
    "GET /operators": "view",
    "POST /restart/progress": "view",
    "POST /renew": "view",
    "POST /logout": "view",
    "POST /orders": "operate",
    "POST /identify/resume": "operate",
    "POST /rolling": "operate",
    "POST /rolling/change": "operate",
    "POST /restart": "operate",
    "POST /calls": "operate",
    "POST /tokens": "admin",
    "POST /operators": "admin",
    "POST /operators/revoke": "admin",
}
LOCAL = LocalDoor(UserNames())
ONLY_ASKING = {"POST /restart/progress"}


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[Front]:
    async with front(tmp_path) as made:
        yield made


def routes_of(master: Front) -> tuple[Route, ...]:
    return master.api.routes(LOCAL.caller)


# --- every route ----------------------------------------------------------------------------------


async def test_every_route_has_the_role_that_was_thought_of(master: Front) -> None:
    found = {f"{route.method} {route.path}": route.role for route in routes_of(master)}
    assert found == ROLES


@pytest.mark.parametrize("body", [b"", b"{}", b"{", b'{"type": "nonsense"}'])
async def test_every_post_is_on_record_whatever_came_of_it(master: Front, body: bytes) -> None:
    expected = []
    for route in routes_of(master):
        if route.method == "GET":
            continue
        await master.locally(route.method, route.path, body)
        if f"{route.method} {route.path}" not in ONLY_ASKING:
            expected.append(f"{route.method} /v1{route.path}")
    assert [f"{entry.verb} {entry.path}" for entry in master.audited()] == expected


async def test_role_that_does_not_suffice_is_refused_at_every_route_and_on_record(
    master: Front,
) -> None:
    refused = 0
    for role in get_args(RemoteRole):
        for route in routes_of(master):
            if route.method == "GET" or allows(role, route.role):
                continue
            refused += 1
            name = f"{role}{refused}"
            token = master.token(name, role)
            answered = await master.remotely(route.method, route.path, b"{}", token=token)
            assert (answered.status, answered.code) == (403, "role"), route.path
            newest = master.audited()[-1]
            assert (newest.who, newest.outcome) == (name, "refused")
    assert refused == len(master.audited()) == 9 + 3


async def test_route_that_was_added_without_a_role_is_not_served(
    master: Front, tmp_path: Path
) -> None:
    async def hole(_: web.Request) -> web.Response:
        return web.Response(text="open to all")

    gate = Gate(LOCAL.caller, audit=master.audit, clock=master.clock)
    application = gate.application(routes_of(master), prefix="/v1")
    application.router.add_get("/v1/hole", hole)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        other = tmp_path / "other.sock"
        await web.SockSite(runner, listening(other, group="no-such-group")).start()
        master.socket = other
        answered = await master.locally("GET", "/hole")
    finally:
        await runner.cleanup()
    assert (answered.status, answered.code) == (500, "no-role")


# --- the socket -----------------------------------------------------------------------------------


async def test_who_is_on_masters_machine_is_known_by_peer_credentials(master: Front) -> None:
    who: WhoAmI = (await master.locally("GET", "/whoami")).read(WhoAmI)
    name = pwd.getpwuid(os.getuid()).pw_name
    assert (who.name, who.role, who.how, who.expires) == (name, "admin", "socket", None)
    (await master.locally("POST", "/orders", Reload())).read(object)
    (entry,) = master.audited()
    assert (entry.who, entry.uid, entry.pid) == (name, os.getuid(), os.getpid())
    assert (entry.verb, entry.path, entry.body["type"]) == ("POST", "/v1/orders", "reload")
    assert entry.outcome == "done"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to any group")
async def test_socket_is_for_the_group_if_there_is_one(tmp_path: Path) -> None:
    for group, expected in (("daemon", "daemon"), ("no-such-group", "root")):
        path = tmp_path / f"{group}.sock"
        with contextlib.closing(listening(path, group=group)):
            assert (path.group(), oct(path.stat().st_mode)[-4:]) == (expected, "0660")


async def test_dry_run_is_no_change_and_a_failure_says_why(master: Front) -> None:
    answered = await master.locally("POST", "/orders", Drain(host="beta", dry_run=True))
    assert answered.code == "order-refused"
    assert master.audited() == []
    answered = await master.locally("POST", "/orders", Drain(host="beta"))
    (entry,) = master.audited()
    assert (entry.outcome, entry.told) == ("failed", answered.failure.message)


async def test_audit_log_that_cannot_be_written_stops_what_would_change_something(
    master: Front,
) -> None:
    # The next line opens the file anew, and finds something else in its place.
    await master.locally("POST", "/tokens", TokenRequest())
    master.audit.close()
    (master.directory / "audit.jsonl").unlink()
    (master.directory / "audit.jsonl").mkdir()
    before = (master.directory / "tokens.json").read_text()
    answered = await master.locally("POST", "/tokens", TokenRequest())
    assert (answered.status, answered.code) == (507, "audit")
    assert "nothing was done" in answered.failure.message
    assert (master.directory / "tokens.json").read_text() == before
    assert (await master.locally("GET", "/status")).status == 200, "looking is free"


async def test_audit_page_is_waited_for(master: Front) -> None:
    waiting = asyncio.create_task(master.locally("GET", "/audit?wait=30"))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    await master.locally("POST", "/tokens", TokenRequest(host="delta"))
    page: AuditPage = (await asyncio.wait_for(waiting, PATIENCE)).read(AuditPage)
    (entry,) = page.entries
    assert entry.body == {"type": "token_request", "host": "delta", "ttl": 3600.0}


# --- logging in -----------------------------------------------------------------------------------


async def test_operator_logs_in_once_and_is_known_by_certificate(master: Front) -> None:
    request = OperatorRequest(name="alice", role="operate")
    made: OperatorCredential = (await master.locally("POST", "/operators", request)).read(
        OperatorCredential
    )
    assert made.command == (
        f"disclusterctl login https://master.example:7443 --token {made.token}"
        f" --ca-fingerprint {master.authority.fingerprint}"
    )
    key = new_key()
    body = LoginRequest(token=made.token, csr=csr_of(key, "root"))
    answered = await master.remotely("POST", "/login", body, prefix="/v1")
    login: LoginAnswer = answered.read(LoginAnswer)
    assert (login.name, login.role) == ("alice", "operate"), "whatever the request calls itself"
    pair = master.kept("alice", login, key)
    who: WhoAmI = (await master.remotely("GET", "/whoami", pair=pair)).read(WhoAmI)
    assert (who.name, who.role, who.how) == ("alice", "operate", "certificate")
    assert who.expires == pytest.approx(time.time() + 7 * DAY, abs=60)

    replayed = await master.remotely("POST", "/login", body, prefix="/v1")
    assert (replayed.status, replayed.code) == (401, "login-unknown")
    first, second = master.audited()
    assert (first.path, first.body["name"], first.how) == ("/v1/operators", "alice", "socket")
    assert (second.path, second.who, second.how) == ("/v1/login", "alice", "login")
    assert (second.address, second.body["token"]) == ("127.0.0.1", "***")
    assert made.token not in master.on_disk()


async def test_login_that_cannot_be_recorded_uses_up_no_token(master: Front) -> None:
    token = master.login_token("alice", "view")
    log = master.directory / "audit.jsonl"
    log.mkdir()
    answered = await master.log_in(token)
    assert (answered.status, answered.code) == (507, "audit")
    log.rmdir()
    assert (await master.log_in(token)).status == 200


async def test_what_becomes_of_operators_is_an_event(master: Front) -> None:
    request = OperatorRequest(name="alice", role="view")
    made = await master.locally("POST", "/operators", request)
    await master.log_in(made.read(OperatorCredential).token)
    await master.locally("POST", "/operators/revoke", RevokeOperator(name="alice"))
    told = [event.sentence for event in master.run.events.page(EventQuery()).events]
    assert told[-3:] == [
        "a login was made for the operator alice, role view",
        "the operator alice logged in, role view, from 127.0.0.1",
        "the operator alice was revoked",
    ]


async def test_without_a_login_nobody_gets_anything(master: Front) -> None:
    for route in routes_of(master):
        answered = await master.remotely(route.method, route.path.partition(":")[0], b"{}")
        assert (answered.status, answered.code) == (401, "login-required"), route.path
    assert (await master.remotely("GET", "/nothing-here")).status == 401
    assert master.audited() == []


async def test_bad_logins_are_refused_in_words_and_change_nothing(master: Front) -> None:
    late = master.login_token("alice", "view", ttl=5)
    master.clock.ahead = 10
    assert (await master.log_in(late)).code == "login-expired"
    assert (await master.log_in("x" * 43)).code == "login-unknown"
    good = master.login_token("alice", "view")
    bad_csr = await master.remotely(
        "POST", "/login", LoginRequest(token=good, csr="nonsense"), prefix="/v1"
    )
    assert (bad_csr.status, bad_csr.code) == (400, "bad-request")
    assert (await master.remotely("POST", "/login", b"{", prefix="/v1")).status == 400
    assert (await master.log_in(good)).status == 200, "the token was not used up by that"


async def test_wrong_tokens_are_told_counted_and_slowed(
    master: Front, caplog: pytest.LogCaptureFixture
) -> None:
    good = master.token("alice", "view", ttl=DAY)
    pair = await master.logged_in("carol", "view")
    codes = [
        (await master.remotely("GET", "/status", token=f"wrong-{n}")).code for n in range(FREE + 2)
    ]
    assert codes == ["login-unknown"] * (FREE + 1) + ["too-many-failures"]
    assert (await master.remotely("GET", "/status", token=good)).status == 429, "no guess is heard"
    assert (await master.log_in("whatever")).status == 429
    assert (await master.remotely("GET", "/status", pair=pair)).status == 200, "nothing to guess"
    master.clock.ahead += 61
    assert (await master.remotely("GET", "/status", token=good)).status == 200
    told = [record.getMessage() for record in caplog.records if "refused a login" in record.message]
    assert len(told) == FREE
    assert told[-1].endswith(", 5 times by now")
    events = master.run.events.page(EventQuery()).events
    (event,) = (event for event in events if "logins of operators failed" in event.sentence)
    assert event.severity == "warning"
    assert "wrong" not in caplog.text


# --- roles ----------------------------------------------------------------------------------------


async def test_view_looks_and_tries_but_does_not_change(master: Front) -> None:
    pair = await master.logged_in("carol", "view")
    status = await master.remotely("GET", "/status", pair=pair)
    assert isinstance(status.read(FleetStatus), FleetStatus)
    dry = await master.remotely("POST", "/orders", Drain(host="beta", dry_run=True), pair=pair)
    assert dry.code == "order-refused", "it was looked at: the fleet is not there yet"
    progress = await master.remotely("POST", "/restart/progress", RestartAnswer(runs={}), pair=pair)
    assert progress.status != 403
    refused = await master.remotely("POST", "/orders", Drain(host="beta"), pair=pair)
    assert (refused.status, refused.code) == (403, "role")
    assert refused.failure.message == "carol has the role view, which does not allow this"
    twice = b'{"type":"drain","host":"beta","dry_run":true,"dry_run":false}'
    assert (await master.remotely("POST", "/orders", twice, pair=pair)).status == 403
    assert [(e.path, e.outcome) for e in master.audited()] == [
        ("/v1/login", "done"),
        ("/v1/operator/orders", "refused"),
        ("/v1/operator/orders", "refused"),
    ]


async def test_operate_changes_and_is_named_with_the_address(master: Front) -> None:
    pair = await master.logged_in("alice", "operate")
    token = master.token("script", "operate")
    for given in ({"pair": pair}, {"token": token}):
        answered = await master.remotely("POST", "/orders", Reload(), **given)
        assert answered.status == 200, answered.body
    entries = master.audited()[-2:]
    assert [(e.who, e.role, e.how, e.address, e.outcome) for e in entries] == [
        ("alice", "operate", "certificate", "127.0.0.1", "done"),
        ("script", "operate", "token", "127.0.0.1", "done"),
    ]
    assert token not in master.on_disk()


async def test_identities_are_made_on_masters_machine_only(master: Front) -> None:
    pair = await master.logged_in("alice", "operate")
    for path, body in (
        ("/tokens", encode(TokenRequest())),
        ("/operators", encode(OperatorRequest(name="mallory", role="operate"))),
        ("/operators/revoke", encode(RevokeOperator(name="alice"))),
    ):
        answered = await master.remotely("POST", path, body, pair=pair)
        assert (answered.status, answered.code) == (403, "role")
        assert "on MASTER's machine" in (answered.failure.hint or "")
    listed: OperatorList = (await master.locally("GET", "/operators")).read(OperatorList)
    assert [view.name for view in listed.operators] == ["alice"]


async def test_who_is_refused_again_and_again_cannot_write_the_log_full(master: Front) -> None:
    token = master.token("carol", "view")
    for _ in range(3 * FREE):
        await master.remotely("POST", "/restart", b"{}", token=token)
    assert len(master.audited()) == FREE + 1
    assert (await master.remotely("POST", "/restart", b"{}", token=token)).status == 429
    assert (await master.remotely("GET", "/status", token=token)).status == 200


# --- the end of a login ---------------------------------------------------------------------------


async def test_revoked_operator_is_out_with_the_next_call(master: Front) -> None:
    pair = await master.logged_in("alice", "operate")
    token = master.token("alice", "operate")
    unused = master.login_token("alice", "operate")
    async with aiohttp.ClientSession() as session:  # one connection, which was good before
        url, context = f"{master.url}/v1/operator/status", master.context(pair)
        async with session.get(url, ssl=context) as response:
            assert response.status == 200
        revoked = await master.locally("POST", "/operators/revoke", RevokeOperator(name="alice"))
        assert revoked.status == 200
        async with session.get(url, ssl=context) as response:
            assert response.status == 401
    assert (await master.remotely("GET", "/status", token=token)).code == "login-unknown"
    assert (await master.log_in(unused)).code == "login-unknown"


async def test_certificate_of_a_revoked_operator_does_not_come_back_with_the_name(
    master: Front,
) -> None:
    old = await master.logged_in("alice", "operate")
    aside = tuple(path.rename(path.with_suffix(path.suffix + ".old")) for path in old)
    master.accounts.revoke("alice")
    await master.logged_in("alice", "operate")
    answered = await master.remotely("GET", "/status", pair=(aside[0], aside[1]))
    assert (answered.status, answered.code) == (401, "login-unknown")


async def test_revoked_operator_who_waits_for_events_gets_none(master: Front) -> None:
    pair = await master.logged_in("alice", "view")
    newest = master.run.events.newest
    url = f"/events?after={newest}&wait=30"
    waiting = asyncio.create_task(master.remotely("GET", url, pair=pair))

    def seen() -> bool:
        (view,) = master.accounts.listed(now=master.clock.wall()).operators
        return view.seen is not None

    await wait_for(seen, PATIENCE)
    master.accounts.revoke("alice")
    master.run.events.record("master", "not for alice")
    answered = await asyncio.wait_for(waiting, PATIENCE)
    assert answered.status == 401


async def test_expired_certificate_and_token_are_refused_in_words(master: Front) -> None:
    pair = await master.logged_in("alice", "view")
    token = master.token("alice", "view", ttl=DAY)
    master.clock.ahead = 8 * DAY
    assert (await master.remotely("GET", "/status", pair=pair)).code == "login-expired"
    assert (await master.remotely("GET", "/status", token=token)).code == "login-expired"


async def test_certificate_is_renewed_by_who_shows_it_but_not_by_a_token(master: Front) -> None:
    pair = await master.logged_in("alice", "view")
    key = new_key()
    request = RenewLogin(csr=csr_of(key, "x"))
    answered = await master.remotely("POST", "/renew", request, pair=pair)
    fresh = master.kept("fresh", answered.read(LoginAnswer), key)
    assert fresh[0].read_text() != pair[0].read_text()
    for good in (fresh, pair):
        assert (await master.remotely("GET", "/status", pair=good)).status == 200
    token = master.token("alice", "view")
    assert (await master.remotely("POST", "/renew", request, token=token)).status == 403
    assert (await master.remotely("POST", "/logout", b"{}", pair=pair)).status == 200
    assert (await master.remotely("GET", "/status", pair=pair)).status == 401
    assert (await master.remotely("GET", "/status", pair=fresh)).status == 200


# --- hosts and operators are not each other -------------------------------------------------------


async def test_certificate_of_a_host_is_no_operators(master: Front) -> None:
    master.token("alpha", "operate")  # an operator of the same name makes no difference
    answered = await master.remotely("GET", "/status", pair=master.host("alpha"))
    assert (answered.status, answered.code) == (401, "login-required")


async def test_certificate_of_an_operator_opens_no_control_connection(master: Front) -> None:
    pair = await master.logged_in("alpha", "operate")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{master.url}/v1/control", ssl=master.context(pair)) as socket,
    ):
        heard = await socket.receive(timeout=PATIENCE)
        told = decode(master_to_control, heard.data, peer="MASTER")
        assert told == Rejected(
            code="no-certificate", reason="it showed no certificate of this fleet"
        )
    assert [host.state for host in master.run.master.status().hosts] == ["expected", "expected"]


async def test_certificate_of_another_authority_is_refused_by_tls(
    master: Front, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    async with front(tmp_path / "other") as other:
        foreign: Pair = await other.logged_in("alice", "operate")
    master.token("alice", "operate")
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await master.remotely("GET", "/status", pair=foreign)


@pytest.mark.parametrize(
    ("names", "operator"),
    [
        ((("URI", "discluster:operator/alice"),), "alice"),
        ((("DNS", "alice"),), None),
        ((("URI", "discluster:host/alice"),), None),
        ((("URI", "discluster:operator/alice"), ("DNS", "alpha")), None),
        ((("DNS", "discluster:operator/alice"),), None),
        ((), None),
    ],
)
def test_only_a_certificate_with_nothing_but_an_operators_name_is_one(
    names: tuple[tuple[str, str], ...], operator: str | None
) -> None:
    assert operator_in({"subjectAltName": names}) == operator


async def test_caller_that_hung_up_is_nobody() -> None:
    class Gone:
        transport = None

    with pytest.raises(RefusedError):
        await LOCAL.caller(Gone())  # type: ignore[arg-type]


def test_caller_is_told_with_the_place() -> None:
    alice = Caller(name="alice", role="view", how="token", address="192.0.2.7")
    assert str(alice) == "alice (token, from 192.0.2.7)"
