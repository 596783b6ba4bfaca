# SPDX-License-Identifier: Apache-2.0
"""The hosts that MASTER knows: their connections, their newest reports, when they were heard."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from discluster.clock import Clock
from discluster.master.status import HostView
from discluster.messages import GoodbyeSeen, Halt, HostReport, Message


class HostConnection:
    """One live connection to a CONTROL. ``close``: ends it with a reason. ``told``: whether the
    host may dial, as it heard last.
    """

    def __init__(self, host: str, close: Callable[[str], None]) -> None:
        self.host = host
        self.close = close
        self.outbox: asyncio.Queue[Message] = asyncio.Queue()
        self.pushed_generation = 0
        self.told: Halt | None = None
        self.said_goodbye = False

    def send(self, message: Message) -> None:
        self.outbox.put_nowait(message)


class _Host:
    def __init__(self) -> None:
        self.connection: HostConnection | None = None
        self.connected_at = 0.0
        self.came_with_plan = False
        self.report: HostReport | None = None
        self.reported_at = 0.0
        self.heard_at: float | None = None
        self.version = ""
        self.unattended = False
        self.refused_plan: str | None = None


class HostBook:
    """By host name; a host that was once known stays."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    def expect(self, names: Iterable[str]) -> None:
        for name in names:
            self._hosts.setdefault(name, _Host())

    def connect(self, connection: HostConnection, version: str, report: HostReport) -> None:
        """The newest authenticated connection of a host replaces an older one."""
        host = self._hosts.setdefault(connection.host, _Host())
        if host.connection is not None:
            host.connection.close("a newer connection of this host replaced this one")
        host.connection, host.version, host.unattended = connection, version, False
        host.refused_plan = None
        host.connected_at = self._clock.monotonic()
        host.came_with_plan = report.plan_generation > 0
        self.reported(connection, report)

    def disconnect(self, connection: HostConnection) -> bool:
        """True if it was the host's current connection."""
        host = self._hosts[connection.host]
        if host.connection is not connection:
            return False
        host.connection = None
        return True

    def heard(self, connection: HostConnection) -> None:
        host = self._hosts[connection.host]
        if host.connection is connection:
            host.heard_at = self._clock.monotonic()

    def reported(self, connection: HostConnection, report: HostReport) -> None:
        host = self._hosts[connection.host]
        if host.connection is connection:
            host.report = report
            host.heard_at = host.reported_at = self._clock.monotonic()

    def goodbye(self, connection: HostConnection) -> None:
        """Its CONTROL stops; :attr:`parting` until it is answered."""
        host = self._hosts[connection.host]
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
        host = self._hosts[connection.host]
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

    def _view(self, host: _Host) -> HostView:
        now = self._clock.monotonic()
        if host.connection is not None:
            state = "connected"
        elif host.heard_at is None:
            state = "expected"
        else:
            gone = "down" if host.report is not None and host.report.leaving else "unattended"
            state = gone if host.unattended else "silent"
        return HostView(
            state=state,  # type: ignore[arg-type]
            seen=None if host.heard_at is None else now - host.heard_at,
            report_age=now - host.reported_at if host.report else 0.0,
            version=host.version,
            report=host.report,
            refused_plan=host.refused_plan,
        )
