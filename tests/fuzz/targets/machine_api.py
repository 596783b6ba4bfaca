# SPDX-License-Identifier: Apache-2.0
"""MASTER's HTTPS interface for machines, after TLS: any bytes, from anybody on the network."""

import datetime
import json
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from discluster.clock import DAY
from discluster.console import JoinRequest
from discluster.master.access.authority import Authority
from discluster.master.access.tls import ServerTls
from discluster.master.access.tokens import StoredToken, TokenDesk
from discluster.master.access.wiring import certificate_desk, enrolment
from discluster.master.api.machines import MachineApi
from discluster.master.calls import FleetCalls
from discluster.master.hosts.link import ControlLink
from tests.clock import ManualClock
from tests.fuzz import https, masters, shapes
from tests.unit.master.fakes import Running
from tests.unit.master.tls import csr_of, new_key

LONGEST = 8 * 1024
TOKEN = "t" * 48
_NOW = datetime.datetime.fromtimestamp(ManualClock().wall(), datetime.UTC)


def target(data: bytes) -> None:
    with masters.scratch() as directory, masters.quiet():
        masters.run(_scene(directory, data))


async def _scene(directory: Path, data: bytes) -> None:
    async with masters.master(directory) as running:
        answered = await https.exchange(_api(directory, running).application(), data)
        assert all(status < 500 for status in https.statuses(answered)), answered
        assert b"Traceback" not in answered
        assert running.master.status().hosts == ()


def _api(directory: Path, running: Running) -> MachineApi:
    (directory / "tokens.json").write_text("[]")
    master, events, clock = running.master, running.events, running.clock
    authority = Authority(directory / "ca", now=_NOW)
    certificates = certificate_desk(
        master,
        directory=directory / "ca",
        authority=authority,
        tls=ServerTls(authority, ["master"], life=lambda: DAY, clock=clock),
        events=events,
        clock=clock,
    )
    joining = enrolment(
        master,
        tokens=_Tokens(directory / "tokens.json"),
        certificates=certificates,
        events=events,
        clock=clock,
    )
    calls = FleetCalls(master, clock=clock)
    link = ControlLink(master, certificates, calls, ping_interval=5, lease=30, clock=clock)
    return MachineApi(authority=authority, enrolment=joining, link=link)


class _Tokens(TokenDesk):
    """Knows one token, for any host, as often as it comes."""

    def check(self, token: str, *, host: str, now: float) -> StoredToken:
        if token != TOKEN:
            return super().check(token, host=host, now=now)
        return StoredToken(sha256="", expires=now + 1, host=host)

    def redeem(self, token: str, *, host: str, now: float) -> None:
        if token != TOKEN:
            super().redeem(token, host=host, now=now)


@cache
def _authority() -> Authority:
    with masters.scratch() as directory:
        return Authority(directory / "ca", now=_NOW)


@cache
def _csr() -> str:
    return csr_of(new_key(), "alpha")


def inputs() -> st.SearchStrategy[bytes]:
    def join(host: str, csr: bytes) -> bytes:
        return json.dumps(
            {
                "type": "join_request",
                "token": TOKEN,
                "host": host,
                "csr": csr.decode(errors="replace"),
            }
        ).encode()

    csr = st.deferred(lambda: shapes.damaged(st.just(_csr().encode())))
    body = st.one_of(
        st.builds(join, st.one_of(shapes.words, st.just("alpha")), csr),
        shapes.damaged(shapes.as_json(shapes.struct(JoinRequest, oddness=6))),
        st.binary(max_size=40),
    )
    return requests(st.sampled_from(["/v1/join", "/v1/ca", "/v1/control"]), body)


def requests(
    paths: st.SearchStrategy[str], bodies: st.SearchStrategy[bytes]
) -> st.SearchStrategy[bytes]:
    """HTTP of all kinds, also such that lies about its length."""
    method = st.sampled_from(["POST", "POST", "GET", "GET", "PUT", "HEAD", "OPTIONS", "P\x01"])
    path = st.one_of(paths, paths, paths, st.builds("{}{}".format, paths, _TAILS))
    headers = st.lists(_HEADERS, max_size=3).map("".join)
    return st.builds(_request, method, path, headers, st.sampled_from(_LENGTHS), bodies)


def _request(method: str, path: str, headers: str, length: str | None, body: bytes) -> bytes:
    told = str(len(body)) if length is None else length
    sized = f"Content-Length: {told}\r\n" if told else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: m\r\n{headers}{sized}\r\n"
    return head.encode("latin-1", errors="replace") + body


_TAILS = st.sampled_from(
    [
        *(
            "/",
            "?",
            "//",
            "/..%2f..%2fetc",
            "/%00",
            "/%ff",
            "/%ed%a0%80",
            "?a=%ed%a0%80",
            "#x",
            "/\x80",
        )
    ]
)
_LENGTHS = (None, None, None, "0", "3", "99999", "-1", "1e3", "", "18446744073709551616", "5, 5")
_HEADERS = st.sampled_from(
    [
        "Transfer-Encoding: chunked\r\n",
        "Content-Encoding: gzip\r\n",
        "Content-Encoding: zstd\r\n",
        "Content-Type: multipart/form-data; boundary=\r\n",
        (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        ),
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99\r\n",
        "Expect: 100-continue\r\n",
        "Cookie: a=b; \x01=c\r\n",
        "X: \xff\r\n",
        "Connection: close\r\n",
    ]
)
