# SPDX-License-Identifier: Apache-2.0
"""All oracles over one ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from discluster.simulator.ledger import Record, Shard
from discluster.simulator.oracles.conservation import Consumed
from discluster.simulator.oracles.dialling import dials_are_bounded, terminal_closes_are_final
from discluster.simulator.oracles.evidence import Evidence, Oracle, by_bot
from discluster.simulator.oracles.health import health_is_truthful
from discluster.simulator.oracles.heartbeats import heartbeats_are_regular
from discluster.simulator.oracles.identifying import (
    buckets_start_in_order,
    budget_is_kept,
    identifies_are_spaced,
)
from discluster.simulator.oracles.recovery import (
    Report,
    recoveries_are_quick,
    report,
    shards_come_back,
)
from discluster.simulator.oracles.resuming import living_sessions_are_resumed
from discluster.simulator.oracles.rules import rules_are_kept
from discluster.simulator.oracles.sessions import (
    invalid_sessions_are_left,
    sessions_are_not_closed_by_accident,
    shards_are_connected_once,
)
from discluster.simulator.oracles.verdict import Limits, Verdict


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client and its tester say, for the oracles that cannot know it from the ledger.

    bot: whom the claims are about, where there are several. healthy: the shards that the client
    calls healthy now (O-17). consumed: what its consumers got (O-13). calm_since, within, shards:
    see `shards_come_back` (O-18). limits: instead of those that follow from the settings. soft:
    soft verdicts, too. Times are simulated seconds, as in the ledger.
    """

    bot: int | None = None
    healthy: list[Shard] | None = None
    consumed: list[Consumed] = []
    calm_since: float | None = None
    within: float = 60.0
    shards: list[Shard] | None = None
    limits: Limits | None = None
    soft: bool = False


ORACLES: Final[tuple[Oracle, ...]] = (
    identifies_are_spaced,
    buckets_start_in_order,
    budget_is_kept,
    living_sessions_are_resumed,
    invalid_sessions_are_left,
    terminal_closes_are_final,
    dials_are_bounded,
    shards_are_connected_once,
    heartbeats_are_regular,
    sessions_are_not_closed_by_accident,
    recoveries_are_quick,
    rules_are_kept,
)
"""Those that need nothing but the ledger."""


def judge(
    records: Sequence[Record], limits: Limits, *, now: float, claims: Claims | None = None
) -> list[Verdict]:
    """Verdicts of all oracles on each bot. `records` are numbered.

    `now` ends what has not ended yet, in simulated seconds. Claims about consumed events are the
    simulator's to judge, which has the log of what it sent.
    """
    said = claims or Claims()
    cases = by_bot(records)
    verdicts: list[Verdict] = []
    for bot, evidence in cases:
        found = [one for oracle in ORACLES for one in oracle(evidence, limits, now)]
        if said.bot is None or said.bot == bot or len(cases) == 1:
            found += _claimed(evidence, limits, now, said)
        verdicts += [msgspec.structs.replace(one, bot=bot) for one in found]
    kept = [verdict for verdict in verdicts if said.soft or not verdict.soft]
    return sorted(kept, key=lambda verdict: verdict.oracle)


def _claimed(evidence: Evidence, limits: Limits, now: float, claims: Claims) -> Iterator[Verdict]:
    if claims.healthy is not None:
        yield from health_is_truthful(evidence, limits, claimed=claims.healthy, now=now)
    if claims.calm_since is not None:
        yield from shards_come_back(
            evidence,
            calm_since=claims.calm_since,
            within=claims.within,
            now=now,
            shards=claims.shards,
        )


def report_all(records: Sequence[Record]) -> list[Report]:
    """The figures of each bot."""
    return [msgspec.structs.replace(report(evidence), bot=bot) for bot, evidence in by_bot(records)]
