# SPDX-License-Identifier: Apache-2.0
"""The part of Discord's HTTP API that a shard manager may use, and how it refuses.

(Discord: Gateway, Get Gateway Bot; Rate Limits; Reference, User Agent.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from discluster.simulator import ledger
from discluster.simulator.bodies import application, bot_user
from discluster.simulator.gateway import Gateway
from discluster.simulator.http_script import HttpScript
from discluster.simulator.limits import SlidingWindow
from discluster.simulator.pages import CLOUDFLARE, VIA
from discluster.simulator.rest import Rest, unauthorized
from discluster.simulator.templates import dump
from discluster.simulator.world import Bot

INVALID_REQUEST_PERIOD: Final = 600.0
_DISCONTINUED: Final = frozenset({"3", "4", "5"})


class Api:
    """Builds the aiohttp application."""

    def __init__(self, gateway: Gateway, *, gateway_url: Callable[[], str]) -> None:
        world = self._world = gateway.world
        self._performer = gateway.performer
        self._script = HttpScript(world.timing, self._record)
        self._settings = world.settings
        self._rest = Rest(gateway, authenticate=self._authenticate)
        self._gateway_url = gateway_url
        self._invalid = SlidingWindow(
            limit=self._settings.invalid_request_limit, period=INVALID_REQUEST_PERIOD
        )

    def app(self) -> web.Application:
        """To be served by a runner."""
        app = web.Application(middlewares=[self._middleware()])
        root = r"/api/v{version:\d+}"
        app.router.add_get(f"{root}/gateway", self._gateway)
        app.router.add_get(f"{root}/gateway/bot", self._gateway_bot)
        app.router.add_get(f"{root}/users/@me", self._me)
        app.router.add_get(f"{root}/oauth2/applications/@me", self._application)
        self._rest.add(app.router, root)
        return app

    def _middleware(self) -> Middleware:
        @web.middleware
        async def judge(request: web.Request, handler: Handler) -> web.StreamResponse:
            response: web.StreamResponse | None = self._refusal(request)
            if response is None and request.path.endswith("/gateway/bot"):
                course = self._performer.http(self._bot(request))
                if course.rules:
                    return await self._script.answer(course, request, handler)
            if response is None:
                try:
                    response = await handler(request)
                except web.HTTPException as error:
                    text = f"{error.status}: {error.reason}"
                    response = _json(error.status, {"message": text, "code": 0})
            if response.status in (401, 403, 429):
                self._invalid.hit(self._world.timing.now())
            self._record(request, response.status)
            return response

        return judge

    def _record(self, request: web.Request, status: int) -> None:
        record = ledger.Http(
            bot=self._bot(request),
            method=request.method,
            path=request.path,
            status=status,
        )
        self._world.ledger.append(record)

    def _bot(self, request: web.Request) -> int | None:
        """Whose request it is, if it says so with a token that is known."""
        bot = self._world.bot(request.headers.get("Authorization", "").partition(" ")[2])
        return bot.index if bot else None

    def _refusal(self, request: web.Request) -> web.Response | None:
        """What is refused whatever is asked for."""
        now = self._world.timing.now()
        if self._invalid.free_after(now):
            return web.Response(status=429, body=CLOUDFLARE, content_type="text/html")
        version = request.match_info.get("version")
        if version in _DISCONTINUED:
            return _json(400, {"message": "400: Bad Request", "code": 50_041})
        if version not in (None, "10"):
            self._violation("api-version", f"HTTP API v{version} instead of v10")
        if not request.headers.get("User-Agent", "").startswith("DiscordBot ("):
            self._violation("user-agent", "User-Agent is not of the form 'DiscordBot (…, …)'")
            if self._settings.require_user_agent:
                return web.Response(status=403, body=CLOUDFLARE, content_type="text/html")
        return None

    def _violation(self, rule: str, text: str) -> None:
        self._world.ledger.append(ledger.Violation(rule=rule, text=text))

    def _authenticate(self, request: web.Request) -> Bot | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        bot = self._world.bot(token) if kind == "Bot" else None
        return None if bot is None or bot.revoked else bot

    async def _gateway(self, request: web.Request) -> web.Response:
        return _json(200, {"url": self._gateway_url()})

    async def _gateway_bot(self, request: web.Request) -> web.Response:
        bot = self._authenticate(request)
        if bot is None:
            return unauthorized()
        now = self._world.timing.now()
        if self._settings.gateway_bot_limit and not bot.gateway_requests.hit(now):
            return self._too_many(bot, now)
        budget = bot.budget.view(now)
        real_reset = self._world.timing.real(budget.reset_after)
        return _json(
            200,
            {
                "url": self._gateway_url(),
                "shards": self._settings.shards,
                "session_start_limit": {
                    "total": budget.total,
                    "remaining": budget.remaining,
                    "reset_after": round(real_reset * 1000),
                    "max_concurrency": self._settings.max_concurrency,
                },
            },
        )

    def _too_many(self, bot: Bot, now: float) -> web.Response:
        wait = self._world.timing.real(bot.gateway_requests.free_after(now))
        headers = {
            "Retry-After": str(int(wait) + 1),
            "X-RateLimit-Limit": str(self._settings.gateway_bot_limit),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": f"{time.time() + wait:.3f}",
            "X-RateLimit-Reset-After": f"{wait:.3f}",
            "X-RateLimit-Bucket": "41f9cd5d28af77da04563bcb1d67fdfd",
            "X-RateLimit-Scope": "user",
        }
        body = {"message": "You are being rate limited.", "retry_after": wait, "global": False}
        return _json(429, body, headers)

    async def _me(self, request: web.Request) -> web.Response:
        return unauthorized() if self._authenticate(request) is None else _json(200, bot_user())

    async def _application(self, request: web.Request) -> web.Response:
        if self._authenticate(request) is None:
            return unauthorized()
        return _json(200, application())


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> web.Response:
    # `body=` rather than `text=`: Discord names no charset. Its proxy's Via header tells its own
    # answers from those of the edge in front of it.
    return web.Response(
        status=status,
        body=dump(body),
        content_type="application/json",
        headers={**VIA, **(headers or {})},
    )
