# SPDX-License-Identifier: Apache-2.0
"""The control API: read the ledger, ask for a judgement, cause faults. HTTP with JSON.

Never on the port of the simulated Discord, so that nothing under test can meet it by accident.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from discluster.simulator import faults, ledger
from discluster.simulator.bursts import Bursts, PrepareBurst
from discluster.simulator.faults import FaultError, Faults
from discluster.simulator.gateway import Gateway
from discluster.simulator.judging import Judge
from discluster.simulator.ledger import Record
from discluster.simulator.oracles import Claims
from discluster.simulator.outages import EdgeAsked, Outages
from discluster.simulator.script import Rule, ScriptError
from discluster.simulator.tally import Tally
from discluster.simulator.views import ShardView, Summary

MAX_WAIT: Final = 60.0
MAX_SENT: Final = 1_000_000
A = TypeVar("A", bound=faults.Asked)


class Control:
    """Builds the aiohttp application."""

    def __init__(self, gateway: Gateway, *, tally: Tally) -> None:
        self._gateway = gateway
        self._world = gateway.world
        self._tally = tally
        self._judge = Judge(self._world)
        self._faults = Faults(gateway)
        self._bursts = Bursts(gateway, self._faults)
        self._outages = Outages(gateway)
        self._waiting: set[asyncio.Event] = set()

    def close(self) -> None:
        """The simulator ends."""
        self._outages.close()

    def wake(self) -> None:
        """A record was added to the ledger."""
        for event in self._waiting:
            event.set()

    def application(self) -> web.Application:
        """To be served by a runner."""
        application = web.Application(middlewares=[_errors], client_max_size=1 << 27)
        router, actions = application.router, self._faults
        router.add_get("/ledger", self._ledger)
        router.add_get("/summary", self._summary)
        router.add_get("/shards", self._shards)
        router.add_get("/judgement", self._judgement)
        router.add_post("/judgement", self._judge_claims)
        router.add_get("/report", self._report)
        router.add_get("/sent", self._sent)
        router.add_post("/drop", _action(faults.Drop, actions.drop))
        router.add_post("/close", _action(faults.CloseAsked, actions.close))
        router.add_post("/invalidate", _action(faults.Invalidate, actions.invalidate))
        router.add_post("/reconnect", _action(faults.ReconnectAsked, actions.reconnect))
        router.add_post("/event", _action(faults.Event, actions.event, answer="count"))
        router.add_post("/heartbeat-request", _action(faults.OnShard, actions.request_heartbeat))
        router.add_post("/mute", _action(faults.Mute, actions.mute))
        router.add_post("/withhold-acks", _action(faults.WithholdAcks, actions.withhold_acks))
        router.add_post("/stream", _action(faults.StreamRate, actions.stream))
        router.add_post("/token/revoke", _action(faults.OnBot, actions.revoke_token))
        router.add_post("/token/accept", _action(faults.AcceptToken, actions.accept_token))
        router.add_post("/budget", _action(faults.BudgetAsked, actions.budget))
        router.add_post("/intents", _action(faults.Intents, actions.intents))
        router.add_get("/script", self._scripts)
        router.add_post("/script", self._script)
        router.add_delete("/script", self._unscript)
        router.add_get("/edges", self._edges)
        router.add_post("/edge", self._edge)
        router.add_get("/burst", self._burst)
        router.add_post("/burst/prepare", self._prepare_burst)
        router.add_post("/burst/release", self._release_burst)
        return application

    async def _script(self, request: web.Request) -> web.Response:
        rule = msgspec.json.decode(await request.read(), type=Rule)
        return _json({"id": self._gateway.performer.add(rule)})

    async def _scripts(self, request: web.Request) -> web.Response:
        return _json(self._gateway.performer.script.views())

    async def _unscript(self, request: web.Request) -> web.Response:
        ident = _number(request, "id", 0) or None
        return _json({"affected": self._gateway.performer.script.remove(ident)})

    async def _edge(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=EdgeAsked)
        return _json({"affected": await self._outages.order(asked)})

    async def _edges(self, request: web.Request) -> web.Response:
        return _json(self._outages.views())

    async def _burst(self, request: web.Request) -> web.Response:
        return _json(self._bursts.view())

    async def _prepare_burst(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read() or b"{}", type=PrepareBurst)
        return _json({"affected": await self._bursts.prepare(asked)})

    async def _release_burst(self, request: web.Request) -> web.Response:
        return _json({"affected": self._bursts.release()})

    async def _ledger(self, request: web.Request) -> web.Response:
        since = _number(request, "since", 0)
        kinds = frozenset(filter(None, request.query.get("kind", "").split(",")))
        if unknown := kinds - ledger.KINDS:
            raise FaultError(
                f"unknown kind: {', '.join(sorted(unknown))}",
                f"known are {', '.join(sorted(ledger.KINDS))}",
            )
        records = await self._since(since, kinds, min(_number(request, "wait", 0.0), MAX_WAIT))
        body = ledger.encode_lines(records)
        return web.Response(body=body, content_type="application/x-ndjson")

    async def _since(self, since: int, kinds: frozenset[str], wait: float) -> list[Record]:
        """Records above `since`; if there are none, the first that come within `wait` seconds."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(wait):
                while not (records := self._world.ledger.since(since, kinds)):
                    event.clear()
                    await event.wait()
                return records
        except TimeoutError:
            return self._world.ledger.since(since, kinds)
        finally:
            self._waiting.discard(event)

    async def _summary(self, request: web.Request) -> web.Response:
        return _json(self.summary())

    def summary(self) -> Summary:
        """The totals as they are now; the budget is that of the first bot."""
        world, kinds = self._world, self._tally.kinds
        living = world.sessions.values()
        sent = world.sent_before + sum(session.seq for session in living)
        open_now = sum(session.unacknowledged for session in living)
        budget = world.bots[0].budget.view(world.timing.now())
        return Summary(
            identifies=kinds["identify"],
            identifies_rejected=self._tally.identifies_rejected,
            identify_gap_min=self._tally.identify_gap_min,
            resumes=kinds["resume"],
            resumed=kinds["resumed"],
            connections=kinds["open"],
            closes=dict(self._tally.closes),
            heartbeats=kinds["heartbeat"],
            sent=sent,
            acknowledged=sent - open_now - world.lost,
            unacknowledged=open_now,
            lost=world.lost,
            violations=kinds["violation"],
            budget=budget,
            now=world.timing.now(),
            seed=world.settings.seed,
            records=world.ledger.last,
        )

    async def _shards(self, request: web.Request) -> web.Response:
        return _json(self.shards())

    def shards(self) -> list[ShardView]:
        """Living sessions by shard."""
        views = [
            ShardView(
                shard=session.facts.shard,
                session=session.facts.id,
                state="detached" if session.connection is None else "connected",
                connection=session.connection,
                seq=session.seq,
                acknowledged=session.acknowledged,
                guilds=session.guilds,
                since=session.facts.since,
            )
            for session in self._world.sessions.values()
        ]
        return sorted(views, key=lambda view: (view.shard[1], view.shard[0], view.since))

    async def _judgement(self, request: web.Request) -> web.Response:
        return _json(await self._judge.judgement(Claims()))

    async def _judge_claims(self, request: web.Request) -> web.Response:
        claims = msgspec.json.decode(await request.read() or b"{}", type=Claims)
        return _json(await self._judge.judgement(claims))

    async def _report(self, request: web.Request) -> web.Response:
        return _json(await self._judge.reports())

    async def _sent(self, request: web.Request) -> web.Response:
        which = _number(request, "shard", -1)
        if which < 0:
            raise FaultError("which shard?", "GET /sent?shard=3")
        limit = min(_number(request, "limit", MAX_SENT), MAX_SENT)
        chosen = [
            event
            for (_, shard), log in self._world.sent_logs.items()
            if shard[0] == which
            for event in log
        ]
        return _json(list(islice(chosen, max(0, len(chosen) - limit), None)))


def _action(shape: type[A], act: Callable[[A], int | None], *, answer: str = "affected") -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read() or b"{}"
        return _json({answer: act(msgspec.json.decode(body, type=shape))})

    return handle


N = TypeVar("N", int, float)


def _number(request: web.Request, name: str, default: N) -> N:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        return type(default)(text)
    except ValueError:
        raise FaultError(f"{name} must be a number, not {text!r}", "see the manual") from None


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FaultError as error:
        return _json({"error": str(error), "hint": error.hint}, status=400)
    except ScriptError as error:
        return _json({"error": str(error), "hint": "choose another point"}, status=400)
    except msgspec.MsgspecError as error:
        hint = f"the body of {request.path} is a JSON object; the manual lists its keys"
        return _json({"error": str(error), "hint": hint}, status=400)
    except web.HTTPException as error:
        hint = "the manual lists the paths and methods"
        return _json(
            {"error": f"{request.path}: {error.reason}", "hint": hint}, status=error.status
        )


def _json(value: Any, *, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json")
