# SPDX-License-Identifier: Apache-2.0
"""Calls over real connections with TLS: what they may not do to all else that goes over these."""

import asyncio
from pathlib import Path

import msgspec

from discluster.console import CallReport
from discluster.messages import (
    LONGEST_VALUE,
    Call,
    CallAnswer,
    CallAsked,
    CallRequest,
    Ping,
    PlanPush,
    Pong,
    Rejected,
)
from discluster.plan import host_plan_from_yaml
from tests.unit.master.front import front
from tests.unit.master.test_link_and_api import Fleet, Machine, fleet
from tests.waiting import wait_for

__all__ = ["fleet"]

PATIENCE = 20.0
CALLS = 60
LARGE = msgspec.Raw(b'"%s"' % (b"x" * (LONGEST_VALUE - 2)))


async def cluster_of(machine: Machine) -> int:
    push: PlanPush = await machine.hear_until(PlanPush)
    return min(host_plan_from_yaml(push.text, file="p").clusters)


async def test_pong_overtakes_the_answers_that_wait_for_a_host_that_reads_slowly(
    fleet: Fleet,
) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    far = await cluster_of(beta)
    answers = asyncio.create_task(answer_all(beta, far))
    for number in range(CALLS):
        await alpha.say(CallRequest(number=number, name="a", clusters=(far,), timeout=60.0))
    await answers
    waiting = fleet.calls._connections["alpha"].outbox
    await wait_for(lambda: waiting.qsize() > CALLS // 3, PATIENCE)
    still = waiting.qsize()

    await alpha.say(Ping(number=77))
    told: list[CallAnswer] = []
    before = CALLS
    while len(told) < CALLS:
        message = await alpha.hear()
        assert message is not None
        if isinstance(message, CallAnswer):
            told.append(message)
        elif isinstance(message, Pong):
            before = len(told)
    # Those that were on their way, and what the test reads before MASTER has read the ping.
    assert before <= CALLS - still + 5
    assert [message.number for message in told] == list(range(CALLS))
    assert all(message.value == LARGE for message in told)


async def answer_all(beta: Machine, cluster: int) -> None:
    for _ in range(CALLS):
        call: Call = await beta.hear_until(Call)
        await beta.say(CallAnswer(number=call.number, cluster=cluster, value=LARGE))


async def test_call_comes_back_to_the_host_that_made_it(fleet: Fleet) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    far = await cluster_of(beta)
    await alpha.say(CallRequest(number=5, name="a", clusters=(far, 777), timeout=9.0))
    asked: CallAsked = await alpha.hear_until(CallAsked)
    assert (asked.hosts, asked.more) == ({"beta": (far,)}, True)
    end: CallAsked = await alpha.hear_until(CallAsked)
    assert end.missing is not None
    assert end.missing.code == "no-such-cluster"
    call: Call = await beta.hear_until(Call)
    assert (call.name, call.clusters, call.timeout) == ("a", (far,), 8.75)
    await beta.socket.close()
    answer: CallAnswer = await alpha.hear_until(CallAnswer)
    assert answer.fault is not None
    assert (answer.cluster, answer.fault.text) == (far, "beta went away before it answered")


async def test_answer_that_is_too_long_ends_the_connection_of_its_host_only(fleet: Fleet) -> None:
    alpha, beta = await fleet.join("alpha"), await fleet.join("beta")
    value = b'"%s"' % (b"x" * LONGEST_VALUE)
    await beta.say(b'{"type":"call_answer","number":1,"cluster":1,"value":%s}' % value)
    told: Rejected = await beta.hear_until(Rejected)
    assert "131074 bytes, of at most 131072" in told.reason
    assert isinstance(await alpha.hear_until(Ping), Ping)


async def test_operators_call_is_on_record_without_its_secrets(tmp_path: Path) -> None:
    args = msgspec.Raw(b'{"guild":7,"token":"MTA"}')
    request = CallRequest(number=0, name="stats", args=args, clusters=(3,), timeout=5.0)
    async with front(tmp_path) as master:
        answer = await master.remotely(
            "POST", "/calls", request, token=master.token("alice", "operate")
        )
        report: CallReport = answer.read(CallReport)
        [entry] = report.entries
        assert entry.fault is not None
        assert (entry.cluster, entry.fault.code) == (3, "no-such-cluster")
        [kept] = master.audited()
        assert (kept.who, kept.path, kept.outcome) == ("alice", "/v1/operator/calls", "done")
        assert (kept.body["name"], kept.body["args"]) == ("stats", {"guild": 7, "token": "***"})
        refused = await master.remotely(
            "POST", "/calls", b"{", token=master.token("bob", "operate")
        )
        assert (refused.status, refused.code) == (400, "bad-request")
