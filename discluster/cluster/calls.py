# SPDX-License-Identifier: Apache-2.0
"""A cluster's part of calls: answers those of others out of its handler, and sends the handler's
own to others, all of it through CONTROL.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from inspect import isawaitable
from typing import Any, Final

import msgspec

from discluster.calling import Deadlines, Gathering, Send, send_answer
from discluster.calls import Calls, shortened
from discluster.clock import Clock, at_most
from discluster.cluster.handlers.calls import CallAnswers, CallMethod, ClusterAnswer
from discluster.console import CallEntry, CallReport
from discluster.decoding import DECODE_ERRORS, legible, reason_of
from discluster.errors import CommandError, NotSentError, ProtocolError
from discluster.messages import (
    LONGEST_VALUE,
    Call,
    CallAnswer,
    CallAsked,
    CalledMessage,
    CallFault,
    CallFaultCode,
    CallRequest,
    cluster_to_control,
    decode,
    encode,
)

log = logging.getLogger(__name__)

_MOST: Final = 32
"""Calls that the handler sends, and that it answers, at once."""
# Seconds for calls that are cancelled to end.
_LAST_WORDS: Final = 1.0
# Seconds between two tracebacks of one call.
_TOLD_EVERY: Final = 1.0
_CONTROL: Final = "CONTROL"
_SELF: Final = "handler"


class ClusterCalls:
    """Of one cluster."""

    def __init__(self, *, cluster: int, methods: Mapping[str, CallMethod], clock: Clock) -> None:
        """``methods``: what the handler answers calls with, by name."""
        self._cluster = cluster
        self._methods = methods
        self._clock = clock
        self._send: Send | None = None
        self._calls = Calls(most=_MOST)
        self._deadlines = Deadlines(self._calls, clock=clock, why="nothing came of it in time")
        self._answering: set[asyncio.Task[None]] = set()
        self._complained: dict[str, float] = {}  # of each call, when

    # --- CONTROL ---

    async def run(self) -> None:
        """Ends calls that are out of time, and answers no more when it is cancelled."""
        try:
            await self._deadlines.run()
        finally:
            answering = tuple(self._answering)
            for task in answering:
                task.cancel()
            if answering:
                await asyncio.wait(answering, timeout=_LAST_WORDS)

    def control_connected(self, send: Send) -> None:
        """``send``: to it."""
        self._send = send

    def control_lost(self) -> None:
        """What it was asked is over."""
        self._send = None
        self._calls.lost(_CONTROL, "CONTROL of this host went away before it answered")

    def control_said(self, message: CalledMessage) -> None:
        """Takes a call, or what comes of one."""
        if isinstance(message, Call):
            if self._send is not None:
                self._take(message, self._send)
        elif isinstance(message, CallAsked):
            ways = {h: dict.fromkeys(named, _CONTROL) for h, named in message.hosts.items()}
            self._calls.asked(message.number, _CONTROL, ways)
            if not message.more:
                missing = message.missing or CallFault(code="away", text="nobody said why")
                self._calls.all_asked(
                    message.number, _CONTROL, unasked=message.unasked, missing=missing
                )
        else:
            self._calls.answered(
                message.number, _CONTROL, message.cluster, message.value, message.fault
            )

    # --- calls of others ---

    def _take(self, call: Call, send: Send) -> None:
        if len(self._answering) >= _MOST:
            send_answer(send, self._fault(call, "busy", f"it answers {_MOST} calls already"))
            return
        task = asyncio.create_task(self._work(call, send), name=f"call-{call.name}")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _work(self, call: Call, send: Send) -> None:
        """``send``: to the CONTROL that passed ``call`` on. Its successor counts anew."""
        answers: list[CallAnswer] = []

        async def work() -> None:
            answers.append(await self._answer(call))

        await at_most(call.timeout, work(), clock=self._clock)
        late = f"{call.name} took longer than {call.timeout:.1f} s there"
        send_answer(send, answers[0] if answers else self._fault(call, "time-out", late))

    async def _answer(self, call: Call) -> CallAnswer:
        method = self._methods.get(call.name)
        if method is None:
            known = ", ".join(sorted(self._methods)) or "none"
            told = f"its handler has no call {call.name}; it has: {known}"
            return self._fault(call, "no-such-call", told)
        try:
            found = method(msgspec.json.decode(call.args))
            value = msgspec.Raw(msgspec.json.encode(await found if isawaitable(found) else found))
            if len(value) <= LONGEST_VALUE:
                return CallAnswer(number=call.number, cluster=self._cluster, value=value)
        except Exception as error:
            self._complain(call.name, error)
            return self._fault(call, "raised", f"{type(error).__name__}: {error}")
        told = f"its answer has {len(value)} bytes, of at most {LONGEST_VALUE}"
        return self._fault(call, "too-large", told)

    def _complain(self, name: str, error: Exception) -> None:
        """Whoever calls it again and again must not fill the journal."""
        now = self._clock.monotonic()
        if now - self._complained.get(name, -_TOLD_EVERY) >= _TOLD_EVERY:
            self._complained[name] = now
            log.error("the call %s raised", name, exc_info=error, extra={"CALL": name})

    def _fault(self, call: Call, code: CallFaultCode, told: str) -> CallAnswer:
        fault = CallFault(code=code, text=legible(told))
        return CallAnswer(number=call.number, cluster=self._cluster, fault=fault)

    # --- own calls ---

    async def call(
        self, name: str, args: Any, *, clusters: Collection[int] | None, timeout: float
    ) -> CallAnswers:
        """See ``discluster.cluster.handlers.Commands``."""
        request = _request(name, args, clusters, timeout)
        if self._send is None:
            raise NotSentError("CONTROL of this host is away", hint="it was not sent; try again")
        if busy := self._calls.busy(_SELF, _MOST):
            raise NotSentError(busy, hint="await calls before you make more")
        gathering = Gathering()
        number = self._calls.begin(
            _SELF,
            gathering,
            until=self._clock.monotonic() + timeout,
            namer=_CONTROL,
            wanted=request.clusters,
        )
        self._deadlines.begun()
        asked = msgspec.structs.replace(request, number=number, timeout=shortened(timeout))
        try:
            if not self._send(asked):
                raise NotSentError("CONTROL of this host reads too slowly", hint="try again")
            return _answers(await gathering.report())
        finally:
            self._calls.abandon(number)


def _request(name: str, args: Any, clusters: Collection[int] | None, timeout: float) -> CallRequest:
    """Held to what CONTROL would take."""
    told = f"the call {name!r:.80}"
    try:
        raw = msgspec.Raw(msgspec.json.encode(args))
        wanted = None if clusters is None else tuple(clusters)
        request = CallRequest(number=0, name=name, args=raw, clusters=wanted, timeout=timeout)
        decode(cluster_to_control, encode(request), peer="this cluster")
    except ProtocolError as error:
        raise CommandError(f"{told} cannot be: {error.message}") from None
    except (TypeError, ValueError, RecursionError) as error:
        hint = "its arguments are what JSON can say, and its clusters numbers"
        raise CommandError(f"{told} cannot be: {legible(str(error))}", hint=hint) from None
    return request


def _answers(report: CallReport) -> CallAnswers:
    entries = tuple(_answer_of(entry) for entry in report.entries)
    return CallAnswers(answers=entries, unasked=report.unasked)


def _answer_of(entry: CallEntry) -> ClusterAnswer:
    value, fault = None, entry.fault
    if fault is None:
        try:
            value = msgspec.json.decode(entry.value)
        except DECODE_ERRORS as error:
            fault = CallFault(code="unreadable", text=f"its answer: {reason_of(error)}")
    return ClusterAnswer(cluster=entry.cluster, host=entry.host, value=value, fault=fault)
