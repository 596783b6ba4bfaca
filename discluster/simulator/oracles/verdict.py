# SPDX-License-Identifier: Apache-2.0
"""What an oracle says, and what it measures against."""

from typing import Literal

import msgspec


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A violated oracle.

    records: numbers in the ledger. bot: index of its token, if there are several. soft: bad
    manners rather than a violation; judgements leave it out unless they are asked.
    """

    oracle: str
    text: str
    records: list[int] = []
    bot: int | None = None
    soft: bool = False


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the oracles measure against.

    Simulated seconds: identify_interval, heartbeat_interval, budget_period, recovery (the most
    that a reconnect may take; None only reports). time_factor: real seconds per simulated one.

    Counts: max_concurrency; shards, the fewest that the fleet can have; budget, the session
    starts in a budget_period (None: only the exhaustion of the simulated budget counts), and
    reserve, how many of them a client must leave; dials of a shard in 60 s, and of a fleet.

    Real seconds, since they are about machines and networks: timer_slack for a late timer,
    overlap of two connections of a shard, answer to a heartbeat request, news of a terminal close
    that go through a fleet, delivery of what was sent last to its client, health for a change of
    health to be noticed.

    arrival, in real seconds: how much the way to the simulator may shorten an interval. On the
    real Discord a client has to allow for it, so it counts for nothing at time_factor 1; where
    time is compressed it is magnified, and what compression adds is forgiven.

    resume_from: what a client declares to RESUME from. "received": the last sequence that came
    in, so never before one that a heartbeat of it named. "consumed": the last that its consumer
    took, which only its consumer's counts can contradict.
    """

    identify_interval: float = 5.0
    heartbeat_interval: float = 41.25
    budget_period: float = 86_400.0
    recovery: float | None = None
    time_factor: float = 1.0
    max_concurrency: int = 1
    shards: int = 1
    budget: int | None = None
    reserve: int = 0
    dials: int = 10
    fleet_dials: int | None = None
    timer_slack: float = 0.25
    overlap: float = 1.0
    answer: float = 1.0
    news: float = 5.0
    delivery: float = 0.25
    health: float = 1.0
    arrival: float = 0.02
    resume_from: Literal["received", "consumed"] = "consumed"

    def simulated(self, real: float) -> float:
        """Real seconds as simulated ones."""
        return real / self.time_factor

    @property
    def jitter(self) -> float:
        """Simulated seconds of `arrival` that the compression of time adds."""
        return max(0.0, self.simulated(self.arrival) - self.arrival)
