# SPDX-License-Identifier: Apache-2.0
"""Calls between clusters, as they pass CONTROL: to the clusters of its host at once, and to those
of others through MASTER, if it is there.

Clusters are hostile input: each speaks for itself only, and can have so many calls under way. So is
MASTER, in that it can have no more of them here than are good for the host.
"""

import logging
from collections.abc import Callable, Collection, Hashable
from typing import Final

from discluster.calling import Deadlines, Gathering, Relay, Send, Upwards, refuse
from discluster.calls import Calls, Receiver, shortened
from discluster.clock import Clock
from discluster.console import CallReport
from discluster.control.clusters import ClusterConnection
from discluster.messages import (
    Call,
    CallAnswer,
    CallAsked,
    CalledMessage,
    CallFault,
    CallMessage,
    CallRequest,
    MasterToControl,
)

log = logging.getLogger(__name__)

_MOST: Final = 512
# MASTER speaks for all other hosts.
_MOST_OF_MASTER: Final = 128
_MOST_OF_A_CLUSTER: Final = 32
_MOST_OF_OPERATORS: Final = 8
_MASTER: Final = "MASTER"
_HERE: Final = "CONTROL"
_OPERATORS: Final = "operators"


class HostCalls:
    """Of one host."""

    def __init__(
        self,
        *,
        host: str,
        clusters: Callable[[], Collection[int]],
        connection: Callable[[int], ClusterConnection | None],
        clock: Clock,
    ) -> None:
        """``clusters``: of the plan in force. ``connection``: of one that is there."""
        self._host = host
        self._clusters = clusters
        self._connection = connection
        self._clock = clock
        self._calls = Calls(most=_MOST)
        self._deadlines = Deadlines(self._calls, clock=clock, why="nothing came of it in time")
        self._to_master: Send | None = None

    async def run(self) -> None:
        """Ends calls that are out of time, until cancelled."""
        await self._deadlines.run()

    # --- clusters ---

    def cluster_said(self, connection: ClusterConnection, message: CallMessage) -> None:
        """An answer counts as this cluster's, whatever it says."""
        way = _way(connection.cluster)
        if isinstance(message, CallAnswer):
            self._calls.answered(
                message.number, way, connection.cluster, message.value, message.fault
            )
            return
        relay = Relay(message.number, connection.send_call)
        if busy := self._calls.busy(way, _MOST_OF_A_CLUSTER):
            refuse(relay, message.clusters, CallFault(code="busy", text=busy))
        else:
            self._ask(way, relay, message)

    def cluster_gone(self, cluster: int) -> None:
        """Its connection is over, or another one took its place."""
        way = _way(cluster)
        self._calls.forget(way)
        self._calls.lost(
            way, f"cluster {cluster} ended, or lost its connection, before it answered"
        )

    def _ask(self, asker: Hashable, receiver: Receiver, request: CallRequest) -> None:
        """The clusters here at once, the others through MASTER."""
        here = self._wanted_here(request)
        others = None
        if request.clusters is not None:
            others = tuple(c for c in dict.fromkeys(request.clusters) if c not in here)
        to_master = self._to_master if others is None or others else None
        namer = _HERE if to_master is None else _MASTER
        number = self._begin(asker, receiver, request, namer)
        timeout = shortened(request.timeout)
        self._pass_on(number, namer, request, here, timeout)
        if to_master is not None:
            asked = CallRequest(
                number=number,
                name=request.name,
                args=request.args,
                clusters=others,
                besides=tuple(here) if others is None else (),
                timeout=timeout,
            )
            if to_master(asked):
                return
            fault = CallFault(code="busy", text="more calls wait for MASTER than there is room for")
        else:
            fault = CallFault(
                code="away", text=f"MASTER is away: only clusters of {self._host} are asked"
            )
        unasked = None if others == () else fault.text
        self._calls.all_asked(number, namer, unasked=unasked, missing=fault)

    def _wanted_here(self, request: CallRequest) -> list[int]:
        here = self._clusters()
        if request.clusters is None:
            return sorted(here)
        return [cluster for cluster in dict.fromkeys(request.clusters) if cluster in here]

    def _begin(
        self, asker: Hashable, receiver: Receiver, request: CallRequest | Call, namer: Hashable
    ) -> int:
        until = self._clock.monotonic() + request.timeout
        number = self._calls.begin(
            asker, receiver, until=until, namer=namer, wanted=request.clusters
        )
        self._deadlines.begun()
        return number

    def _pass_on(
        self,
        number: int,
        namer: Hashable,
        asked: CallRequest | Call,
        clusters: Collection[int],
        timeout: float,
    ) -> None:
        """To clusters of this host."""
        self._calls.asked(number, namer, {self._host: {c: _way(c) for c in clusters}})
        for cluster in clusters:
            connection = self._connection(cluster)
            call = Call(
                number=number,
                name=asked.name,
                args=asked.args,
                clusters=(cluster,),
                timeout=timeout,
            )
            if connection is None:
                fault = CallFault(
                    code="away", text=f"cluster {cluster} is not connected to CONTROL"
                )
            elif not connection.send_call(call):
                fault = CallFault(
                    code="busy", text=f"cluster {cluster} does not read what it is told"
                )
            else:
                continue
            self._calls.answered(number, _way(cluster), cluster, fault=fault)

    # --- MASTER ---

    def master_connected(self, send: Send) -> None:
        """``send``: to it."""
        self._to_master = send

    def master_lost(self) -> None:
        """What it was asked, or asked itself, is over."""
        self._to_master = None
        self._calls.forget(_MASTER)
        self._calls.lost(_MASTER, "MASTER went away before it answered")

    def master_said(self, message: MasterToControl) -> bool:
        """Whether ``message`` is about calls."""
        if not isinstance(message, CalledMessage):
            return False
        if isinstance(message, CallAnswer):
            self._calls.answered(
                message.number, _MASTER, message.cluster, message.value, message.fault
            )
        elif isinstance(message, CallAsked):
            self._master_asked(message)
        elif self._to_master is not None:
            self._answer_master(message, self._to_master)
        return True

    def _master_asked(self, message: CallAsked) -> None:
        hosts = {host: dict.fromkeys(named, _MASTER) for host, named in message.hosts.items()}
        self._calls.asked(message.number, _MASTER, hosts)
        if not message.more:
            missing = message.missing or CallFault(code="away", text="MASTER did not say why")
            self._calls.all_asked(message.number, _MASTER, unasked=message.unasked, missing=missing)

    def _answer_master(self, call: Call, send: Send) -> None:
        upwards = Upwards(call.number, send)
        if busy := self._calls.busy(_MASTER, _MOST_OF_MASTER):
            refuse(upwards, call.clusters, CallFault(code="busy", text=f"{self._host}: {busy}"))
            return
        number = self._begin(_MASTER, upwards, call, _HERE)
        here = self._clusters()
        wanted = [cluster for cluster in dict.fromkeys(call.clusters) if cluster in here]
        self._pass_on(number, _HERE, call, wanted, shortened(call.timeout))
        fault = CallFault(code="away", text=f"{self._host} does not have it, yet or any more")
        self._calls.all_asked(number, _HERE, missing=fault)

    # --- operators of this host ---

    async def operator_asks(self, request: CallRequest) -> CallReport:
        """Clusters of this host only."""
        gathering = Gathering()
        if busy := self._calls.busy(_OPERATORS, _MOST_OF_OPERATORS):
            refuse(gathering, request.clusters, CallFault(code="busy", text=busy))
            return await gathering.report()
        number = self._begin(_OPERATORS, gathering, request, _HERE)
        here = self._wanted_here(request)
        try:
            self._pass_on(number, _HERE, request, here, shortened(request.timeout))
            told = f"CONTROL of {self._host} was asked, and has no word for other hosts"
            fault = CallFault(code="away", text=told)
            all_here = request.clusters is not None and len(here) == len(set(request.clusters))
            unasked = None if all_here else told
            self._calls.all_asked(number, _HERE, unasked=unasked, missing=fault)
            return await gathering.report()
        finally:
            self._calls.abandon(number)


def _way(cluster: int) -> Hashable:
    return ("cluster", cluster)
