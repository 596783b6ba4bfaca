# SPDX-License-Identifier: Apache-2.0
"""The hosts that MASTER knows: their connections, their newest reports, when they were heard."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from discluster.clock import Clock
from discluster.master.hosts.lost import HostSight
from discluster.master.hosts.news import NOTHING, gist
from discluster.master.hosts.outbox import Outbox, longest_message
from discluster.master.hosts.steadiness import Steadiness
from discluster.master.hosts.witnesses import witness_address
from discluster.master.status import HostView
from discluster.messages import GoodbyeSeen, Halt, HostReport, Message, ShardState
from discluster.plan import FleetPlan, HostPlan

# By the state of a host that is not connected any more.
PARTINGS: Final = {
    "unattended": "said goodbye; its clusters run on",
    "down": "said goodbye; it goes down",
    "silent": "is out of touch",
}


class HostConnection:
    """One live connection to a CONTROL. ``close``: ends it with a reason. ``address``: the one that
    it comes from. ``told``: whether the host may dial, as it heard last.
    """

    def __init__(
        self,
        host: str,
        close: Callable[[str], None],
        *,
        address: str | None = None,
        room: int = longest_message(None),
    ) -> None:
        """``room``: bytes that may wait for a host that does not read."""
        self.host = host
        self.close = close
        self.address = address
        self.steadiness = Steadiness()
        self.outbox = Outbox()
        self._room = room
        self.pushed: HostPlan | None = None
        self.pushed_generation = 0
        self.told: Halt | None = None
        self.said_goodbye = False

    def send(self, message: Message) -> None:
        if self.outbox.size > self._room:
            self.close("it does not read what it is told")
        else:
            self.outbox.put_nowait(message)

    def send_call(self, message: Message) -> bool:
        """Queues what belongs to a call behind all else. Whether there was room for it."""
        if not self.outbox.admits(message):
            return False
        self.outbox.put_nowait(message)
        return True


class _Host:
    def __init__(self) -> None:
        self.connection: HostConnection | None = None
        self.connected_at = 0.0
        self.came_with_plan = False
        self.report: HostReport | None = None
        self.gist = NOTHING
        self.reported_at = 0.0
        self.heard_at: float | None = None
        self.address: str | None = None
        self.version = ""
        self.unattended = False
        self.refused_plan: str | None = None


class HostBook:
    """By host name; a host that was once known stays. ``news``: grows whenever somebody comes or
    goes, or reports something that decisions rest on.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._hosts: dict[str, _Host] = {}
        self.news = 0

    def expect(self, configured: Iterable[str], fleet: FleetPlan | None = None) -> None:
        """What MASTER knows of before it has heard anybody. Some may have said goodbye to its
        predecessor.
        """
        for name in {*configured, *(fleet.hosts if fleet is not None else ())}:
            self._hosts.setdefault(name, _Host())
        for name, away in (fleet.away if fleet is not None else {}).items():
            if away.state == "unattended":
                self._hosts.setdefault(name, _Host()).unattended = True

    def connect(self, connection: HostConnection, version: str, report: HostReport) -> None:
        """The newest authenticated connection of a host replaces an older one."""
        host = self._hosts.setdefault(connection.host, _Host())
        if host.connection is not None:
            host.connection.close("a newer connection of this host replaced this one")
        host.connection, host.version, host.unattended = connection, version, False
        host.refused_plan = None
        host.connected_at = self._clock.monotonic()
        host.came_with_plan = report.plan_generation > 0
        host.address = connection.address
        self.news += 1
        self.reported(connection, report)

    def disconnect(self, connection: HostConnection) -> bool:
        """True if it was the host's current connection."""
        host = self._host_of(connection)
        if host.connection is not connection:
            return False
        host.connection = None
        self.news += 1
        return True

    def _host_of(self, connection: HostConnection) -> _Host:
        # A connection that was replaced may end only after its host was removed.
        return self._hosts.get(connection.host) or _Host()

    def forget(self, name: str, reason: str) -> None:
        """It was removed from the fleet: its connection is ended, and once that is over there is
        nothing to know of it.
        """
        host = self._hosts.get(name)
        if host is not None and host.connection is not None:
            host.connection.close(reason)
        elif host is not None:
            del self._hosts[name]
            self.news += 1

    def heard(self, connection: HostConnection) -> None:
        host = self._host_of(connection)
        if host.connection is connection:
            host.heard_at = self._clock.monotonic()

    def reported(self, connection: HostConnection, report: HostReport) -> bool:
        """Whether it says anything new that decisions rest on."""
        host = self._host_of(connection)
        if host.connection is not connection:
            return False
        before, host.gist = host.gist, gist(report)
        host.report = report
        host.heard_at = host.reported_at = self._clock.monotonic()
        new = host.gist.footing != before.footing
        self.news += new
        return new

    @property
    def rejection(self) -> str | None:
        """Why nobody may dial, by what the hosts report."""
        rejected = ((name, host.gist.rejected) for name, host in self._hosts.items())
        said = min(((name, text) for name, text in rejected if text is not None), default=None)
        return f"on {said[0]}, {said[1]}" if said is not None else None

    def tally(self) -> tuple[Counter[ShardState], int]:
        """How many shards are in each state where hosts are there, and how many others there are,
        all by the last reports.
        """
        states: Counter[ShardState] = Counter()
        away = 0
        for host in self._hosts.values():
            if host.connection is not None or (host.unattended and not _left(host)):
                states.update(host.gist.states)
            elif not _left(host):
                away += host.gist.states.total()
        return states, away

    def stood_still(self, seconds: float, *, asleep: bool) -> None:
        """MASTER could hear nobody for so long: that is held against nobody. ``asleep``: its clock
        stood still as well, so nobody knows any more how steadily hosts were heard.
        """
        now = self._clock.monotonic()
        self._began = min(now, self._began + seconds)
        for host in self._hosts.values():
            if host.heard_at is not None:
                host.heard_at = min(now, host.heard_at + seconds)
            if asleep and host.connection is not None:
                host.connection.steadiness.begin_anew()

    def sights(self, *, lease: float) -> dict[str, HostSight]:
        """What :mod:`discluster.master.hosts.lost` goes by. ``lease``: seconds."""
        now = self._clock.monotonic()
        return {name: self._sight(host, now, lease) for name, host in self._hosts.items()}

    def _sight(self, host: _Host, now: float, lease: float) -> HostSight:
        connection, report = host.connection, host.report
        return HostSight(
            connected=connection is not None,
            quiet=now - (self._began if host.heard_at is None else host.heard_at),
            steady=connection.steadiness.lasts(now, lease=lease) if connection else 0.0,
            generation=report.plan_generation if report else 0,
            panel=tuple(sorted(report.panel)) if report else (),
        )

    def witness_addresses(self) -> dict[str, str]:
        """Where each host can be asked for MASTER, of those that told: ADDRESS:PORT."""
        return {
            name: address
            for name, host in self._hosts.items()
            if host.report is not None
            and (address := witness_address(host.report.witness, host.address)) is not None
        }

    def goodbye(self, connection: HostConnection) -> None:
        """Its CONTROL stops; :attr:`parting` until it is answered."""
        host = self._host_of(connection)
        if host.connection is connection:
            host.unattended = connection.said_goodbye = True

    def answer_goodbye(self, connection: HostConnection) -> None:
        connection.said_goodbye = False
        connection.send(GoodbyeSeen())

    @property
    def parting(self) -> tuple[HostConnection, ...]:
        """Connections that said goodbye and have no answer yet."""
        return tuple(connection for connection in self.connections if connection.said_goodbye)

    def refused_plan(self, connection: HostConnection, errors: str | None) -> None:
        host = self._host_of(connection)
        if host.connection is connection:
            host.refused_plan = errors

    @property
    def connections(self) -> tuple[HostConnection, ...]:
        return tuple(h.connection for h in self._hosts.values() if h.connection is not None)

    @property
    def connected(self) -> frozenset[str]:
        return frozenset(connection.host for connection in self.connections)

    @property
    def leaving(self) -> frozenset[str]:
        """Hosts whose clusters are being stopped, for as long as they are connected: what one still
        has when it is gone stays its own.
        """
        return frozenset(
            name
            for name, host in self._hosts.items()
            if host.connection is not None and host.report is not None and host.report.leaving
        )

    @property
    def unattended(self) -> frozenset[str]:
        return frozenset(name for name, host in self._hosts.items() if host.unattended)

    def paced_by_us(self, interval: float) -> frozenset[str]:
        """Hosts that do not pace their identifies themselves, and did not ``interval`` seconds ago.

        One that is away may do so, and an unattended one as soon as its CONTROL starts. One that
        came without a plan never had a slot.
        """
        now = self._clock.monotonic()
        return frozenset(
            name
            for name, host in self._hosts.items()
            if host.connection is not None
            and (now - host.connected_at >= interval or not host.came_with_plan)
        )

    def report(self, name: str) -> HostReport | None:
        """The newest of one host, if it is known and told."""
        host = self._hosts.get(name)
        return host.report if host is not None else None

    def reports(self) -> Mapping[str, HostReport]:
        """The newest report of every host that ever reported to this MASTER."""
        return {name: host.report for name, host in self._hosts.items() if host.report is not None}

    def silent_connections(self, lease: float) -> tuple[HostConnection, ...]:
        """Connections over which nothing came for ``lease`` seconds."""
        now = self._clock.monotonic()
        return tuple(
            host.connection
            for host in self._hosts.values()
            if host.connection and host.heard_at is not None and now - host.heard_at > lease
        )

    def views(self) -> Mapping[str, HostView]:
        return {name: self._view(host) for name, host in self._hosts.items()}

    def state(self, host: str) -> str:
        """As :class:`HostView` has it."""
        return self._view(self._hosts[host]).state

    def _view(self, host: _Host) -> HostView:
        now = self._clock.monotonic()
        if host.connection is not None:
            state = "connected"
        elif host.heard_at is None and not host.unattended:
            state = "expected"
        else:
            gone = "down" if _left(host) else "unattended"
            state = gone if host.unattended else "silent"
        return HostView(
            state=state,  # type: ignore[arg-type]
            seen=None if host.heard_at is None else now - host.heard_at,
            report_age=now - host.reported_at if host.report else 0.0,
            version=host.version,
            report=host.report,
            refused_plan=host.refused_plan,
        )


def _left(host: _Host) -> bool:
    """It said that its clusters are being stopped."""
    return host.report is not None and host.report.leaving
