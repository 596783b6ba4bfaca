# SPDX-License-Identifier: Apache-2.0
"""Operators call clusters."""

import msgspec
from aiohttp import web

from discluster.master.api import answers
from discluster.master.api.routes import Route, changing
from discluster.master.calls import FleetCalls
from discluster.messages import CallRequest


class CallRoutes:
    """What a call does is known to its handler alone, so it counts as a change."""

    def __init__(self, calls: FleetCalls) -> None:
        self._calls = calls

    def routes(self) -> tuple[Route, ...]:
        return (changing("/calls", self._call),)

    async def _call(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=CallRequest)
        return answers.json(await self._calls.operator_asks(wanted))
