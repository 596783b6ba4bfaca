# SPDX-License-Identifier: Apache-2.0
"""Calls as they pass MASTER: hosts are played by the test."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from discluster.master.calls import FleetCalls, places
from discluster.master.hosts.book import HostConnection
from discluster.messages import (
    LONGEST_ARGUMENTS,
    LONGEST_VALUE,
    Call,
    CallAnswer,
    CallAsked,
    CallFault,
    CallRequest,
    Message,
    Ping,
)
from discluster.plan import ClusterPlan, FleetPlan, Grant, HostEntry
from tests.clock import ManualClock, settle

ALL = CallRequest(number=7, name="stats", args=msgspec.Raw(b"[1]"), timeout=10.0)
ONE = msgspec.Raw(b"1")


def entry(**clusters: tuple[int, ...]) -> HostEntry:
    plans = {int(name[1:]): ClusterPlan(shards=shards) for name, shards in clusters.items()}
    return HostEntry(weight=1.0, clusters=plans)


FLEET = FleetPlan(
    generation=1,
    shard_count=8,
    gateway_url="wss://gateway.discord.gg",
    hosts={
        "alpha": entry(c1=(0, 1), c2=(2, 3)),
        "beta": entry(c3=(4, 5)),
        "gamma": entry(c4=(6, 7)),
    },
)


class Rig:
    """alpha and beta are connected, gamma is not."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.fleet: FleetPlan | None = FLEET
        self.calls = FleetCalls(self, clock=self.clock)
        self.alpha, self.beta = self.connect("alpha"), self.connect("beta")

    def connect(self, host: str) -> HostConnection:
        connection = HostConnection(host, lambda _: None)
        self.calls.connected(connection)
        return connection

    async def asking(self, request: CallRequest) -> "asyncio.Task[list[tuple[object, ...]]]":
        """An operator; gets cluster, host, and value or fault's code, of each entry."""

        async def ask() -> list[tuple[object, ...]]:
            report = await self.calls.operator_asks(request)
            return [
                (e.cluster, e.host, e.fault.code if e.fault else bytes(e.value))
                for e in report.entries
            ]

        task = asyncio.create_task(ask())
        await settle()
        return task


def heard(connection: HostConnection) -> list[Message]:
    found = []
    while not connection.outbox.empty():
        found.append(connection.outbox.get_nowait())
    return found


def called(connection: HostConnection) -> Call:
    [call] = heard(connection)
    assert isinstance(call, Call)
    return call


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    running = asyncio.create_task(made.calls.run())
    await settle()
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_operator_gets_an_entry_of_each_cluster_that_the_plan_names(rig: Rig) -> None:
    asking = await rig.asking(ALL)
    first, second = called(rig.alpha), called(rig.beta)
    assert (first.name, first.clusters, first.timeout) == ("stats", (1, 2), 9.75)
    assert bytes(first.args) == b"[1]"
    rig.calls.said(rig.beta, CallAnswer(number=second.number, cluster=3, value=ONE))
    for cluster in (1, 2):
        rig.calls.said(rig.alpha, CallAnswer(number=first.number, cluster=cluster, value=ONE))
    assert await asking == [
        (1, "alpha", b"1"),
        (2, "alpha", b"1"),
        (3, "beta", b"1"),
        (4, "gamma", "away"),
    ]


async def test_host_answers_for_its_own_clusters_and_for_what_it_was_asked(rig: Rig) -> None:
    asking = await rig.asking(msgspec.structs.replace(ALL, clusters=(1, 3, 77)))
    call = called(rig.alpha)
    assert call.clusters == (1,)
    for cluster in (1, 2, 3, 77):
        answer = CallAnswer(number=call.number, cluster=cluster, value=ONE)
        lie = msgspec.structs.replace(answer, value=msgspec.Raw(b'"a lie"'))
        if cluster != 3:
            rig.calls.said(rig.beta, lie)
        rig.calls.said(rig.alpha, lie if cluster == 3 else answer)
        rig.calls.said(rig.alpha, lie)
    await rig.clock.advance(10.0)
    assert await asking == [
        (1, "alpha", b"1"),
        (3, "beta", "time-out"),
        (77, None, "no-such-cluster"),
    ]


async def test_host_that_goes_away_is_not_waited_for(rig: Rig) -> None:
    asking = await rig.asking(ALL)
    rig.calls.gone(rig.alpha)
    newer = rig.connect("alpha")
    call = called(rig.beta)
    rig.calls.said(newer, CallAnswer(number=call.number, cluster=1, value=ONE))
    rig.calls.said(rig.beta, CallAnswer(number=call.number, cluster=3, value=ONE))
    assert await asking == [
        (1, "alpha", "away"),
        (2, "alpha", "away"),
        (3, "beta", b"1"),
        (4, "gamma", "away"),
    ]
    # That the older one ended is known only now.
    rig.calls.gone(rig.alpha)
    await rig.asking(ALL)
    assert called(newer).clusters == (1, 2)


async def test_host_is_told_whom_its_call_goes_to_and_then_each_answer(rig: Rig) -> None:
    cost = rig.calls.said(rig.alpha, msgspec.structs.replace(ALL, besides=(1, 2)))
    assert cost > 0
    asked, away, end = heard(rig.alpha)
    assert asked == CallAsked(number=7, hosts={"beta": (3,), "gamma": (4,)}, more=True)
    told = CallFault(code="away", text="gamma is not connected to MASTER")
    assert away == CallAnswer(number=7, cluster=4, fault=told)
    assert isinstance(end, CallAsked)
    assert (end.unasked, end.more) == (None, False)
    call = called(rig.beta)
    rig.calls.said(rig.beta, CallAnswer(number=call.number, cluster=3, value=ONE))
    assert heard(rig.alpha) == [CallAnswer(number=7, cluster=3, value=ONE)]


async def test_one_host_cannot_have_all_calls_that_there_may_be(rig: Rig) -> None:
    for number in range(64):
        rig.calls.said(rig.alpha, msgspec.structs.replace(ALL, number=number, clusters=(3,)))
    heard(rig.alpha)
    rig.calls.said(rig.alpha, msgspec.structs.replace(ALL, clusters=(3,)))
    [refused] = heard(rig.alpha)
    assert isinstance(refused, CallAsked)
    assert refused.missing is not None
    assert refused.missing.text == "at MASTER 64 calls of this asker are under way already"
    heard(rig.beta)
    rig.calls.said(rig.beta, msgspec.structs.replace(ALL, clusters=(3,)))
    assert any(isinstance(message, Call) for message in heard(rig.beta))


async def test_long_arguments_to_many_hosts_cost_their_asker_time(rig: Rig) -> None:
    short = rig.calls.said(rig.alpha, ALL)
    args = msgspec.Raw(b'"%s"' % (b"x" * (LONGEST_ARGUMENTS - 2)))
    assert rig.calls.said(rig.alpha, msgspec.structs.replace(ALL, args=args)) > 2 * short


async def test_host_that_does_not_read_keeps_its_connection_and_is_told_so_in_the_end(
    rig: Rig,
) -> None:
    """What waits for it is bounded, and a ping overtakes all of it."""
    long = msgspec.Raw(b'"%s"' % (b"x" * (LONGEST_VALUE - 2)))
    for number in range(200):
        rig.calls.said(rig.alpha, msgspec.structs.replace(ALL, number=number, clusters=(3,)))
        call = called(rig.beta)
        rig.calls.said(rig.beta, CallAnswer(number=call.number, cluster=3, value=long))
    rig.alpha.send(Ping(number=1))
    first, *rest = heard(rig.alpha)
    assert first == Ping(number=1)
    answers = [message for message in rest if isinstance(message, CallAnswer)]
    assert len(answers) == 200
    busy = [a for a in answers if a.fault is not None]
    assert 50 < len(busy) < 100
    assert {a.fault.code for a in busy if a.fault} == {"busy"}


def test_clusters_that_still_run_what_others_shall_have_are_places_too() -> None:
    grants = {
        0: Grant(host="alpha", cluster=1),
        2: Grant(host="gamma", cluster=9),
        3: Grant(host="delta", cluster=8),
        4: Grant(host="beta"),
    }
    fleet = msgspec.structs.replace(FLEET, granted=grants)
    assert places(fleet) == {"alpha": (1, 2), "beta": (3,), "gamma": (4, 9), "delta": (8,)}


async def test_fleet_without_a_plan_has_nobody_to_ask(rig: Rig) -> None:
    rig.fleet = None
    assert await (await rig.asking(ALL)) == []
