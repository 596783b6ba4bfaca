# SPDX-License-Identifier: Apache-2.0
"""The judgement over HTTP: the oracles with the simulator's own ledger and log of what it sent."""

from __future__ import annotations

import asyncio

from discluster.simulator.ledger import Record
from discluster.simulator.oracles import (
    Claims,
    Consumed,
    Limits,
    Report,
    Verdict,
    events_are_conserved,
    judge,
    report_all,
)
from discluster.simulator.oracles.conservation import Fate, Sent, replays
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.world import World


def limits_of(settings: SimulatorSettings) -> Limits:
    """What the oracles measure against in this simulation."""
    return Limits(
        identify_interval=settings.identify_interval - settings.identify_tolerance,
        heartbeat_interval=settings.heartbeat_interval,
        budget_period=settings.reset_after,
        time_factor=settings.time_factor,
        max_concurrency=settings.max_concurrency,
        shards=settings.shards,
    )


class Judge:
    """Judges in a thread: a long ledger takes a while, and heartbeats must not wait for it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._limits = limits_of(world.settings)

    async def judgement(self, claims: Claims) -> list[Verdict]:
        """Violated oracles."""
        records, now = self._world.ledger.since(), self._world.timing.now()
        consumed = [(one, *self._log(one)) for one in claims.consumed]
        limits = claims.limits or self._limits
        verdicts = await asyncio.to_thread(judge, records, limits, now=now, claims=claims)
        for one, sent, fates in consumed:
            verdicts += await asyncio.to_thread(_conserved, one, sent, fates, records)
        return verdicts

    async def reports(self) -> list[Report]:
        """Figures of each bot."""
        return await asyncio.to_thread(report_all, self._world.ledger.since())

    def _log(self, consumed: Consumed) -> tuple[list[Sent], dict[str, Fate]]:
        """What was sent to a shard, and what became of its sessions."""
        log = self._world.sent_logs.get((consumed.bot, consumed.shard))
        if log is None:
            return [], {}
        names = list(log.sessions())
        sent = [Sent(name, *event) for name, event in zip(names, log, strict=True)]
        return sent, {name: self._fate(name) for name in set(names)}

    def _fate(self, name: str) -> Fate:
        session = self._world.known(name)
        if session is None:
            return Fate(ended=True, acknowledged=0)
        return Fate(ended=session.ended is not None, acknowledged=session.acknowledged)


def _conserved(
    consumed: Consumed, sent: list[Sent], fates: dict[str, Fate], records: list[Record]
) -> list[Verdict]:
    again = replays(records)
    return list(events_are_conserved(consumed, sent, fates=fates, again=again))
