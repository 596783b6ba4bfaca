# SPDX-License-Identifier: Apache-2.0
"""What CONTROL tells its clusters of rejections, and which of them tries after a 4003."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from discluster.control.clusters import ClusterConnection
from discluster.control.standing import MASTERS_WORD, Standing
from discluster.control.supervisor import UnitView
from discluster.messages import (
    Clearance,
    ClearanceCase,
    ClusterReport,
    Halt,
    Message,
    ShardView,
)
from tests.clock import ManualClock, settle

WHY = "shard 3 was rejected: Discord rejected the bot token (4004)"


class Connection(ClusterConnection):
    """A cluster's connection that keeps what it was told."""

    def __init__(self, cluster: int) -> None:
        self.cluster = cluster
        self.told = None
        self.heard: list[Message] = []

    def send(self, message: Message) -> None:
        self.heard.append(message)

    def news(self) -> list[Message]:
        news, self.heard = self.heard, []
        return news


class Host:
    """Two clusters of one unit each; ``restarts`` as systemd counts them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.standing = Standing(clock=self.clock)
        self.reports: dict[int, ClusterReport] = {}
        self.connections: dict[int, Connection] = {}
        self.restarts = {3: 0, 4: 0}
        self.to_master: list[Message] = []
        self.changed = 0
        self.task = asyncio.create_task(self.standing.run(self.tell))

    def tell(self) -> None:
        self.changed += self.standing.tell(self.reports, self.connections.values())

    def come(self, cluster: int, *, fatal: bool = False) -> Connection:
        """A cluster introduces itself."""
        connection = self.connections[cluster] = Connection(cluster)
        self.standing.introduced(connection)
        self.report(cluster, fatal=fatal)
        return connection

    def report(self, cluster: int, *, fatal: bool = False) -> None:
        shard = ShardView(shard=cluster, state="ready")
        if fatal:
            problem = "Discord rejected the bot token (4004)"
            shard = ShardView(shard=cluster, state="fatal", fatal=4004, problem=problem)
        self.reports[cluster] = ClusterReport(
            cluster=cluster, pid=1, generation=1, uptime=1, handler="", shards=(shard,)
        )
        self.tell()

    def go(self, cluster: int) -> None:
        del self.connections[cluster]
        self.standing.gone(self.reports.pop(cluster), self.units()[cluster])
        self.tell()

    def units(self) -> dict[int, UnitView]:
        return {c: UnitView(state="active", restarts=n) for c, n in self.restarts.items()}

    def look(self, *, planned: tuple[int, ...] = (3, 4)) -> None:
        """CONTROL looks at the units."""
        self.standing.settle(self.standing.unsettled, self.units(), planned)
        self.tell()

    def connect_master(self) -> None:
        self.standing.master_connected(self.to_master.append)

    def asks(self, cluster: int) -> None:
        case = ClearanceCase(shard=cluster, state="asks")
        self.standing.case(self.connections[cluster], case)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    made.standing.without_master()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_cluster_hears_how_things_stand_after_a_look_at_the_units(host: Host) -> None:
    three = host.come(3)
    assert three.news() == []
    host.look()
    assert three.news() == [Halt(reason=None)]
    host.look()
    assert three.news() == [], "it is told once"


@pytest.mark.covers("T-07", "F12", "O-07")
async def test_rejection_of_one_cluster_stops_the_others_until_it_is_reported_no_more(
    host: Host,
) -> None:
    three, four = host.come(3), host.come(4)
    host.look()
    three.news(), four.news()
    host.report(3, fatal=True)
    assert three.news() == four.news() == [Halt(reason=WHY)]
    assert host.standing.rejected == WHY
    assert host.changed == 1, "MASTER hears of it"
    host.report(3)
    assert four.news() == [Halt(reason=None)]
    assert host.standing.rejected is None


@pytest.mark.covers("T-07", "O-07")
async def test_rejection_outlives_a_cluster_that_systemd_restarts(host: Host) -> None:
    four = host.come(4)
    host.come(3, fatal=True)
    host.look()
    host.go(3)
    assert four.news()[-1] == Halt(reason=WHY)
    for restarts in (1, 2):
        host.restarts[3] = restarts
        again = host.come(3)
        assert Halt(reason=WHY) in again.news()
        host.look()
        host.look()
        assert host.standing.rejected == WHY
        if restarts == 1:
            host.go(3)
    assert four.news() == []


async def test_rejection_ends_when_the_operator_restarts_the_cluster(host: Host) -> None:
    four = host.come(4)
    host.restarts[3] = 2
    host.come(3, fatal=True)
    host.look()
    host.go(3)
    host.restarts[3] = 0
    again = host.come(3)
    four.news()
    host.look()
    assert again.news()[-1] == Halt(reason=None)
    assert four.news() == [Halt(reason=None)]


async def test_rejection_ends_with_a_cluster_that_is_not_planned_any_more(host: Host) -> None:
    host.come(3, fatal=True)
    host.look()
    host.go(3)
    host.look()
    assert host.standing.rejected == WHY
    host.look(planned=(4,))
    assert host.standing.rejected is None


async def test_masters_word_goes_to_every_cluster_and_is_not_reported_back(host: Host) -> None:
    three = host.come(3)
    host.look()
    three.news()
    host.standing.master_said(Halt(reason="on beta, shard 9 was rejected"))
    host.tell()
    assert three.news() == [Halt(reason="on beta, shard 9 was rejected")]
    assert host.standing.rejected is None
    host.standing.master_lost()
    host.tell()
    assert three.news() == [], "it stays in force"
    host.standing.master_said(Halt(reason=None))
    host.tell()
    assert three.news() == [Halt(reason=None)]


async def test_new_control_calls_nothing_well_before_master_did_or_did_not_speak() -> None:
    host = Host()
    three = host.come(3)
    host.look()
    await host.clock.advance(MASTERS_WORD - 0.1)
    assert three.news() == []
    await host.clock.advance(0.2)
    assert three.news() == [Halt(reason=None)]
    four = host.come(4, fatal=True)
    assert four.news()[0] != Halt(reason=None)
    host.task.cancel()
    await asyncio.gather(host.task, return_exceptions=True)


@pytest.mark.covers("T-58", "F12")
async def test_one_cluster_tries_for_all_while_master_is_away(host: Host) -> None:
    three, four = host.come(3), host.come(4)
    host.look()
    three.news(), four.news()
    host.asks(3)
    host.asks(4)
    await host.clock.advance(30)
    assert three.news() == [Clearance(shard=3)]
    assert four.news() == []
    host.standing.case(three, ClearanceCase(shard=3, state="accepted"))
    await settle()
    assert four.news() == [Clearance(shard=None)]


async def test_cluster_that_vanishes_makes_room_for_the_next(host: Host) -> None:
    host.come(3)
    four = host.come(4)
    host.look()
    host.asks(3)
    host.asks(4)
    await settle()
    four.news()
    host.go(3)
    await settle()
    assert four.news() == [Clearance(shard=4)]


@pytest.mark.covers("T-58", "F12")
async def test_with_master_only_one_cluster_is_sent_to_it(host: Host) -> None:
    three, four = host.come(3), host.come(4)
    host.look()
    three.news(), four.news()
    host.connect_master()
    host.asks(3)
    host.asks(4)
    await settle()
    assert host.to_master == [ClearanceCase(shard=3, state="asks")]
    assert three.news() == []
    host.standing.master_said(Clearance(shard=3))
    assert three.news() == [Clearance(shard=3)]
    host.standing.case(three, ClearanceCase(shard=3, state="failed"))
    await host.clock.advance(1.5)
    assert host.to_master[1:] == [
        ClearanceCase(shard=3, state="failed"),
        ClearanceCase(shard=4, state="asks"),
    ]
    host.standing.master_said(Clearance(shard=None))
    assert four.news() == [Clearance(shard=None)]


@pytest.mark.covers("T-58", "O-07")
async def test_nobody_tries_while_something_is_rejected(host: Host) -> None:
    host.come(3, fatal=True)
    four = host.come(4)
    host.look()
    four.news()
    host.asks(4)
    await host.clock.advance(600)
    assert four.news() == []
    host.report(3)
    await settle()
    assert four.news() == [Halt(reason=None), Clearance(shard=4)]
