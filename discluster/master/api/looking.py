# SPDX-License-Identifier: Apache-2.0
"""Operators look: status, plans, history, events, the audit log."""

from pathlib import Path

import msgspec
from aiohttp import web

from discluster import settings
from discluster.clock import Clock, at_most
from discluster.console import EventQuery
from discluster.errors import DisclusterError
from discluster.master.access.audit import AuditLog
from discluster.master.api import answers
from discluster.master.api.routes import Route, asking
from discluster.master.daemon import MasterDaemon
from discluster.master.orders.intents import NO_SUCH_HOST
from discluster.master.parts import host_plan
from discluster.master.records.events import EventLog
from discluster.master.records.shelf import LONGEST_WAIT
from discluster.master.settings import MasterSettings
from discluster.operators import AuditQuery
from discluster.plan import FleetPlan, fleet_plan_to_yaml, host_plan_to_yaml


class LookingRoutes:
    """What changes nothing."""

    def __init__(
        self,
        daemon: MasterDaemon,
        *,
        events: EventLog,
        audit: AuditLog,
        settings_file: Path,
        clock: Clock,
    ) -> None:
        self._daemon = daemon
        self._events = events
        self._audit = audit
        self._settings_file = settings_file
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        return (
            asking("/status", self._status),
            asking("/plan", self._plan),
            asking("/diff", self._diff),
            asking("/plan/{host}", self._host_plan),
            asking("/history", self._history),
            asking("/history/{generation:[0-9]{1,18}}", self._earlier_plan),
            asking("/events", self._events_page),
            asking("/audit", self._audit_page),
            asking("/identify", self._identify),
        )

    async def _status(self, _request: web.Request) -> web.Response:
        return answers.json(self._daemon.status())

    async def _plan(self, _request: web.Request) -> web.Response:
        return answers.yaml(fleet_plan_to_yaml(self._fleet()))

    async def _host_plan(self, request: web.Request) -> web.Response:
        fleet, host = self._fleet(), request.match_info["host"]
        if host not in fleet.hosts:
            known = ", ".join(sorted(fleet.hosts)) or "none"
            raise DisclusterError(
                f"no host {host!r} in the plan", hint=f"hosts in it: {known}", code=NO_SUCH_HOST
            )
        return answers.yaml(host_plan_to_yaml(host_plan(fleet, host)))

    async def _diff(self, _request: web.Request) -> web.Response:
        # The settings as they stand on disk now, so that an edit can be tried before a reload.
        edited = settings.load(self._settings_file, MasterSettings)
        return answers.json(self._daemon.diff(edited))

    async def _history(self, _request: web.Request) -> web.Response:
        return answers.json(self._daemon.orders.history())

    async def _earlier_plan(self, request: web.Request) -> web.Response:
        plan = self._daemon.orders.earlier_plan(int(request.match_info["generation"]))
        return answers.yaml(fleet_plan_to_yaml(plan))

    async def _identify(self, _request: web.Request) -> web.Response:
        return answers.json(self._daemon.permits.overview())

    async def _events_page(self, request: web.Request) -> web.Response:
        query = msgspec.convert(dict(request.query), EventQuery, strict=False)
        if query.wait > 0:
            news = self._events.wait_beyond(query.after)
            await at_most(min(query.wait, LONGEST_WAIT), news, clock=self._clock)
        return answers.json(self._events.page(query))

    async def _audit_page(self, request: web.Request) -> web.Response:
        query = msgspec.convert(dict(request.query), AuditQuery, strict=False)
        if query.wait > 0:
            news = self._audit.wait_beyond(query.after)
            await at_most(min(query.wait, LONGEST_WAIT), news, clock=self._clock)
        return answers.json(self._audit.page(query))

    def _fleet(self) -> FleetPlan:
        if self._daemon.fleet is None:
            raise DisclusterError(
                f"there is no plan yet: {self._daemon.status().state}", code="no-plan"
            )
        return self._daemon.fleet
