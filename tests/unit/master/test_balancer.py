# SPDX-License-Identifier: Apache-2.0
"""Load moves shards when it lasts and when it pays, and then once."""

import random
from collections.abc import Callable, Mapping

import msgspec
import pytest

from discluster.master.balancer import Balancer
from discluster.master.planner import HostNeed, plan_fleet
from discluster.master.settings import MasterSettings
from discluster.messages import ClusterView, HostReport, ShardView
from discluster.plan import FleetPlan, Grant, HostEntry
from tests.clock import ManualClock
from tests.unit.master.targets import homes, laid_out, moved, numbers

PAUSE = 3600.0
MINUTE = 60.0
GUILDS = MasterSettings(balance="guilds", rebalance_pause=PAUSE)
LOAD = MasterSettings(balance="load", rebalance_pause=PAUSE)
NEEDS = {host: HostNeed(shards_per_cluster=4) for host in "abc"}


def fleet(hosts: Mapping[str, HostEntry]) -> FleetPlan:
    """All of it in place."""
    where = homes(hosts)
    return FleetPlan(
        generation=5,
        shard_count=len(where),
        gateway_url="wss://gateway.example.net",
        hosts=dict(hosts),
        granted={shard: Grant(host=host) for shard, host in where.items()},
    )


def reports(
    hosts: Mapping[str, HostEntry],
    *,
    guilds: Callable[[int], int] = lambda _: 1000,
    cpu: Callable[[int], float] = lambda _: 0.1,
) -> list[HostReport]:
    """``guilds``, ``cpu``: of a shard."""
    return [
        HostReport(
            plan_generation=5,
            clusters=tuple(
                ClusterView(
                    cluster=number,
                    unit="active",
                    shards=tuple(
                        ShardView(shard=shard, state="ready", guilds=guilds(shard))
                        for shard in cluster.shards
                    ),
                    cpu=sum(map(cpu, cluster.shards)),
                )
                for number, cluster in entry.clusters.items()
            ),
        )
        for entry in hosts.values()
    ]


class Watched:
    """A fleet whose balancer looks every minute, and is obeyed."""

    def __init__(self, settings: MasterSettings, hosts: Mapping[str, HostEntry]) -> None:
        self.settings = settings
        self.hosts = dict(hosts)
        self.clock = ManualClock()
        self.balancer = Balancer(clock=self.clock)
        self.moves: list[list[int]] = []
        self.reasons: list[str] = []

    def minutes(self, number: int, told: Callable[[], list[HostReport]]) -> None:
        for _ in range(number):
            self.clock.jump(MINUTE)
            self.balancer.observe(self.settings, told())
            proposal = self.balancer.proposal(self.settings, fleet(self.hosts), NEEDS)
            if proposal is not None:
                self.moves.append(moved(self.hosts, proposal.target.hosts))
                self.reasons.append(proposal.reason)
                self.hosts = proposal.target.hosts
                self.balancer.moved()


def test_noise_on_the_load_moves_nothing_in_two_days() -> None:
    rng = random.Random(7)
    watched = Watched(LOAD, laid_out(32, 32, 32))
    # Each shard anywhere between nothing and twice its average, another value every minute.
    watched.minutes(2 * 24 * 60, lambda: reports(watched.hosts, cpu=lambda _: rng.uniform(0, 0.2)))
    assert watched.moves == []


def test_a_busy_half_hour_on_one_host_moves_nothing() -> None:
    watched = Watched(LOAD, laid_out(32, 32, 32))
    watched.minutes(180, lambda: reports(watched.hosts))
    for _ in range(10):
        watched.minutes(5, lambda: reports(watched.hosts, cpu=lambda s: 0.12 if s < 32 else 0.1))
        watched.minutes(60, lambda: reports(watched.hosts))
    assert watched.moves == []


def test_a_lasting_imbalance_moves_few_shards_once() -> None:
    watched = Watched(LOAD, laid_out(32, 32, 32))
    watched.minutes(600, lambda: reports(watched.hosts, cpu=lambda s: 0.2 if s < 32 else 0.1))
    # a: 6.4 of a share of 4.3; down to 5 % above it, ten or eleven shards of 0.2 must go.
    assert [len(shards) for shards in watched.moves] == [10]
    assert set(watched.moves[0]) <= set(range(32))
    assert watched.reasons[0].startswith("a carries 50 % more than its share of the load; with 10")


def test_no_more_shards_move_than_it_takes_to_come_near_the_share() -> None:
    watched = Watched(GUILDS, laid_out(100, 100, 100))
    watched.minutes(600, lambda: reports(watched.hosts, guilds=lambda s: 1600 if s < 100 else 1000))
    # a has 160,000 guilds of a share of 120,000; 22 shards less are within a twentieth of it.
    assert [len(shards) for shards in watched.moves] == [22]


def test_a_lasting_imbalance_waits_for_the_pause_since_the_start() -> None:
    watched = Watched(LOAD, laid_out(32, 32, 32))
    told = lambda: reports(watched.hosts, cpu=lambda s: 0.2 if s < 32 else 0.1)  # noqa: E731
    watched.minutes(59, told)
    assert watched.moves == []
    watched.minutes(1, told)
    assert len(watched.moves) == 1


def test_between_two_moves_lies_the_pause() -> None:
    watched = Watched(GUILDS, laid_out(32, 32, 32))
    watched.minutes(60, lambda: reports(watched.hosts, guilds=lambda s: 2000 if s < 32 else 1000))
    assert len(watched.moves) == 1
    other = lambda: reports(watched.hosts, guilds=lambda s: 3000 if s > 80 else 1000)  # noqa: E731
    watched.minutes(59, other)
    assert len(watched.moves) == 1
    watched.minutes(1, other)
    assert len(watched.moves) == 2


def test_an_imbalance_below_the_gain_stays() -> None:
    watched = Watched(GUILDS, laid_out(32, 32, 32))
    watched.minutes(600, lambda: reports(watched.hosts, guilds=lambda s: 1120 if s < 32 else 1000))
    assert watched.moves == []


def test_the_gain_is_settable() -> None:
    settings = msgspec.structs.replace(GUILDS, rebalance_gain=0.03)
    watched = Watched(settings, laid_out(32, 32, 32))
    watched.minutes(600, lambda: reports(watched.hosts, guilds=lambda s: 1120 if s < 32 else 1000))
    assert len(watched.moves) == 1


def test_where_the_number_is_balanced_nothing_is_proposed_and_nothing_costs() -> None:
    settings = MasterSettings(balance="shards", rebalance_pause=PAUSE)
    watched = Watched(settings, laid_out(64, 16, 16))
    watched.minutes(100, lambda: reports(watched.hosts))
    assert watched.moves == []
    assert watched.balancer.costs(settings, 96) is None


def test_a_master_that_has_just_started_moves_nothing_in_a_fleet_balanced_by_load() -> None:
    hosts = laid_out(40, 28, 28)
    costs = Balancer(clock=ManualClock()).costs(LOAD, 96)
    assert costs is not None
    assert plan_fleet(96, NEEDS, hosts, costs=costs).hosts == hosts


def test_another_balance_begins_anew() -> None:
    clock = ManualClock()
    balancer = Balancer(clock=clock)
    hosts = laid_out(4, 4)
    balancer.observe(GUILDS, reports(hosts, guilds=lambda s: 500 + s))
    assert balancer.costs(GUILDS, 8) == {s: 500.0 + s for s in range(8)}
    balancer.observe(LOAD, reports(hosts))
    assert balancer.costs(LOAD, 8) == pytest.approx(dict.fromkeys(range(8), 1.0))
    assert balancer.costs(GUILDS, 8) == dict.fromkeys(range(8), 1.0)


@pytest.mark.parametrize(
    ("needs", "change"),
    [
        (NEEDS | {"b": HostNeed(in_touch=False)}, {}),
        (NEEDS | {"b": HostNeed(state="lost")}, {}),
        (NEEDS, {0: Grant(host="b")}),
        (NEEDS, {0: Grant(host="a", withdrawn=5)}),
        ({h: NEEDS[h] for h in "ab"}, {}),
    ],
)
def test_nothing_is_proposed_while_the_fleet_is_not_at_rest(
    needs: Mapping[str, HostNeed], change: Mapping[int, Grant]
) -> None:
    clock = ManualClock()
    hosts = laid_out(32, 32, 32)
    balancer = Balancer(clock=clock)
    clock.jump(PAUSE)
    balancer.observe(GUILDS, reports(hosts, guilds=lambda s: 2000 if s < 32 else 1000))
    plan = fleet(hosts)
    busy = msgspec.structs.replace(plan, granted={**plan.granted, **change})
    assert balancer.proposal(GUILDS, busy, needs) is None
    clock.jump(MINUTE)
    balancer.observe(GUILDS, reports(hosts, guilds=lambda s: 2000 if s < 32 else 1000))
    assert balancer.proposal(GUILDS, plan, NEEDS) is not None


def test_a_join_right_after_a_move_takes_its_share_at_once() -> None:
    watched = Watched(LOAD, laid_out(32, 32, 32))
    told = lambda: reports(watched.hosts, cpu=lambda s: 0.2 if s < 32 else 0.1)  # noqa: E731
    watched.minutes(61, told)
    costs = watched.balancer.costs(LOAD, 96)
    assert costs is not None
    joined = plan_fleet(96, NEEDS | {"d": HostNeed()}, watched.hosts, costs=costs).hosts
    share = sum(costs.values()) / 4
    assert sum(costs[s] for s, host in homes(joined).items() if host == "d") == pytest.approx(
        share, rel=0.05
    )
    assert len(moved(watched.hosts, joined)) == numbers(joined)["d"]
