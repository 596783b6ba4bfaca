# SPDX-License-Identifier: Apache-2.0
"""What a place does with its calls: passes on what comes of them, gathers it, keeps their time."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from discluster.calls import Calls, Receiver
from discluster.clock import Clock, at_most
from discluster.console import CallEntry, CallReport
from discluster.messages import NOTHING, CallAnswer, CallAsked, CallFault, Message

Send = Callable[[Message], bool]
"""Queues a message behind all that cannot wait. Whether there was room for it."""

_FULL: Final = CallFault(
    code="busy", text="more answers wait on the way back than there is room for"
)


def send_answer(send: Send, answer: CallAnswer) -> None:
    """Or, if there is no room for it, says so."""
    if not send(answer):
        send(CallAnswer(number=answer.number, cluster=answer.cluster, fault=_FULL))


class Upwards:
    """Passes answers on to who asked for named clusters, and knows whom it asked."""

    def __init__(self, number: int, send: Send) -> None:
        """``number``: the asker's, of the call."""
        self._number = number
        self._send = send

    def asked(self, hosts: Mapping[str, tuple[int, ...]]) -> None:
        pass

    def all_asked(self, unasked: str | None, missing: CallFault) -> None:
        pass

    def answered(self, cluster: int, value: msgspec.Raw, fault: CallFault | None) -> None:
        answer = CallAnswer(number=self._number, cluster=cluster, value=value, fault=fault)
        send_answer(self._send, answer)

    def over(self) -> None:
        pass


class Relay(Upwards):
    """Passes on all that comes of a call. Who asked knows itself whom it wanted and is missing."""

    def __init__(self, number: int, send: Send) -> None:
        super().__init__(number, send)
        self._named: set[int] = set()
        self._full = False

    def asked(self, hosts: Mapping[str, tuple[int, ...]]) -> None:
        if self._send(CallAsked(number=self._number, hosts=dict(hosts), more=True)):
            self._named.update(*hosts.values())
        else:
            self._full = True

    def all_asked(self, unasked: str | None, missing: CallFault) -> None:
        if self._full:
            unasked, missing = _FULL.text, _FULL
        self._send(CallAsked(number=self._number, unasked=unasked, missing=missing))

    def answered(self, cluster: int, value: msgspec.Raw, fault: CallFault | None) -> None:
        if cluster in self._named:
            super().answered(cluster, value, fault)


class Gathering:
    """Keeps what comes of a call until it is over."""

    def __init__(self) -> None:
        self._hosts: dict[int, str] = {}
        self._entries: dict[int, CallEntry] = {}
        self._unasked: str | None = None
        self._report: asyncio.Future[CallReport] = asyncio.get_running_loop().create_future()

    def asked(self, hosts: Mapping[str, tuple[int, ...]]) -> None:
        for host, clusters in hosts.items():
            self._hosts.update(dict.fromkeys(clusters, host))

    def all_asked(self, unasked: str | None, missing: CallFault) -> None:
        self._unasked = unasked

    def answered(self, cluster: int, value: msgspec.Raw, fault: CallFault | None) -> None:
        host = self._hosts.get(cluster)
        self._entries[cluster] = CallEntry(cluster=cluster, host=host, value=value, fault=fault)

    def over(self) -> None:
        if not self._report.done():
            entries = tuple(entry for _, entry in sorted(self._entries.items()))
            self._report.set_result(CallReport(entries=entries, unasked=self._unasked))

    async def report(self) -> CallReport:
        """Waits until the call is over."""
        return await self._report


class Deadlines:
    """Ends calls that are out of time."""

    def __init__(self, calls: Calls, *, clock: Clock, why: str) -> None:
        """``why``: what their entries say, in words."""
        self._calls = calls
        self._clock = clock
        self._why = why
        self._begun = asyncio.Event()

    def begun(self) -> None:
        """There is a new call."""
        self._begun.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._begun.clear()
            self._calls.expire(self._clock.monotonic(), self._why)
            soonest = self._calls.next_deadline
            if soonest is None:
                await self._begun.wait()
            else:
                left = soonest - self._clock.monotonic()
                await at_most(left, self._begun.wait(), clock=self._clock)


def refuse(receiver: Receiver, wanted: Iterable[int] | None, fault: CallFault) -> None:
    """Tells who asked that nobody is: each of the clusters that were ``wanted`` is missing."""
    receiver.all_asked(fault.text, fault)
    for cluster in dict.fromkeys(wanted or ()):
        receiver.answered(cluster, NOTHING, fault)
    receiver.over()
