# SPDX-License-Identifier: Apache-2.0
"""A cluster's part of calls, with CONTROL played by the test."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from discluster.cluster.calls import ClusterCalls
from discluster.cluster.handlers import CallAnswers
from discluster.errors import CommandError, NotSentError
from discluster.messages import (
    LONGEST_VALUE,
    Call,
    CallAnswer,
    CallAsked,
    CallFault,
    CallRequest,
    Message,
)
from tests.clock import ManualClock, settle

AWAY = CallFault(code="away", text="it is not there")


class Stats(msgspec.Struct):
    guilds: int


async def hang(_: Any) -> None:
    await asyncio.Event().wait()


async def later(args: Any) -> Stats:
    await asyncio.sleep(0)
    return Stats(guilds=args["guilds"])


def fail(_: Any) -> None:
    raise LookupError("no such\nguild" + "x" * 5000)


def deep(_: Any) -> Any:
    value: list[Any] = []
    for _ in range(800):
        value = [value]
    return value


METHODS = {
    "echo": lambda args: args,
    "later": later,
    "hang": hang,
    "fail": fail,
    "huge": lambda _: "x" * LONGEST_VALUE,
    "deep": deep,
    "object": lambda _: object(),
}


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sent: list[Message] = []
        self.calls = ClusterCalls(cluster=3, methods=METHODS, clock=self.clock)
        self.calls.control_connected(self._take)

    def _take(self, message: Message) -> bool:
        self.sent.append(message)
        return True

    async def answer_to(self, name: str, args: object = None, *, wait: float = 0.0) -> CallAnswer:
        raw = msgspec.Raw(msgspec.json.encode(args))
        self.calls.control_said(Call(number=7, name=name, args=raw, clusters=(3,), timeout=5.0))
        await self.clock.advance(wait)
        answer = self.sent.pop()
        assert isinstance(answer, CallAnswer)
        assert (answer.number, answer.cluster) == (7, 3)
        return answer

    async def asking(self, **more: Any) -> tuple[asyncio.Task[CallAnswers], CallRequest]:
        how = {"clusters": None, "timeout": 10.0} | more
        task = asyncio.create_task(self.calls.call("stats", {"a": 1}, **how))
        await settle()
        request = self.sent.pop()
        assert isinstance(request, CallRequest)
        return task, request


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    running = asyncio.create_task(made.calls.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_handler_answers_at_once_or_later(rig: Rig) -> None:
    assert bytes((await rig.answer_to("echo", {"a": [1, None]})).value) == b'{"a":[1,null]}'
    assert bytes((await rig.answer_to("later", {"guilds": 9})).value) == b'{"guilds":9}'


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("nonsense", "no-such-call", "its handler has no call nonsense; it has: deep, echo, fail"),
        ("fail", "raised", "LookupError: no such?guild"),
        ("object", "raised", "TypeError: Encoding objects of type object is unsupported"),
        ("deep", "raised", "value: nested too deeply"),
        ("huge", "too-large", "its answer has 131074 bytes, of at most 131072"),
    ],
)
async def test_call_that_ends_badly_says_why_in_a_few_words(
    rig: Rig, name: str, code: str, told: str
) -> None:
    fault = (await rig.answer_to(name)).fault
    assert fault is not None
    assert fault.code == code
    assert told in fault.text
    assert len(fault.text) <= 301


async def test_call_that_raises_again_and_again_does_not_fill_the_journal(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        await rig.answer_to("fail")
    assert caplog.text.count("the call fail raised") == caplog.text.count("Traceback") == 1
    await rig.clock.advance(1.0)
    await rig.answer_to("fail")
    assert caplog.text.count("the call fail raised") == 2


async def test_call_that_hangs_is_cancelled_and_told_in_time(rig: Rig) -> None:
    fault = (await rig.answer_to("hang", wait=5.0)).fault
    assert fault == CallFault(code="time-out", text="hang took longer than 5.0 s there")


async def test_too_many_calls_at_once_are_refused(rig: Rig) -> None:
    for _ in range(32):
        rig.calls.control_said(Call(number=1, name="hang", clusters=(3,), timeout=5.0))
    fault = (await rig.answer_to("echo")).fault
    assert fault == CallFault(code="busy", text="it answers 32 calls already")
    await rig.clock.advance(5.0)
    assert (await rig.answer_to("echo")).fault is None


async def test_caller_gets_one_answer_of_each_cluster(rig: Rig) -> None:
    task, request = await rig.asking(timeout=10.0)
    assert (request.name, bytes(request.args), request.clusters) == ("stats", b'{"a":1}', None)
    assert request.timeout == 9.75
    number = request.number
    for message in (
        CallAsked(number=number, hosts={"alpha": (3, 4)}, more=True),
        CallAnswer(number=number, cluster=4, value=msgspec.Raw(b"[4]")),
        CallAsked(number=number, hosts={"beta": (5,)}, unasked="because"),
        CallAnswer(number=number, cluster=3, fault=AWAY),
        CallAnswer(number=number, cluster=5, value=msgspec.Raw(b"null")),
    ):
        assert not task.done()
        rig.calls.control_said(message)
    found = await task
    assert [(a.cluster, a.host, a.value) for a in found.answers] == [
        (3, "alpha", None),
        (4, "alpha", [4]),
        (5, "beta", None),
    ]
    assert (found.values, found.faults) == ({4: [4], 5: None}, {3: AWAY})
    assert found.unasked == "because"


async def test_call_ends_in_time_though_control_says_nothing(rig: Rig) -> None:
    task, _ = await rig.asking(clusters={4, 9}, timeout=2.0)
    await rig.clock.advance(2.0)
    found = await task
    assert {n: fault.code for n, fault in found.faults.items()} == {4: "time-out", 9: "time-out"}


async def test_call_ends_when_control_goes_away(rig: Rig) -> None:
    task, request = await rig.asking(clusters=[4])
    rig.calls.control_said(CallAsked(number=request.number, hosts={"beta": (4,)}))
    rig.calls.control_lost()
    assert (await task).faults[4].code == "away"
    with pytest.raises(NotSentError, match="CONTROL of this host is away"):
        await rig.calls.call("stats", None, clusters=None, timeout=1.0)


@pytest.mark.parametrize(
    ("name", "args", "more", "told"),
    [
        ("no name", None, {}, "matching regex"),
        ("a", object(), {}, "object is unsupported"),
        ("a", "x" * 40_000, {}, "40002 bytes, of at most 32768"),
        ("a", None, {"timeout": 61.0}, "<= 60"),
        ("a", None, {"timeout": float("nan")}, "timeout"),
        ("a", None, {"clusters": ["x"]}, "Expected `int`"),
        ("a", None, {"clusters": [-1]}, ">= 0"),
    ],
)
async def test_what_cannot_be_called_is_refused_in_words(
    rig: Rig, name: str, args: object, more: dict[str, Any], told: str
) -> None:
    with pytest.raises(CommandError, match=told):
        await rig.calls.call(name, args, **{"clusters": None, "timeout": 1.0} | more)
    assert rig.sent == []


async def test_too_many_calls_of_a_handler_are_not_sent(rig: Rig) -> None:
    tasks = [(await rig.asking())[0] for _ in range(32)]
    with pytest.raises(NotSentError, match="32 calls are under way already"):
        await rig.calls.call("stats", None, clusters=None, timeout=1.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await rig.asking()


async def test_answer_to_a_control_that_is_gone_does_not_go_to_the_next(rig: Rig) -> None:
    """Which counts its calls from 1 on as well."""
    later: list[Message] = []

    def take(message: Message) -> bool:
        later.append(message)
        return True

    rig.calls.control_said(Call(number=1, name="hang", clusters=(3,), timeout=5.0))
    await settle()
    rig.calls.control_lost()
    rig.calls.control_connected(take)
    await rig.clock.advance(5.0)
    assert later == []
    rig.calls.control_said(Call(number=1, name="echo", clusters=(3,), timeout=5.0))
    await settle()
    assert len(later) == 1
