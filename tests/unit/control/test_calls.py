# SPDX-License-Identifier: Apache-2.0
"""Calls as they pass CONTROL: clusters and MASTER are played by the test."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from discluster.control.calls import HostCalls
from discluster.messages import (
    Call,
    CallAnswer,
    CallAsked,
    CallFault,
    CallMessage,
    CallRequest,
    Message,
)
from tests.clock import ManualClock, settle

ALL = CallRequest(number=7, name="stats", args=msgspec.Raw(b"[1]"), timeout=10.0)
MISSING = CallFault(code="no-such-cluster", text="the fleet's plan has no such cluster")
ONE = msgspec.Raw(b"1")


class Peer:
    """A connection to a cluster, or to MASTER. ``deaf``: there is no room for more."""

    def __init__(self, cluster: int = -1) -> None:
        self.cluster = cluster
        self.deaf = False
        self._told: list[Message] = []

    def send_call(self, message: Message) -> bool:
        if not self.deaf:
            self._told.append(message)
        return not self.deaf

    def heard(self) -> list[Message]:
        """Since it was asked last."""
        told, self._told = self._told, []
        return told

    def call(self) -> Call:
        [call] = self.heard()
        assert isinstance(call, Call)
        return call


class Rig:
    """Clusters 3 and 4 are connected, 5 is not; 9 is of another host."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clusters = {3: Peer(3), 4: Peer(4)}
        self.master = Peer()
        self.calls = HostCalls(
            host="alpha",
            clusters=lambda: (3, 4, 5),
            connection=self.clusters.get,  # type: ignore[arg-type]
            clock=self.clock,
        )

    def say(self, cluster: int, message: CallMessage) -> None:
        self.calls.cluster_said(self.clusters[cluster], message)  # type: ignore[arg-type]

    def answer(self, cluster: int, call: Call, value: bytes) -> CallAnswer:
        answer = CallAnswer(number=call.number, cluster=cluster, value=msgspec.Raw(value))
        self.say(cluster, answer)
        return answer

    def answers(self, cluster: int) -> dict[int, bytes | str]:
        """What the asker was told, by cluster: the value, or the code of the fault."""
        told = [m for m in self.clusters[cluster].heard() if isinstance(m, CallAnswer)]
        found: dict[int, bytes | str] = {
            m.cluster: m.fault.code if m.fault else bytes(m.value) for m in told
        }
        assert len(found) == len(told)
        return found


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    running = asyncio.create_task(made.calls.run())
    await settle()
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_call_reaches_the_clusters_here_at_once_and_others_through_master(rig: Rig) -> None:
    rig.calls.master_connected(rig.master.send_call)
    rig.say(3, ALL)
    here = rig.clusters[4].call()
    assert (here.name, bytes(here.args), here.clusters, here.timeout) == (
        "stats",
        b"[1]",
        (4,),
        9.75,
    )
    [away] = rig.master.heard()
    assert isinstance(away, CallRequest)
    assert (away.clusters, away.besides, away.timeout) == (None, (3, 4, 5), 9.75)

    asked, own, absent = rig.clusters[3].heard()
    assert asked == CallAsked(number=7, hosts={"alpha": (3, 4, 5)}, more=True)
    assert isinstance(own, Call)
    assert isinstance(absent, CallAnswer)
    assert absent.fault == CallFault(code="away", text="cluster 5 is not connected to CONTROL")

    rig.answer(4, here, b"4")
    rig.answer(3, own, b"3")
    for message in (
        CallAsked(number=away.number, hosts={"beta": (9,)}, more=True),
        CallAsked(number=away.number, missing=MISSING),
        CallAnswer(number=away.number, cluster=9, value=msgspec.Raw(b"9")),
    ):
        assert rig.calls.master_said(message)
    four, three, more, end, nine = rig.clusters[3].heard()
    assert four == CallAnswer(number=7, cluster=4, value=msgspec.Raw(b"4"))
    assert three == CallAnswer(number=7, cluster=3, value=msgspec.Raw(b"3"))
    assert more == CallAsked(number=7, hosts={"beta": (9,)}, more=True)
    assert end == CallAsked(number=7, missing=MISSING)
    assert nine == CallAnswer(number=7, cluster=9, value=msgspec.Raw(b"9"))


async def test_without_master_the_clusters_here_answer_and_it_is_said_that_others_were_not_asked(
    rig: Rig,
) -> None:
    rig.say(3, msgspec.structs.replace(ALL, clusters=(4, 9)))
    rig.answer(4, rig.clusters[4].call(), b"4")
    asked, end, four = rig.clusters[3].heard()
    assert asked == CallAsked(number=7, hosts={"alpha": (4,)}, more=True)
    assert isinstance(end, CallAsked)
    assert end.unasked == "MASTER is away: only clusters of alpha are asked"
    assert end.missing is not None
    assert end.missing.code == "away"
    assert four == CallAnswer(number=7, cluster=4, value=msgspec.Raw(b"4"))


async def test_call_of_clusters_here_alone_does_not_concern_master(rig: Rig) -> None:
    rig.calls.master_connected(rig.master.send_call)
    rig.say(3, msgspec.structs.replace(ALL, clusters=(4,)))
    assert rig.master.heard() == []
    *_, end = rig.clusters[3].heard()
    assert isinstance(end, CallAsked)
    assert (end.unasked, end.more) == (None, False)


async def test_cluster_cannot_answer_for_another(rig: Rig) -> None:
    rig.say(3, msgspec.structs.replace(ALL, clusters=(4,)))
    call = rig.clusters[4].call()
    rig.say(3, CallAnswer(number=call.number, cluster=4, value=ONE))
    assert rig.answers(3) == {}
    # An answer counts as that of whoever says it.
    rig.say(4, CallAnswer(number=call.number, cluster=3, value=ONE))
    assert rig.answers(3) == {4: b"1"}


async def test_master_cannot_answer_for_a_cluster_here(rig: Rig) -> None:
    rig.calls.master_connected(rig.master.send_call)
    rig.say(3, ALL)
    [away] = rig.master.heard()
    assert isinstance(away, CallRequest)
    rig.calls.master_said(CallAsked(number=away.number, hosts={"beta": (4,)}, more=True))
    rig.calls.master_said(CallAnswer(number=away.number, cluster=4, value=ONE))
    assert rig.answers(3) == {5: "away"}


async def test_silent_cluster_is_out_of_time_and_a_silent_master_too(rig: Rig) -> None:
    rig.calls.master_connected(rig.master.send_call)
    rig.say(3, msgspec.structs.replace(ALL, clusters=(4, 9)))
    await rig.clock.advance(9.9)
    assert rig.answers(3) == {}
    await rig.clock.advance(0.1)
    four, end = rig.clusters[3].heard()
    late = CallFault(code="time-out", text="nothing came of it in time")
    assert four == CallAnswer(number=7, cluster=4, fault=late)
    assert end == CallAsked(number=7, unasked=late.text, missing=late)


async def test_cluster_that_ends_is_not_waited_for(rig: Rig) -> None:
    rig.say(3, msgspec.structs.replace(ALL, clusters=(4,)))
    rig.calls.cluster_gone(4)
    assert rig.answers(3) == {4: "away"}


async def test_calls_of_a_cluster_that_ended_are_told_to_nobody(rig: Rig) -> None:
    rig.say(3, msgspec.structs.replace(ALL, clusters=(4,)))
    rig.calls.cluster_gone(3)
    rig.clusters[3].heard()
    rig.answer(4, rig.clusters[4].call(), b"4")
    assert rig.clusters[3].heard() == []


async def test_cluster_with_too_many_calls_is_refused_and_no_other(rig: Rig) -> None:
    for number in range(32):
        rig.say(3, msgspec.structs.replace(ALL, number=number, clusters=(4,)))
    rig.clusters[3].heard()
    rig.say(3, msgspec.structs.replace(ALL, clusters=(4,)))
    [end] = rig.clusters[3].heard()
    assert isinstance(end, CallAsked)
    assert end.missing == CallFault(
        code="busy", text="32 calls of this asker are under way already"
    )
    rig.say(4, msgspec.structs.replace(ALL, clusters=(3,)))
    assert isinstance(rig.clusters[3].heard()[0], Call)


async def test_cluster_that_does_not_read_is_busy(rig: Rig) -> None:
    rig.clusters[4].deaf = True
    rig.say(3, msgspec.structs.replace(ALL, clusters=(4,)))
    assert rig.answers(3) == {4: "busy"}


async def test_master_gets_the_answers_of_the_clusters_here(rig: Rig) -> None:
    rig.calls.master_connected(rig.master.send_call)
    rig.calls.master_said(Call(number=5, name="stats", clusters=(3, 5, 9), timeout=10.0))
    rig.answer(3, rig.clusters[3].call(), b"3")
    told = rig.master.heard()
    assert all(isinstance(answer, CallAnswer) and answer.number == 5 for answer in told)
    assert [(a.cluster, a.fault and a.fault.text, bytes(a.value)) for a in told] == [  # type: ignore[attr-defined]
        (5, "cluster 5 is not connected to CONTROL", b"null"),
        (9, "alpha does not have it, yet or any more", b"null"),
        (3, None, b"3"),
    ]


async def test_lost_master_ends_what_it_was_asked_and_what_it_asked(rig: Rig) -> None:
    rig.calls.master_connected(rig.master.send_call)
    rig.calls.master_said(Call(number=5, name="stats", clusters=(4,), timeout=10.0))
    theirs = rig.clusters[4].call()
    rig.say(3, ALL)
    rig.calls.master_lost()
    rig.master.heard()
    rig.answer(4, theirs, b"4")
    assert rig.master.heard() == []
    end = [m for m in rig.clusters[3].heard() if isinstance(m, CallAsked)][-1]
    assert (end.unasked, end.more) == ("MASTER went away before it answered", False)


async def test_operator_gets_a_report_of_the_clusters_here(rig: Rig) -> None:
    asking = asyncio.create_task(rig.calls.operator_asks(ALL))
    await settle()
    for cluster, peer in rig.clusters.items():
        rig.answer(cluster, peer.call(), b"%d" % cluster)
    report = await asking
    assert [(e.cluster, e.host, bytes(e.value)) for e in report.entries] == [
        (3, "alpha", b"3"),
        (4, "alpha", b"4"),
        (5, "alpha", b"null"),
    ]
    assert report.unasked == "CONTROL of alpha was asked, and has no word for other hosts"

    asking = asyncio.create_task(
        rig.calls.operator_asks(msgspec.structs.replace(ALL, clusters=(4,)))
    )
    await settle()
    await rig.clock.advance(10.0)
    report = await asking
    assert report.unasked is None
    assert report.entries[0].fault is not None
    assert report.entries[0].fault.code == "time-out"
