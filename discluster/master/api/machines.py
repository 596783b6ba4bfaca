# SPDX-License-Identifier: Apache-2.0
"""MASTER's interface for machines, over TLS: ``GET /v1/ca`` (the authorities, for whom holds the
fingerprint of one), ``POST /v1/join``, and the WebSocket ``/v1/control``.
"""

import msgspec
from aiohttp import web

from discluster.console import JoinRequest
from discluster.master.access.authority import Authority
from discluster.master.access.enrolment import Enrolment
from discluster.master.api import answers
from discluster.master.hosts.link import ControlLink


class MachineApi:
    """What new and known machines use, over TLS."""

    def __init__(self, *, authority: Authority, enrolment: Enrolment, link: ControlLink) -> None:
        self._authority = authority
        self._enrolment = enrolment
        self._link = link

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
        return web.Response(text=self._authority.bundle, content_type="text/plain")

    async def _join(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=JoinRequest)
        return answers.json(self._enrolment.join(wanted, remote=request.remote))
