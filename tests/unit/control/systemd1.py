# SPDX-License-Identifier: Apache-2.0
"""A stand-in for systemd on a private message bus: does what the test scripts, notes every call."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

SYSTEMD: Final = "org.freedesktop.systemd1"
MANAGER: Final = f"{SYSTEMD}.Manager"
ROOT: Final = "/org/freedesktop/systemd1"
SHUTDOWN: Final = f"{ROOT}/unit/shutdown_2etarget"


@contextmanager
def private_bus(directory: Path) -> Iterator[str]:
    """A dbus-daemon of our own; gives its address."""
    program = shutil.which("dbus-daemon")
    assert program is not None
    daemon = subprocess.Popen(
        [
            *(program, "--session", "--nofork", "--nopidfile", "--print-address"),
            f"--address=unix:path={directory / 'bus'}",
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert daemon.stdout is not None
        yield daemon.stdout.readline().decode().strip()
    finally:
        daemon.terminate()
        daemon.wait(10)
        assert daemon.stdout is not None
        daemon.stdout.close()


@dataclass
class Unit:
    """What systemd would tell of one unit."""

    active: str = "inactive"
    sub: str = "dead"
    result: str = "success"
    pid: int = 0
    restarts: int = 0
    cpu: int = 2**64 - 1  # nanoseconds; what systemd says where it does not know
    memory: int = 2**64 - 1


class Systemd1:
    """Serves ``org.freedesktop.systemd1``. What it shall do is in its attributes."""

    def __init__(self) -> None:
        self.units: dict[int, Unit] = {}
        self.processes: dict[int, str] = {}  # process id to the path of its unit
        self.calls: list[tuple[str, ...]] = []
        self.early = False  # JobRemoved before the reply that names the job
        self.job_result = "done"
        self.errors: dict[str, tuple[str, str]] = {}  # member -> (name, text)
        self.silent: set[str] = set()  # members that get no reply
        self.jobs_end = True
        self.shutdown_job = 0
        self.delay = 0.0
        self.in_flight = self.most_in_flight = 0
        self._number = 0
        self._bus: Any = None

    async def open(self, address: str) -> None:
        self._bus = await MessageBus(bus_address=address).connect()
        self._bus.add_message_handler(self._take)
        await self._bus.request_name(SYSTEMD)

    async def close(self) -> None:
        self._bus.disconnect()
        await asyncio.gather(self._bus.wait_for_disconnect(), return_exceptions=True)
        # dbus_next never closes its socket.
        self._bus._stream.close()
        self._bus._sock.close()

    def members(self) -> list[str]:
        return [call[0] for call in self.calls]

    def change(self, cluster: int, **values: Any) -> None:
        """The unit changes and says so."""
        for name, value in values.items():
            setattr(self.units[cluster], name, value)
        self._signal(
            path(cluster),
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
            "sa{sv}as",
            [f"{SYSTEMD}.Unit", {"ActiveState": Variant("s", self.units[cluster].active)}, []],
        )

    def shut_down(self, *, wanted: bool = True) -> None:
        """Somebody wants poweroff, or takes it back."""
        self.shutdown_job = int(wanted)
        changed = {"Job": Variant("(uo)", [self.shutdown_job, f"{ROOT}/job/1"])}
        self._signal(
            SHUTDOWN,
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
            "sa{sv}as",
            [f"{SYSTEMD}.Unit", changed, []],
        )

    def _take(self, message: Message) -> bool:
        if message.message_type is not MessageType.METHOD_CALL or message.interface is None:
            return False
        if not message.path.startswith(ROOT):
            return False
        self.calls.append((message.member, *map(str, message.body)))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if message.member in self.silent:
            return True
        asyncio.get_running_loop().call_later(self.delay, self._answer, message)
        return True

    def _answer(self, message: Message) -> None:
        self.in_flight -= 1
        if message.member in self.errors:
            self._bus.send(Message.new_error(message, *self.errors[message.member]))
            return
        match message.member:
            case "Subscribe" | "ResetFailedUnit":
                self._reply(message, "", [])
            case "ListUnitsByPatterns":
                self._reply(message, "a(ssssssouso)", [[self._row(c) for c in self.units]])
            case "Get":
                self._reply(message, "v", [self._property(message)])
            case "StartUnit" | "StopUnit":
                self._job(message)
            case "GetUnitByPID":
                self._reply(message, "o", [self.processes[message.body[0]]])

    def _job(self, message: Message) -> None:
        self._number += 1
        job = f"{ROOT}/job/{self._number}"
        unit = message.body[0]
        cluster = int(unit.partition("@")[2].removesuffix(".service"))
        if self.early:
            self._job_removed(job, unit)
        self._reply(message, "o", [job])
        starts = message.member == "StartUnit"
        if self.job_result == "done":
            self.units[cluster] = Unit(
                *(("active", "running") if starts else ("inactive", "dead")), pid=100 + cluster
            )
        if not self.early and self.jobs_end:
            asyncio.get_running_loop().call_later(self.delay, self._job_removed, job, unit)

    def _job_removed(self, job: str, unit: str) -> None:
        self._signal(ROOT, MANAGER, "JobRemoved", "uoss", [1, job, unit, self.job_result])

    def _row(self, cluster: int) -> list[Any]:
        unit = self.units[cluster]
        name = f"discluster-cluster@{cluster}.service"
        return [name, "", "loaded", unit.active, unit.sub, "", path(cluster), 0, "", "/"]

    def _property(self, message: Message) -> Variant:
        if message.path == SHUTDOWN:
            return Variant("(uo)", [self.shutdown_job, "/"])
        unit = self.units.get(int(message.path.rpartition("/c")[2]), Unit())
        values = {
            "MainPID": Variant("u", unit.pid),
            "NRestarts": Variant("u", unit.restarts),
            "Result": Variant("s", unit.result),
            "CPUUsageNSec": Variant("t", unit.cpu),
            "MemoryCurrent": Variant("t", unit.memory),
        }
        return values[message.body[1]]

    def _reply(self, message: Message, signature: str, body: list[Any]) -> None:
        self._bus.send(Message.new_method_return(message, signature, body))

    def _signal(
        self, where: str, interface: str, member: str, signature: str, body: list[Any]
    ) -> None:
        self._bus.send(Message.new_signal(where, interface, member, signature, body))


def path(cluster: int) -> str:
    return f"{ROOT}/unit/c{cluster}"
