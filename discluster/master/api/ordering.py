# SPDX-License-Identifier: Apache-2.0
"""Operators change what runs where: orders, restarts, the identify guard."""

from pathlib import Path

import msgspec
from aiohttp import web

from discluster.console import (
    RestartAnswer,
    RestartRequest,
    ResumeRequest,
    RollingChange,
    RollingRequest,
)
from discluster.decoding import DECODE_ERRORS
from discluster.errors import DisclusterError
from discluster.master.api import answers
from discluster.master.api.routes import Route, asking, changing, questioning
from discluster.master.daemon import MasterDaemon
from discluster.master.orders.ordering import NO_MOVES, edited_settings
from discluster.master.orders.restarts import NO_ROLLOUT, rolling_complaint
from discluster.orders import Reload, operator_order

_rolling_request = msgspec.json.Decoder(RollingRequest)


class OrderRoutes:
    """Each is carried out by MASTER's loop."""

    def __init__(self, daemon: MasterDaemon, *, settings_file: Path) -> None:
        self._daemon = daemon
        self._settings_file = settings_file

    def routes(self) -> tuple[Route, ...]:
        return (
            changing("/orders", self._order, only_asks=is_dry_order),
            asking("/moves", self._moves),
            changing("/identify/resume", self._resume),
            asking("/rolling", self._rolling),
            changing("/rolling", self._begin_rolling, only_asks=is_dry_rolling),
            changing("/rolling/change", self._change_rolling),
            changing("/restart", self._restart),
            questioning("/restart/progress", self._restart_progress),
        )

    async def _order(self, request: web.Request) -> web.Response:
        order = operator_order.decode(await request.read())
        desk = self._daemon.orders
        if isinstance(order, Reload):
            edited = edited_settings(self._settings_file)
            return answers.json(desk.reload(edited, dry_run=order.dry_run))
        return answers.json(desk.take(order))

    async def _moves(self, _request: web.Request) -> web.Response:
        moves = self._daemon.orders.moves()
        if moves is None:
            raise DisclusterError("no order has moved a shard yet", code=NO_MOVES)
        return answers.json(moves)

    async def _resume(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=ResumeRequest)
        return answers.json(self._daemon.permits.resume(wanted))

    async def _rolling(self, _request: web.Request) -> web.Response:
        rollout = self._daemon.restarts.status()
        if rollout is None:
            raise DisclusterError(
                "there was no rolling restart, or it was aborted", code=NO_ROLLOUT
            )
        return answers.json(rollout)

    async def _begin_rolling(self, request: web.Request) -> web.Response:
        wanted = _rolling_request.decode(await request.read())
        if complaint := rolling_complaint(wanted.at_a_time, wanted.timeout):
            raise answers.bad_request(complaint)
        return answers.json(self._daemon.restarts.begin(wanted))

    async def _change_rolling(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RollingChange)
        if complaint := rolling_complaint(wanted.at_a_time, wanted.timeout):
            raise answers.bad_request(complaint)
        return answers.json(self._daemon.restarts.change(wanted))

    async def _restart(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RestartRequest)
        return answers.json(self._daemon.restarts.at_once(wanted))

    async def _restart_progress(self, request: web.Request) -> web.Response:
        started = msgspec.json.decode(await request.read(), type=RestartAnswer)
        return answers.json(self._daemon.restarts.progress(started))


def is_dry_order(body: bytes) -> bool:
    """Whether that order is a dry run; what cannot be read is none."""
    try:
        return operator_order.decode(body).dry_run
    except DECODE_ERRORS:
        return False


def is_dry_rolling(body: bytes) -> bool:
    """As :func:`is_dry_order`, for a rolling restart."""
    try:
        return _rolling_request.decode(body).dry_run
    except DECODE_ERRORS:
        return False
