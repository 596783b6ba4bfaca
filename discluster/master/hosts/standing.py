# SPDX-License-Identifier: Apache-2.0
"""Whether the fleet may dial Discord: what the hosts hear of it, and which of them tries first."""

from collections.abc import Callable, Sequence

from discluster.clearance import Clearing
from discluster.clock import Clock
from discluster.master.hosts.book import HostConnection
from discluster.master.records.events import EventLog
from discluster.messages import Clearance, ClearanceCase, Halt, Message

_Canary = tuple[str, int]  # host and shard


class FleetStanding:
    """Tells every host of a rejection, and lets one of them try for all after a 4003."""

    def __init__(
        self,
        *,
        clock: Clock,
        events: EventLog,
        connections: Callable[[], Sequence[HostConnection]],
    ) -> None:
        self._clock = clock
        self._events = events
        self._halted: str | None = None
        self._connections = connections
        self._clearing = Clearing[_Canary](clear=self._clear, release=self._release)
        self._asked: dict[str, set[int]] = {}

    def said(self, host: str, message: ClearanceCase) -> None:
        """How it stands with a host's canary."""
        who = (host, message.shard)
        if message.state == "asks":
            self._asked.setdefault(host, set()).add(message.shard)
            self._clearing.ask(who)
        elif message.state == "accepted":
            self._clearing.accepted(who)
        else:
            self._clearing.failed(who, self._clock.monotonic())

    def host_gone(self, host: str) -> None:
        """It decides for itself now, and asks anew when it is back."""
        for shard in self._asked.pop(host, ()):
            self._clearing.leave((host, shard))

    def tell(self, reason: str | None, *, all_known: bool) -> float | None:
        """``reason``: why nobody may dial. ``all_known``: every host that may have one has reported
        it, so none means that there is none. Seconds until the next call is useful.
        """
        self._note(reason)
        halt = Halt(reason=reason)
        for connection in self._connections():
            if connection.told != halt and (all_known or reason is not None):
                connection.told = halt
                connection.send(halt)
        return self._clearing.step(self._clock.monotonic()) if reason is None else None

    def _note(self, reason: str | None) -> None:
        if reason == self._halted:
            return
        self._halted = reason
        if reason is not None:
            self._events.record("discord", f"nobody may dial: {reason}", severity="error")
        else:
            self._events.record("discord", "hosts may dial again: nobody is rejected any more")

    def _clear(self, who: _Canary) -> None:
        host, shard = who
        told = f"shard {shard} on {host} tries for all whether Discord takes the token"
        self._events.record("discord", told, host=host, shard=shard)
        self._send(host, Clearance(shard=shard))

    def _release(self, waiting: Sequence[_Canary]) -> None:
        self._events.record("discord", "Discord takes the token: all hosts may dial")
        for host in {host for host, _ in waiting}:
            self._send(host, Clearance(shard=None))

    def _send(self, host: str, message: Message) -> None:
        for connection in self._connections():
            if connection.host == host:
                connection.send(message)
