# SPDX-License-Identifier: Apache-2.0
"""Carries out the script on requests to GET /gateway/bot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from discluster.simulator import deeds
from discluster.simulator.connection import reset
from discluster.simulator.fields import changed
from discluster.simulator.pages import VIA, refusal_page
from discluster.simulator.performer import Course
from discluster.simulator.templates import dump
from discluster.simulator.timing import Timing

Record = Callable[[web.Request, int], None]
"""Puts a request and its status into the ledger; 0 if there is no answer."""


class HttpScript:
    """One for the HTTP API."""

    def __init__(self, timing: Timing, record: Record) -> None:
        self._timing = timing
        self._record = record

    async def answer(
        self, course: Course, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """What the script makes of a request. The last deed that answers has its way."""
        for deed in course.deeds:
            if isinstance(deed, deeds.Delay):
                await asyncio.sleep(self._timing.real(deed.seconds))
            elif isinstance(deed, deeds.Status):
                return self._status(request, deed)
            elif isinstance(deed, deeds.Body):
                return await self._body(request, deed)
            elif isinstance(deed, deeds.Reset):
                return self._drop(request)
            elif isinstance(deed, deeds.Hang):
                return await self._hang(request)
        if course.stopped:
            return await self._hang(request)
        response = cast("web.Response", await handler(request))
        return await self._change(course, request, response)

    def _status(self, request: web.Request, deed: deeds.Status) -> web.Response:
        body, headers = refusal_page(deed)
        self._record(request, deed.code)
        return web.Response(status=deed.code, body=body, headers=headers)

    async def _body(self, request: web.Request, deed: deeds.Body) -> web.StreamResponse:
        body = deed.text.encode()
        response = web.StreamResponse(headers={**VIA, "Content-Type": deed.content_type})
        response.content_length = len(body)
        self._record(request, 200)
        await response.prepare(request)
        await response.write(body[: len(body) // 2] if deed.cut else body)
        if deed.cut:
            _transport(request).close()
        return response

    def _drop(self, request: web.Request) -> web.Response:
        self._record(request, 0)
        reset(_transport(request))
        return web.Response()

    async def _hang(self, request: web.Request) -> web.StreamResponse:
        """Until the client gives up, which cancels this."""
        self._record(request, 0)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing ends this future")

    async def _change(
        self, course: Course, request: web.Request, response: web.Response
    ) -> web.StreamResponse:
        self._record(request, response.status)
        for deed in course.deeds:
            if isinstance(deed, deeds.Fields) and isinstance(response.body, bytes):
                body = changed(msgspec.json.decode(response.body), deed)
                response.body = dump(body)
        slow = [deed.seconds for deed in course.deeds if isinstance(deed, deeds.SlowBody)]
        return await self._slowly(request, response, slow[-1]) if slow else response

    async def _slowly(
        self, request: web.Request, response: web.Response, seconds: float
    ) -> web.StreamResponse:
        assert isinstance(response.body, bytes)
        slow = web.StreamResponse(headers={**VIA, "Content-Type": "application/json"})
        slow.content_length = len(response.body)
        await slow.prepare(request)
        for number in range(len(response.body)):
            await slow.write(response.body[number : number + 1])
            await asyncio.sleep(self._timing.real(seconds))
        return slow


def _transport(request: web.Request) -> asyncio.Transport:
    # A cast, not a check: uvloop's transports are no subclass of asyncio's.
    return cast("asyncio.Transport", request.transport)
