# SPDX-License-Identifier: Apache-2.0
"""MASTER's interface for machines, over TLS: ``GET /v1/ca`` (the authority, for whom holds its
fingerprint), ``POST /v1/join``, and the WebSocket ``/v1/control``.
"""

import datetime
from collections.abc import Callable

import msgspec
from aiohttp import web

from discluster import documents
from discluster.clock import Clock
from discluster.console import JoinAnswer, JoinRequest
from discluster.master.access.authority import Authority
from discluster.master.access.tokens import TokenDesk
from discluster.master.api import answers
from discluster.master.hosts.link import ControlLink
from discluster.master.records.events import EventLog
from discluster.plan import HostName


class MachineApi:
    """What new and known machines use, over TLS."""

    def __init__(
        self,
        *,
        authority: Authority,
        tokens: TokenDesk,
        link: ControlLink,
        events: EventLog,
        readmit: Callable[[str], None],
        clock: Clock,
    ) -> None:
        """``readmit``: lets a host in again that was removed."""
        self._events = events
        self._readmit = readmit
        self._authority = authority
        self._tokens = tokens
        self._link = link
        self._clock = clock

    def application(self) -> web.Application:
        application = web.Application(
            middlewares=[answers.errors_in_words], client_max_size=answers.MAXIMUM_BODY
        )
        application.add_routes(
            [
                web.get("/v1/ca", self._ca),
                web.post("/v1/join", self._join),
                web.get("/v1/control", self._link.serve),
            ]
        )
        return application

    async def _ca(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._authority.certificate, content_type="text/plain")

    async def _join(self, request: web.Request) -> web.Response:
        join = msgspec.json.decode(await request.read(), type=JoinRequest)
        host = str(documents.read_value(join.host, HostName, what="host name"))
        self._tokens.redeem(join.token, host=host, now=self._clock.wall())
        now = datetime.datetime.fromtimestamp(self._clock.wall(), datetime.UTC)
        certificate = self._authority.sign_host(join.csr, host, now=now)
        self._readmit(host)
        told = f"{host} joined with a token, from {request.remote}"
        self._events.record("host", told, host=host)
        return answers.json(JoinAnswer(certificate=certificate, ca=self._authority.certificate))
