# SPDX-License-Identifier: Apache-2.0
"""Calls between clusters, as they pass MASTER: from a host or an operator to all hosts that have
clusters which are asked, and back.

Hosts are hostile input: each answers only for what it was asked, and can have so many calls under
way; what it costs to pass one on counts as its own time (:mod:`discluster.pace`).
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from discluster.calling import Deadlines, Gathering, Relay, refuse
from discluster.calls import Calls, Receiver, shortened
from discluster.clock import Clock
from discluster.console import CallReport
from discluster.master.hosts.book import HostConnection
from discluster.messages import Call, CallAnswer, CallFault, CallMessage, CallRequest
from discluster.plan import FleetPlan

_MOST: Final = 256
_MOST_OF_A_HOST: Final = 64
_MOST_OF_OPERATORS: Final = 16
_HERE: Final = "MASTER"
_OPERATORS: Final = "operators"
# Seconds to write a call to one host, with TLS; and for each byte.
_COST: Final = 100e-6
_COST_OF_BYTE: Final = 5e-9
_MISSING: Final = CallFault(code="no-such-cluster", text="the fleet's plan has no such cluster")


class Fleet(Protocol):
    """What is needed of MASTER's loop."""

    @property
    def fleet(self) -> FleetPlan | None: ...


class FleetCalls:
    """Of the fleet."""

    def __init__(self, master: Fleet, *, clock: Clock) -> None:
        self._master = master
        self._clock = clock
        self._calls = Calls(most=_MOST)
        self._deadlines = Deadlines(self._calls, clock=clock, why="its host did not answer in time")
        self._connections: dict[str, HostConnection] = {}
        self._places: Mapping[str, tuple[int, ...]] = {}
        self._places_of: FleetPlan | None = None

    async def run(self) -> None:
        """Ends calls that are out of time, until cancelled."""
        await self._deadlines.run()

    # --- hosts (see hosts.link) ---

    def connected(self, connection: HostConnection) -> None:
        """From now on the one of its host."""
        self._connections[connection.host] = connection

    def gone(self, connection: HostConnection) -> None:
        """Whatever it was asked, or asked itself, is over."""
        if self._connections.get(connection.host) is connection:
            del self._connections[connection.host]
        self._calls.forget(connection)
        self._calls.lost(connection, f"{connection.host} went away before it answered")

    def said(self, connection: HostConnection, message: CallMessage) -> float:
        """Returns the seconds that it costs to pass ``message`` on."""
        if isinstance(message, CallAnswer):
            self._calls.answered(
                message.number, connection, message.cluster, message.value, message.fault
            )
            return 0.0
        relay = Relay(message.number, connection.send_call)
        if busy := self._calls.busy(connection, _MOST_OF_A_HOST):
            refuse(relay, message.clusters, CallFault(code="busy", text=f"at MASTER {busy}"))
            return 0.0
        _, cost = self._ask(connection, relay, message)
        return cost

    # --- operators ---

    async def operator_asks(self, request: CallRequest) -> CallReport:
        """Returns when each cluster has answered, or is not waited for any longer."""
        gathering = Gathering()
        if busy := self._calls.busy(_OPERATORS, _MOST_OF_OPERATORS):
            refuse(gathering, request.clusters, CallFault(code="busy", text=busy))
            return await gathering.report()
        number, _ = self._ask(_OPERATORS, gathering, request)
        try:
            return await gathering.report()
        finally:
            self._calls.abandon(number)

    # --- both ---

    def _ask(
        self, asker: HostConnection | str, receiver: Receiver, request: CallRequest
    ) -> tuple[int, float]:
        """The call's number, and the seconds that it costs."""
        until = self._clock.monotonic() + request.timeout
        number = self._calls.begin(
            asker, receiver, until=until, namer=_HERE, wanted=request.clusters
        )
        self._deadlines.begun()
        asked = self._chosen(request)
        ways = {
            host: dict.fromkeys(clusters, self._connections.get(host, host))
            for host, clusters in asked.items()
        }
        self._calls.asked(number, _HERE, ways)
        for host, clusters in asked.items():
            self._pass_on(number, host, clusters, request)
        self._calls.all_asked(number, _HERE, missing=_MISSING)
        return number, len(asked) * (_COST + _COST_OF_BYTE * len(request.args))

    def _pass_on(
        self, number: int, host: str, clusters: tuple[int, ...], request: CallRequest
    ) -> None:
        connection = self._connections.get(host)
        call = Call(
            number=number,
            name=request.name,
            args=request.args,
            clusters=clusters,
            timeout=shortened(request.timeout),
        )
        if connection is None:
            fault = CallFault(code="away", text=f"{host} is not connected to MASTER")
        elif not connection.send_call(call):
            fault = CallFault(code="busy", text=f"more waits for {host} than there is room for")
        else:
            return
        for cluster in clusters:
            self._calls.answered(number, connection or host, cluster, fault=fault)

    def _chosen(self, request: CallRequest) -> dict[str, tuple[int, ...]]:
        """By host, the clusters that ``request`` is for."""
        if request.clusters is None:
            besides = frozenset(request.besides)
            return _among(self._hosts(), lambda cluster: cluster not in besides)
        return _among(self._hosts(), frozenset(request.clusters).__contains__)

    def _hosts(self) -> Mapping[str, tuple[int, ...]]:
        """Every cluster that the plan in force names."""
        fleet = self._master.fleet
        if fleet is not self._places_of:
            self._places, self._places_of = places(fleet) if fleet is not None else {}, fleet
        return self._places


def places(fleet: FleetPlan) -> dict[str, tuple[int, ...]]:
    """By host, the clusters that shall run there, and those that still may."""
    found = {host: set(entry.clusters) for host, entry in fleet.hosts.items()}
    known = set[int]().union(*found.values())
    for grant in fleet.granted.values():
        if grant.cluster is not None and grant.cluster not in known:
            found.setdefault(grant.host, set()).add(grant.cluster)
    return {host: tuple(sorted(clusters)) for host, clusters in found.items() if clusters}


def _among(
    hosts: Mapping[str, tuple[int, ...]], chosen: Callable[[int], bool]
) -> dict[str, tuple[int, ...]]:
    found = {host: tuple(filter(chosen, clusters)) for host, clusters in hosts.items()}
    return {host: clusters for host, clusters in found.items() if clusters}
