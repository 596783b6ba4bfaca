# SPDX-License-Identifier: Apache-2.0
"""The client against real servers on real UNIX sockets, and every way in which they can fail."""

import asyncio
import os
import pwd
import socket as sockets
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from discluster import messages
from discluster.console import Failure, JoinToken, TokenRequest
from discluster.ctl.client import Master, control_status
from discluster.ctl.transport import way_in
from discluster.errors import (
    ConfigurationError,
    DisclusterError,
    DiscordError,
    ProtocolError,
    RefusedError,
    StateError,
    UnavailableError,
)
from discluster.messages import Assignment, Rejected, StatusQuery
from tests.unit.ctl import fleets, servers

Ask = Callable[[Path], Awaitable[object]]

NOBODY = 65534


async def ask_master(path: Path) -> object:
    return await Master(path, timeout=5).status()


async def ask_control(path: Path) -> object:
    return await control_status(path, timeout=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "service.sock"


async def failure_of(answer: Awaitable[object]) -> DisclusterError:
    with pytest.raises(DisclusterError) as caught:
        await answer
    return caught.value


# --- good answers --------------------------------------------------------------------------------


async def test_status_and_diff_arrive_as_they_were_sent(path: Path) -> None:
    routes = {
        "/v1/status": servers.says(fleets.healthy()),
        "/v1/diff": servers.says(fleets.some_changes()),
    }
    async with servers.master(path, routes) as requests:
        assert await Master(path).status() == fleets.healthy()
        assert await Master(path).diff() == fleets.some_changes()
    assert requests.seen == ["GET /v1/status", "GET /v1/diff"]


async def test_plan_arrives_letter_for_letter(path: Path) -> None:
    text = 'generation: 4\nreason: "größer"\nhosts: {}\n\n'
    routes = {"/v1/plan": servers.says(text), "/v1/plan/alpha.example": servers.says("host: a\n")}
    async with servers.master(path, routes) as requests:
        assert await Master(path).plan() == text
        assert await Master(path).plan("alpha.example") == "host: a\n"
    assert requests.seen == ["GET /v1/plan", "GET /v1/plan/alpha.example"]


async def test_token_request_carries_host_and_seconds(path: Path) -> None:
    token = JoinToken(
        command="discluster-control join https://m:7443 --token T",
        token="T",
        ca_fingerprint="sha256:00",
        host="alpha",
        expires_in=60.0,
    )
    async with servers.master(path, {"/v1/tokens": servers.says(token)}) as requests:
        assert await Master(path).create_token(TokenRequest(host="alpha", ttl=60.0)) == token
    assert requests.seen == ['POST /v1/tokens {"type":"token_request","host":"alpha","ttl":60.0}']


async def test_control_is_asked_in_one_line(path: Path) -> None:
    answer = messages.encode(fleets.local()) + b"\n"
    async with servers.control(path, answer) as requests:
        assert await control_status(path) == fleets.local()
    assert requests.seen == [messages.encode(StatusQuery()).decode()]


async def test_control_with_very_many_shards_is_understood(path: Path) -> None:
    views = (fleets.cluster(n, tuple(map(fleets.ready, range(250)))) for n in range(20))
    host = fleets.host("alpha", *views)
    encoded = messages.encode(host) + b"\n"
    assert len(encoded) > 512 * 1024
    async with servers.control(path, encoded):
        assert await control_status(path) == host


# --- nobody there --------------------------------------------------------------------------------


@pytest.mark.parametrize(("ask", "who"), [(ask_master, "MASTER"), (ask_control, "CONTROL")])
async def test_missing_socket_means_not_running(ask: Ask, who: str, path: Path) -> None:
    error = await failure_of(ask(path))
    assert isinstance(error, UnavailableError)
    assert error.message == f"{who} is not running here: {path} does not exist"
    assert error.hint is not None
    assert f"systemctl status discluster-{who.lower()}" in error.hint


@pytest.mark.parametrize(("ask", "who"), [(ask_master, "MASTER"), (ask_control, "CONTROL")])
async def test_dead_socket_means_not_running(ask: Ask, who: str, path: Path) -> None:
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(path))
    error = await failure_of(ask(path))
    assert isinstance(error, UnavailableError)
    assert error.message == f"{who} is not running here: nobody listens on {path}"


@pytest.mark.parametrize("ask", [ask_master, ask_control])
async def test_path_that_no_socket_can_have_is_named(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 200)
    error = await failure_of(ask(path))
    assert isinstance(error, UnavailableError)
    assert str(path) in error.message


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody can reach; pytest's own are root's alone when root runs it."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def powerless(path: Path) -> Iterator[None]:
    """Within, ``path`` is shut for this process: its mode says so, and root's rights are put by."""
    path.chmod(0)
    if root := os.geteuid() == 0:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        path.chmod(0o700)


@pytest.mark.parametrize("ask", [ask_master, ask_control])
async def test_forbidden_socket_names_its_owner(ask: Ask, public: Path) -> None:
    path = public / "a.sock"
    async with servers.control(path, None):
        owner, group = path.owner(), path.group()
        with powerless(path):
            user = pwd.getpwuid(os.geteuid()).pw_name
            error = await failure_of(ask(path))
    assert isinstance(error, RefusedError)
    assert f"{path} belongs to user {owner}, group {group}, mode 0000" in error.message
    assert error.hint == way_in(group, user)


def test_who_has_no_permission_is_told_how_to_get_it() -> None:
    assert way_in("discluster-admin", "alice") == (
        "try it with sudo; for good: usermod -aG discluster-admin alice, and log in to the system"
        " anew"
    )
    assert way_in("root", "alice") == "try it with sudo", "nobody is put into that group"


@pytest.mark.parametrize("ask", [ask_master, ask_control])
async def test_forbidden_directory_is_named_instead_of_the_socket(ask: Ask, public: Path) -> None:
    inner = public / "run"
    inner.mkdir()
    with powerless(inner):
        error = await failure_of(ask(inner / "a.sock"))
    assert isinstance(error, RefusedError)
    assert f"{inner} belongs to user {inner.owner()}" in error.message


# --- somebody there, but no good answer ----------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("configuration", ConfigurationError),
        ("document", ConfigurationError),
        ("unavailable", UnavailableError),
        ("refused", RefusedError),
        ("state", StateError),
        ("discord", DiscordError),
        ("unknown_host", DisclusterError),
    ],
)
async def test_failure_becomes_the_error_with_its_code(
    code: str, kind: type[DisclusterError], path: Path
) -> None:
    failure = Failure(code=code, message="no such host", hint="see disclusterctl hosts")
    async with servers.master(path, {"/v1/status": servers.says(failure, status=404)}):
        error = await failure_of(ask_master(path))
    assert type(error) is kind
    assert error.code == code
    assert error.render() == "no such host (see disclusterctl hosts)"


async def test_failure_without_words_is_a_protocol_error(path: Path) -> None:
    async with servers.master(path, {"/v1/status": servers.says(b"<html>", status=502)}):
        error = await failure_of(ask_master(path))
    assert isinstance(error, ProtocolError)
    assert "HTTP status 502" in error.message


@pytest.mark.parametrize("body", [b"", b"{", b'{"type":"plan_diff"}', b"\xff\xfe"])
async def test_answer_that_does_not_fit_is_a_protocol_error(body: bytes, path: Path) -> None:
    async with servers.master(path, {"/v1/status": servers.says(body)}):
        error = await failure_of(ask_master(path))
    assert isinstance(error, ProtocolError)
    assert "same version" in (error.hint or "")


async def test_master_that_hangs_up_is_unavailable(path: Path) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with servers.master(path, {"/v1/status": hang_up}):
        error = await failure_of(ask_master(path))
    assert isinstance(error, UnavailableError)
    assert "closed the connection" in error.message


async def test_master_that_hangs_is_unavailable_after_the_time_limit(path: Path) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with servers.master(path, {"/v1/status": hang}):
        error = await failure_of(Master(path, timeout=0.05).status())
    assert isinstance(error, UnavailableError)
    assert error.message == "MASTER is there, but has not answered within 0.05 s"


async def test_control_that_hangs_is_unavailable_after_the_time_limit(path: Path) -> None:
    async with servers.control(path, None):
        error = await failure_of(control_status(path, timeout=0.05))
    assert isinstance(error, UnavailableError)
    assert error.message == "CONTROL is there, but has not answered within 0.05 s"


@pytest.mark.parametrize("partly", [b"", b'{"type":"host_sta'])
async def test_control_that_hangs_up_is_unavailable(partly: bytes, path: Path) -> None:
    async with servers.control(path, partly):
        error = await failure_of(ask_control(path))
    assert isinstance(error, UnavailableError)
    assert "closed the connection" in error.message


async def test_control_that_refuses_is_told_with_its_reason(path: Path) -> None:
    answer = messages.encode(Rejected(code="refused", reason="not your socket")) + b"\n"
    async with servers.control(path, answer):
        error = await failure_of(ask_control(path))
    assert isinstance(error, RefusedError)
    assert error.message == "CONTROL: not your socket"


async def test_control_that_answers_something_else_is_a_protocol_error(path: Path) -> None:
    other = Assignment(cluster=1, generation=1, shard_count=1, gateway_url="wss://g", shards=(0,))
    async with servers.control(path, messages.encode(other) + b"\n"):
        error = await failure_of(ask_control(path))
    assert isinstance(error, ProtocolError)
    assert "assignment" in error.message


@pytest.mark.parametrize("line", [b"hello\n", b"{}\n", b"x" * (17 * 1024 * 1024)])
async def test_control_that_talks_nonsense_is_a_protocol_error(line: bytes, path: Path) -> None:
    async with servers.control(path, line):
        error = await failure_of(ask_control(path))
    assert isinstance(error, ProtocolError)
