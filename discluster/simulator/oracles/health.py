# SPDX-License-Identifier: Apache-2.0
"""O-17: a client says that a shard is healthy if and only if it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from discluster.simulator import ledger
from discluster.simulator.ledger import Shard
from discluster.simulator.oracles.evidence import Evidence
from discluster.simulator.oracles.verdict import Limits, Verdict

_INTERVALS = 2


def health_is_truthful(
    evidence: Evidence, limits: Limits, *, claimed: Collection[Shard], now: float
) -> Iterator[Verdict]:
    """O-17. `claimed`: the shards that the client calls healthy at `now`.

    Healthy is who is authenticated, and had a heartbeat acknowledged within two intervals. What
    changed a moment ago (Limits.health) is not judged: nobody can know it yet.
    """
    grace = limits.simulated(limits.health)
    before, _ = _healthy(evidence, limits, now - grace)
    after, changed = _healthy(evidence, limits, now)
    unsure = {shard for shard, when in changed.items() if when > now - grace}
    unsure |= before ^ after
    for shard in sorted(set(claimed) - after - unsure):
        yield Verdict(oracle="O-17", text=f"shard {shard} is said to be healthy, and is not")
    for shard in sorted(after - set(claimed) - unsure):
        yield Verdict(oracle="O-17", text=f"shard {shard} is healthy, and said not to be")


def _healthy(
    evidence: Evidence, limits: Limits, moment: float
) -> tuple[set[Shard], dict[Shard, float]]:
    """Shards that are healthy at a moment, and when each began or ended a connection last."""
    current: dict[Shard, int | None] = {}
    seen: dict[int | None, float] = {}  # last sign that a connection worked
    changed: dict[Shard, float] = {}
    kinds = (
        ledger.Ready, ledger.Resumed, ledger.InvalidSession, ledger.Close, ledger.Heartbeat,
    )  # fmt: skip
    for record in evidence.of(*kinds):
        if record.time > moment:
            break
        if isinstance(record, ledger.Heartbeat):
            if record.acknowledged:
                seen[record.connection] = record.time
        elif record.shard is not None:
            changed[record.shard] = record.time
            if isinstance(record, ledger.Ready | ledger.Resumed):
                current[record.shard] = record.connection
                seen[record.connection] = record.time
            elif current.get(record.shard) == record.connection:
                del current[record.shard]
    oldest = moment - _INTERVALS * limits.heartbeat_interval - limits.simulated(limits.timer_slack)
    return {shard for shard, name in current.items() if seen[name] >= oldest}, changed
