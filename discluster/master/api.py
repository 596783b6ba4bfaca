# SPDX-License-Identifier: Apache-2.0
"""MASTER's HTTP interfaces: one for machines over TLS, one for operators on a UNIX socket.

Over TLS: ``GET /v1/ca`` (the authority, for whom holds its fingerprint), ``POST /v1/join``, and the
WebSocket ``/v1/control``. On the socket: status, plans, orders, events and join tokens; who may
connect there may do all of it.
"""

import datetime
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

from discluster import documents, settings
from discluster.clock import Clock, at_most
from discluster.console import (
    EventQuery,
    Failure,
    JoinAnswer,
    JoinRequest,
    JoinToken,
    RestartAnswer,
    RestartRequest,
    ResumeRequest,
    RollingChange,
    RollingRequest,
    TokenRequest,
)
from discluster.errors import DisclusterError, RefusedError
from discluster.master.access.authority import Authority
from discluster.master.access.tokens import TokenDesk
from discluster.master.daemon import MasterDaemon
from discluster.master.hosts.link import ControlLink
from discluster.master.orders.intents import NO_SUCH_HOST
from discluster.master.orders.ordering import NO_MOVES, edited_settings
from discluster.master.orders.restarts import NO_ROLLOUT, rolling_complaint
from discluster.master.parts import host_plan
from discluster.master.records.events import EventLog
from discluster.master.records.history import NO_SUCH_GENERATION
from discluster.master.records.shelf import LONGEST_WAIT
from discluster.master.settings import MasterSettings
from discluster.messages import Message, encode
from discluster.orders import Reload, operator_order
from discluster.plan import FleetPlan, HostName, fleet_plan_to_yaml, host_plan_to_yaml

log = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_MAXIMUM_BODY = 64 * 1024
# Of failures that are no conflict with how things are.
_STATUS = {NO_SUCH_HOST: 404, NO_SUCH_GENERATION: 404, "bad-request": 400}


def _failure(status: int, code: str, message: str, hint: str | None = None) -> web.Response:
    body = encode(Failure(code=code, message=message, hint=hint))
    return web.Response(status=status, body=body, content_type="application/json")


def _json(message: Message) -> web.Response:
    return web.Response(body=encode(message), content_type="application/json")


@web.middleware
async def _errors_in_words(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every failure is a :class:`Failure`, whatever raised it."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _failure(error.status, "http", error.reason)
    except RefusedError as error:
        log.warning("refused %s: %s", request.path, error.message)
        return _failure(403, error.code, error.message, error.hint)
    except DisclusterError as error:
        return _failure(_STATUS.get(error.code, 409), error.code, error.message, error.hint)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _failure(400, "bad-request", f"the request cannot be read: {error}")


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
        application = web.Application(middlewares=[_errors_in_words], client_max_size=_MAXIMUM_BODY)
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
        return _json(JoinAnswer(certificate=certificate, ca=self._authority.certificate))


class OperatorApi:
    """What disclusterctl uses, on the UNIX socket."""

    def __init__(
        self,
        *,
        daemon: MasterDaemon,
        authority: Authority,
        tokens: TokenDesk,
        events: EventLog,
        settings_file: Path,
        public_url: str,
        clock: Clock,
    ) -> None:
        self._daemon = daemon
        self._events = events
        self._authority = authority
        self._tokens = tokens
        self._settings_file = settings_file
        self._public_url = public_url
        self._clock = clock

    def application(self) -> web.Application:
        application = web.Application(middlewares=[_errors_in_words], client_max_size=_MAXIMUM_BODY)
        application.add_routes(
            [
                web.get("/v1/status", self._status),
                web.get("/v1/plan", self._plan),
                web.get("/v1/diff", self._diff),
                web.get("/v1/plan/{host}", self._host_plan),
                web.get("/v1/history", self._history),
                web.get("/v1/history/{generation:[0-9]{1,18}}", self._earlier_plan),
                web.post("/v1/orders", self._order),
                web.get("/v1/moves", self._moves),
                web.get("/v1/events", self._events_page),
                web.post("/v1/tokens", self._token),
                web.get("/v1/identify", self._identify),
                web.post("/v1/identify/resume", self._resume),
                web.get("/v1/rolling", self._rolling),
                web.post("/v1/rolling", self._begin_rolling),
                web.post("/v1/rolling/change", self._change_rolling),
                web.post("/v1/restart", self._restart),
                web.post("/v1/restart/progress", self._restart_progress),
            ]
        )
        return application

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(self._daemon.status())

    async def _plan(self, _request: web.Request) -> web.Response:
        return _yaml(fleet_plan_to_yaml(self._fleet()))

    async def _host_plan(self, request: web.Request) -> web.Response:
        fleet, host = self._fleet(), request.match_info["host"]
        if host not in fleet.hosts:
            known = ", ".join(sorted(fleet.hosts)) or "none"
            return _failure(
                404, "no-such-host", f"no host {host!r} in the plan", f"hosts in it: {known}"
            )
        return _yaml(host_plan_to_yaml(host_plan(fleet, host)))

    async def _diff(self, _request: web.Request) -> web.Response:
        # The settings as they stand on disk now, so that an edit can be tried before a reload.
        edited = settings.load(self._settings_file, MasterSettings)
        return _json(self._daemon.diff(edited))

    async def _order(self, request: web.Request) -> web.Response:
        order = operator_order.decode(await request.read())
        desk = self._daemon.orders
        if isinstance(order, Reload):
            edited = edited_settings(self._settings_file)
            return _json(desk.reload(edited, dry_run=order.dry_run))
        return _json(desk.take(order))

    async def _moves(self, _request: web.Request) -> web.Response:
        moves = self._daemon.orders.moves()
        if moves is None:
            return _failure(404, NO_MOVES, "no order has moved a shard yet")
        return _json(moves)

    async def _history(self, _request: web.Request) -> web.Response:
        return _json(self._daemon.orders.history())

    async def _earlier_plan(self, request: web.Request) -> web.Response:
        plan = self._daemon.orders.earlier_plan(int(request.match_info["generation"]))
        return _yaml(fleet_plan_to_yaml(plan))

    async def _identify(self, _request: web.Request) -> web.Response:
        return _json(self._daemon.permits.overview())

    async def _resume(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=ResumeRequest)
        return _json(self._daemon.permits.resume(wanted))

    async def _events_page(self, request: web.Request) -> web.Response:
        query = msgspec.convert(dict(request.query), EventQuery, strict=False)
        if query.wait > 0:
            news = self._events.wait_beyond(query.after)
            await at_most(min(query.wait, LONGEST_WAIT), news, clock=self._clock)
        return _json(self._events.page(query))

    async def _token(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=TokenRequest)
        if wanted.host is not None:
            documents.read_value(wanted.host, HostName, what="host name")
        if not 1 <= wanted.ttl <= 30 * 86_400:
            return _failure(400, "bad-request", "a token lives between 1 second and 30 days")
        token = self._tokens.create(host=wanted.host, ttl=wanted.ttl, now=self._clock.wall())
        host = f" --host {wanted.host}" if wanted.host else ""
        command = (
            f"discluster-control join {self._public_url} --token {token}"
            f" --ca-fingerprint {self._authority.fingerprint}{host}"
        )
        self._events.record("order", f"a join token was made for {wanted.host or 'any host'}")
        return _json(
            JoinToken(
                command=command,
                token=token,
                ca_fingerprint=self._authority.fingerprint,
                host=wanted.host,
                expires_in=wanted.ttl,
            )
        )

    async def _rolling(self, _request: web.Request) -> web.Response:
        rollout = self._daemon.restarts.status()
        if rollout is None:
            return _failure(404, NO_ROLLOUT, "there was no rolling restart, or it was aborted")
        return _json(rollout)

    async def _begin_rolling(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RollingRequest)
        if complaint := rolling_complaint(wanted.at_a_time, wanted.timeout):
            return _failure(400, "bad-request", complaint)
        return _json(self._daemon.restarts.begin(wanted))

    async def _change_rolling(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RollingChange)
        if complaint := rolling_complaint(wanted.at_a_time, wanted.timeout):
            return _failure(400, "bad-request", complaint)
        return _json(self._daemon.restarts.change(wanted))

    async def _restart(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RestartRequest)
        return _json(self._daemon.restarts.at_once(wanted))

    async def _restart_progress(self, request: web.Request) -> web.Response:
        started = msgspec.json.decode(await request.read(), type=RestartAnswer)
        return _json(self._daemon.restarts.progress(started))

    def _fleet(self) -> FleetPlan:
        if self._daemon.fleet is None:
            raise DisclusterError(
                f"there is no plan yet: {self._daemon.status().state}", code="no-plan"
            )
        return self._daemon.fleet


def _yaml(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/yaml")
