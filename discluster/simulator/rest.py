# SPDX-License-Identifier: Apache-2.0
"""The part of Discord's HTTP API that a bot answers its users by.

Strict: what is wrongly authenticated, of another content type or not of the documented shape is
refused as Discord does, and judged. What a bot says is heard: its message comes to its sessions.

(Discord: Message, Create Message; Channel, Trigger Typing Indicator; Application Commands, Bulk
Overwrite Global Application Commands.)
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from discluster.simulator import bodies, ledger
from discluster.simulator.asked import BadBodyError, check_commands, check_message
from discluster.simulator.gateway import Gateway
from discluster.simulator.guilds import guild_id
from discluster.simulator.pages import VIA
from discluster.simulator.routing import reaches
from discluster.simulator.templates import dump, ident
from discluster.simulator.world import Bot

MAX_BODY: Final = 1 << 20
_UNKNOWN_CHANNEL: Final = 10_003
_UNKNOWN_APPLICATION: Final = 10_002
_INVALID_BODY: Final = 50_035


class Rest:
    """Adds its routes to the simulated API."""

    def __init__(
        self, gateway: Gateway, *, authenticate: Callable[[web.Request], Bot | None]
    ) -> None:
        self._gateway = gateway
        self._world = gateway.world
        self._authenticate = authenticate
        self._made = 0
        guilds = self._world.settings.guilds
        self._channels = {guild_id(number) for number in range(guilds)}

    def add(self, router: web.UrlDispatcher, root: str) -> None:
        """Below `root`, the version's path."""
        router.add_post(root + r"/channels/{channel:\d+}/messages", self._message)
        router.add_post(root + r"/channels/{channel:\d+}/typing", self._typing)
        router.add_put(root + r"/applications/{application:\d+}/commands", self._commands)

    async def _message(self, request: web.Request) -> web.Response:
        bot = self._authenticate(request)
        if bot is None:
            return unauthorized()
        try:
            asked = check_message(await self._json(request))
        except BadBodyError as error:
            return self._invalid(bot, error)
        channel = int(request.match_info["channel"])
        if channel not in self._channels:
            return _refused(404, _UNKNOWN_CHANNEL, "Unknown Channel")
        said = self._said(channel, asked)
        self._note(bot, request, asked)
        # Every guild of the simulation has one channel that speaks, with the guild's own id.
        self._hear(bot, {**said, "guild_id": str(channel)})
        return _json(200, said)

    async def _typing(self, request: web.Request) -> web.Response:
        bot = self._authenticate(request)
        if bot is None:
            return unauthorized()
        if await request.read():
            return self._invalid(bot, BadBodyError("typing", "typing takes no body"))
        if int(request.match_info["channel"]) not in self._channels:
            return _refused(404, _UNKNOWN_CHANNEL, "Unknown Channel")
        self._note(bot, request, None)
        return web.Response(status=204, headers=VIA)

    async def _commands(self, request: web.Request) -> web.Response:
        bot = self._authenticate(request)
        if bot is None:
            return unauthorized()
        try:
            asked = check_commands(await self._json(request))
        except BadBodyError as error:
            return self._invalid(bot, error)
        application = request.match_info["application"]
        if application != bodies.APPLICATION_ID:
            return _refused(404, _UNKNOWN_APPLICATION, "Unknown Application")
        self._note(bot, request, asked)
        return _json(200, [self._command(application, one) for one in asked])

    def _command(self, application: str, asked: dict[str, Any]) -> dict[str, Any]:
        """(Discord: Application Commands, Application Command Object.)"""
        return {
            "type": 1,
            "options": [],
            "default_member_permissions": None,
            "nsfw": False,
            **asked,
            "id": str(self._ident(0)),
            "version": str(self._ident(0)),
            "application_id": application,
        }

    def _said(self, channel: int, asked: dict[str, Any]) -> dict[str, Any]:
        """The message as Discord shows it to whoever made it."""
        rng = random.Random(f"{self._world.settings.seed}/rest/{self._made}")
        made = {**bodies.message(rng, edited=False), "mentions": [], "author": bodies.bot_user()}
        del made["member"], made["nonce"]
        taken: dict[str, Any] = {
            name: asked[name] for name in ("nonce", "tts", "embeds", "flags") if name in asked
        }
        return {
            **made,
            **taken,
            "content": asked.get("content") or "",
            "id": str(self._ident(channel)),
            "channel_id": str(channel),
        }

    def _ident(self, guild: int) -> int:
        """Above those of the stream, which count from the same moment."""
        self._made += 1
        return ident(guild, (1 << 32) + self._made)

    def _hear(self, bot: Bot, body: dict[str, Any]) -> None:
        """(Discord: Gateway, Message Content Intent: one's own messages are always whole.)"""
        guild, name = int(body["guild_id"]), "MESSAGE_CREATE"
        intents = self._world.catalogue.intents
        living = [s for s in self._world.sessions.values() if s.facts.bot == bot.index]
        hearers = [s for s in living if reaches(s.facts, name, guild, intents)]
        if hearers:
            bot.producer.inject(name, body, hearers)
        for session in hearers:
            self._gateway.flush(session)

    async def _json(self, request: web.Request) -> Any:
        if request.content_type != "application/json":
            raise BadBodyError("content-type", f"the body is {request.content_type}, not JSON")
        text = await request.content.read(MAX_BODY + 1)
        if len(text) > MAX_BODY:
            raise BadBodyError("body", f"the body is longer than {MAX_BODY} bytes")
        try:
            return json.loads(text)
        except ValueError as error:
            raise BadBodyError("body", f"the body is no JSON: {error}") from None

    def _note(self, bot: Bot, request: web.Request, asked: Any) -> None:
        path = request.path.partition("/api/")[2].partition("/")[2]
        self._world.ledger.append(
            ledger.Rest(bot=bot.index, method=request.method, path=f"/{path}", body=asked)
        )

    def _invalid(self, bot: Bot, error: BadBodyError) -> web.Response:
        rule = f"rest-{error.field}"
        self._world.ledger.append(ledger.Violation(bot=bot.index, rule=rule, text=str(error)))
        return _refused(400, _INVALID_BODY, f"Invalid Form Body: {error}")


def unauthorized() -> web.Response:
    """401."""
    return _refused(401, 0, "401: Unauthorized")


def _refused(status: int, code: int, message: str) -> web.Response:
    return _json(status, {"message": message, "code": code})


def _json(status: int, body: object) -> web.Response:
    return web.Response(
        status=status, body=dump(body), content_type="application/json", headers=VIA
    )
