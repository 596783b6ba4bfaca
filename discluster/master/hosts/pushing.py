# SPDX-License-Identifier: Apache-2.0
"""Brings each host its part of the plan: at once what matters, the rest when there is calm.

A generation that leaves a host's part as it was is no news to that host, and in a large fleet most
are of that kind. Such hosts follow later: who starts without MASTER compares its generation with
what others have, so in the end all have the same.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from discluster.clock import Clock
from discluster.master.hosts.book import HostBook, HostConnection
from discluster.master.parts import HostPlans
from discluster.messages import PlanPush
from discluster.plan import FleetPlan, HostPlan, digest, host_plan_to_yaml

# Plans that are written in one go; pings are answered in between.
_IN_ONE_GO: Final = 20
_CALM: Final = 3.0


class Pusher:
    """Plans that hosts do not have yet go out in :meth:`push`."""

    def __init__(
        self, *, book: HostBook, fleet: Callable[[], FleetPlan | None], clock: Clock
    ) -> None:
        self._book = book
        self._fleet = fleet
        self._clock = clock
        self._parts: HostPlans | None = None
        self._since = 0.0  # the generation is what it is

    async def push(self, *, to_all: bool = False) -> None:
        """Returns when all is under way that is due now. ``to_all``: MASTER stops, so there will be
        no calm to wait for.
        """
        written = 0
        for connection in self._book.connections:
            fleet = self._fleet()
            if fleet is None:
                return
            if connection.pushed_generation >= fleet.generation:
                continue
            if self._push(connection, self._parts_of(fleet), to_all=to_all):
                written += 1
                if written % _IN_ONE_GO == 0:
                    await asyncio.sleep(0)

    def _parts_of(self, fleet: FleetPlan) -> HostPlans:
        if self._parts is None or self._parts.fleet is not fleet:
            if self._parts is None or self._parts.fleet.generation != fleet.generation:
                self._since = self._clock.monotonic()
            self._parts = HostPlans(fleet)
        return self._parts

    def _push(self, connection: HostConnection, parts: HostPlans, *, to_all: bool) -> bool:
        plan, before = parts.of(connection.host), connection.pushed
        calm = to_all or self._clock.monotonic() - self._since >= _CALM
        if before is not None and not calm and _is_alike(plan, before):
            report = self._book.report(connection.host)
            if report is not None and not parts.must_report(connection.host, report):
                return False
        text = host_plan_to_yaml(plan)
        connection.send(PlanPush(generation=plan.generation, sha256=digest(text), text=text))
        connection.pushed, connection.pushed_generation = plan, plan.generation
        self._book.refused_plan(connection, None)
        return True


def _is_alike(plan: HostPlan, before: HostPlan) -> bool:
    return msgspec.structs.replace(before, generation=plan.generation) == plan
