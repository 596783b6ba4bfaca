# SPDX-License-Identifier: Apache-2.0
"""The supervisor ``systemd``: templated units over D-Bus. The only module that knows dbus_next.

Only dbus_next's low-level ``Message`` is used: no introspection, no proxies. Three of its habits
are guarded against here: a burst of a few hundred calls makes it drop the connection (so at most
64 are in flight), a call on a dead connection never returns (so each has a time limit), and a lost
connection is told by ``EOFError`` (so a task waits for that and connects anew).
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, MessageType
from dbus_next.message import Message

from discluster.clock import Clock
from discluster.control.refusals import refusal
from discluster.control.supervisor import UnitView, Usage
from discluster.errors import SupervisorError
from discluster.messages import UnitState

log = logging.getLogger(__name__)

UNIT: Final = "discluster-cluster@{}.service"
_UNIT_NAME: Final = re.compile(r"discluster-cluster@(\d+)\.service")
_SYSTEMD: Final = "org.freedesktop.systemd1"
_MANAGER: Final = "org.freedesktop.systemd1.Manager"
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_MANAGER_PATH: Final = "/org/freedesktop/systemd1"
_UNIT_PATH: Final = f"{_MANAGER_PATH}/unit/discluster_2dcluster_40"  # as systemd escapes it
# Whatever shuts a machine down (poweroff, reboot, kexec, soft-reboot) starts this target, which all
# units conflict with. The manager's SystemState says "starting" as long as a boot has not ended.
_SHUTDOWN_PATH: Final = "/org/freedesktop/systemd1/unit/shutdown_2etarget"
_IN_FLIGHT: Final = 64
_CALL_TIMEOUT: Final = 10.0
_USAGE_EVERY: Final = 9.0  # seconds; two more calls a unit, so not at each look
_NOT_SET: Final = 2**64 - 1
_STATES: Final[Mapping[str, UnitState]] = {
    "active": "active",
    "reloading": "active",
    "refreshing": "active",
    "activating": "activating",
    "deactivating": "deactivating",
    "maintenance": "deactivating",
    "inactive": "inactive",
    "failed": "failed",
}
_RESULTS: Final[Mapping[str, str]] = {
    "start-limit-hit": "it crashed too often in a row and systemd gave up",
    "exit-code": "it ended with an error",
    "signal": "it was killed by a signal",
    "core-dump": "it crashed and dumped core",
    "watchdog": "it stopped answering its watchdog",
    "timeout": "it did not start or stop in time",
    "oom-kill": "the machine ran out of memory",
    "resources": "systemd could not set it up (resources, credentials or sandbox)",
    "protocol": "it ended before it said that it was ready",
}
_JOB_RESULTS: Final[Mapping[str, str]] = {
    "failed": "it failed",
    "canceled": "another start or stop took its place",
    "timeout": "it took too long",
    "dependency": "another unit that it needs failed",
    "once": "it runs only once after a boot",
}


class SystemdSupervisor:
    """Starts, stops and follows ``discluster-cluster@N.service`` on the system bus."""

    def __init__(
        self,
        *,
        clock: Clock,
        connect: Callable[[], Any] | None = None,
        job_timeout: float = 120.0,
        call_timeout: float = _CALL_TIMEOUT,
    ) -> None:
        """``connect``: makes an unconnected bus; the system bus by default. Time limits in seconds:
        ``job_timeout`` of a start or stop, ``call_timeout`` of one call.
        """
        self._clock = clock
        self._make_bus = connect or (lambda: Bus(bus_type=BusType.SYSTEM))
        self._job_timeout = job_timeout
        self._call_timeout = call_timeout
        self._bus: Any = None
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self._on_change: Callable[[], None] = lambda: None
        # JobRemoved can arrive before the answer of StartUnit names the job, so results are kept
        # from the moment the call is made until its job is known.
        self._jobs: dict[str, asyncio.Future[str]] = {}
        self._callers = 0
        self._early: dict[str, str] = {}
        self._matched: dict[int, str] = {}
        self._failed: frozenset[int] = frozenset()
        self._usage_due = float("-inf")
        self._keeper: asyncio.Task[None] | None = None

    @property
    def clusters_outlive_control(self) -> bool:
        return True

    async def open(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        await self._connect()
        self._keeper = asyncio.create_task(self._keep_connected(), name="dbus-keeper")

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._bus is not None:
            await _discard(self._bus)
            self._bus = None

    async def units(self) -> Mapping[int, UnitView]:
        """One ListUnitsByPatterns, then a few single properties of each unit that is loaded: all
        at once would be some 300, which dbus_next takes milliseconds to read.
        """
        (listed,) = await self._call(
            _MANAGER_PATH, _MANAGER, "ListUnitsByPatterns", "asas", [], [UNIT.format("*")]
        )
        found = {}
        for entry in listed:
            if match := _UNIT_NAME.fullmatch(entry[0]):
                found[int(match[1])] = (str(entry[3]), str(entry[4]), str(entry[6]))
        for cluster in self._matched.keys() - found.keys():
            # systemd forgot the unit; the bus allows only so many matches.
            await self._match("RemoveMatch", self._matched.pop(cluster))
        self._failed = frozenset(c for c, (active, _, _) in found.items() if active == "failed")
        began = self._clock.monotonic()
        measure = began >= self._usage_due
        views = await asyncio.gather(
            *(self._view(cluster, *row, measure=measure) for cluster, row in found.items())
        )
        if measure:
            self._usage_due = began + _USAGE_EVERY
        return dict(zip(found, views, strict=True))

    async def runs(self, cluster: int, pid: int) -> bool:
        try:
            (path,) = await self._call(_MANAGER_PATH, _MANAGER, "GetUnitByPID", "u", pid)
        except SupervisorError as error:
            if error.code == "no-such-unit":
                return False
            raise
        return bool(path == f"{_UNIT_PATH}{cluster}_2eservice")

    async def going_down(self) -> bool:
        """Whether shutdown.target has a job: from the word of whoever wants it to the end."""
        job, _ = await self._property(_SHUTDOWN_PATH, "Unit", "Job")
        return bool(job)

    async def start(self, cluster: int) -> None:
        if cluster in self._failed:
            # Or systemd, which still counts the crashes, refuses a start within their minute.
            unit = UNIT.format(cluster)
            await self._call(_MANAGER_PATH, _MANAGER, "ResetFailedUnit", "s", unit, about=unit)
        await self._job("StartUnit", cluster)

    async def stop(self, cluster: int) -> None:
        await self._job("StopUnit", cluster)

    async def _view(
        self, cluster: int, active: str, sub: str, path: str, *, measure: bool
    ) -> UnitView:
        await self._follow(cluster, path)
        pid = await self._property(path, "Service", "MainPID")
        restarts = await self._property(path, "Service", "NRestarts")
        state = _STATES.get(active, "unknown")
        detail = sub
        if state == "failed" or sub == "auto-restart":
            result = str(await self._property(path, "Service", "Result"))
            why = _RESULTS.get(result, f"result {result!r}")
            detail = f"{why}; see 'journalctl -u {UNIT.format(cluster)}'"
        return UnitView(
            state=state,
            detail=detail,
            pid=int(pid) or None,
            restarts=int(restarts),
            usage=await self._usage(path) if measure and state == "active" else None,
        )

    async def _usage(self, path: str) -> Usage:
        """What systemd does not account for, it tells as the highest number there is."""
        nanoseconds = await self._property(path, "Service", "CPUUsageNSec")
        memory = await self._property(path, "Service", "MemoryCurrent")
        return Usage(
            at=self._clock.monotonic(),
            cpu_seconds=nanoseconds / 1e9 if nanoseconds != _NOT_SET else None,
            memory=int(memory) if memory != _NOT_SET else None,
        )

    async def _follow(self, cluster: int, path: str) -> None:
        """Asks for this unit's signals only: a match on all units costs 15 signals a start."""
        if cluster not in self._matched:
            rule = _changes_of(path)
            await self._match("AddMatch", rule)
            self._matched[cluster] = rule

    async def _property(self, path: str, interface: str, name: str) -> Any:
        (variant,) = await self._call(
            path, _PROPERTIES, "Get", "ss", f"{_SYSTEMD}.{interface}", name
        )
        return variant.value

    async def _job(self, method: str, cluster: int) -> None:
        unit = UNIT.format(cluster)
        self._callers += 1
        try:
            (path,) = await self._call(
                _MANAGER_PATH, _MANAGER, method, "ss", unit, "replace", about=unit
            )
            result = await self._job_result(path, f"{method} {unit}")
        finally:
            self._callers -= 1
            if not self._callers:
                self._early.clear()
        if result not in ("done", "skipped"):
            raise SupervisorError(
                f"systemd: {method} {unit}: {_JOB_RESULTS.get(result, f'result {result!r}')}",
                hint=f"journalctl -u {unit} tells why",
            )

    async def _job_result(self, path: str, what: str) -> str:
        if path in self._early:
            return self._early.pop(path)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._jobs[path] = future
        try:
            async with asyncio.timeout(self._job_timeout):
                return await future
        except TimeoutError:
            raise SupervisorError(
                f"systemd: {what} did not end within {self._job_timeout:g} s"
            ) from None
        finally:
            del self._jobs[path]

    async def _call(
        self, path: str, interface: str, member: str, signature: str, *body: Any, about: str = ""
    ) -> list[Any]:
        return await self._send(
            Message(
                destination=_SYSTEMD,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            ),
            about or member,
        )

    async def _send(self, message: Message, about: str) -> list[Any]:
        async with self._in_flight:
            bus = self._bus
            if bus is None or not bus.connected:
                raise SupervisorError("systemd: not connected to the system bus")
            try:
                async with asyncio.timeout(self._call_timeout):
                    reply = await bus.call(message)
            except TimeoutError:
                raise SupervisorError(
                    f"systemd: no answer to {message.member} within {self._call_timeout:g} s"
                ) from None
            except (OSError, EOFError) as error:
                raise SupervisorError(f"systemd: the system bus is gone: {error}") from None
        if reply.message_type is MessageType.ERROR:
            said = str(reply.body[0]) if reply.body else None
            raise refusal(str(reply.error_name), said, f"{message.member} {about}".strip())
        return list(reply.body)

    async def _connect(self) -> None:
        bus = None
        try:
            bus = self._make_bus()
            async with asyncio.timeout(self._call_timeout):
                await bus.connect()
        except Exception as error:  # dbus_next raises its own kinds, OSError and EOFError alike
            if bus is not None:
                await _discard(bus)
            raise SupervisorError(
                f"systemd: the system bus cannot be reached: {str(error) or type(error).__name__}",
                hint="is this machine booted with systemd and has dbus? If not, set"
                " 'supervisor: embedded' in control.yaml",
            ) from None
        bus.add_message_handler(self._received)
        self._bus, self._matched = bus, {}
        # Subscribe before any act: without it systemd sends no JobRemoved, and a job that ends
        # before we listen would be waited for in vain.
        await self._call(_MANAGER_PATH, _MANAGER, "Subscribe", "")
        await self._match(
            "AddMatch",
            f"type='signal',sender='{_SYSTEMD}',path='{_MANAGER_PATH}',interface='{_MANAGER}',"
            "member='JobRemoved'",
        )
        await self._match("AddMatch", _changes_of(_SHUTDOWN_PATH))

    async def _match(self, method: str, rule: str) -> None:
        await self._send(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member=method,
                signature="s",
                body=[rule],
            ),
            "",
        )

    def _received(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.member == "JobRemoved" and message.interface == _MANAGER:
            self._job_removed(message.body)
        elif message.member == "PropertiesChanged":
            self._on_change()

    def _job_removed(self, body: list[Any]) -> None:
        _, path, unit, result = body
        if not _UNIT_NAME.fullmatch(unit):
            return
        waiting = self._jobs.get(path)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)
        elif self._callers:
            self._early[path] = result
        # A unit that nobody has looked at yet has no match of its own.
        self._on_change()

    async def _keep_connected(self) -> None:
        pause = 0.5
        while True:
            with contextlib.suppress(Exception):
                # Shielded: who is cancelled here would cancel the bus's own future.
                await asyncio.shield(self._bus.wait_for_disconnect())
            log.warning("the system bus closed the connection; connecting again")
            await _discard(self._bus)
            for future in self._jobs.values():
                if not future.done():
                    future.set_exception(SupervisorError("systemd: the system bus went away"))
            while True:
                try:
                    await self._connect()
                except SupervisorError as error:
                    log.warning("%s; trying again in %g s", error.message, pause)
                    await self._clock.sleep(pause)
                    pause = min(pause * 2, 15.0)
                else:
                    pause = 0.5
                    break
            log.info("connected to the system bus again")
            self._on_change()


def _changes_of(path: str) -> str:
    """The match rule for a unit's changes of state and of job."""
    return (
        f"type='signal',sender='{_SYSTEMD}',path='{path}',interface='{_PROPERTIES}',"
        f"member='PropertiesChanged',arg0='{_SYSTEMD}.Unit'"
    )


class Bus(MessageBus):
    """A connection that leaves no socket behind where there is no bus: dbus_next's own stays open
    until Python tidies up.
    """

    def _setup_socket(self) -> None:
        try:
            super()._setup_socket()  # type: ignore[no-untyped-call]
        except Exception:
            for part in (getattr(self, "_stream", None), getattr(self, "_sock", None)):
                if part is not None:
                    part.close()
            raise


async def _discard(bus: Any) -> None:
    """Ends a connection of whatever state. dbus_next shuts its socket down but never closes it."""
    if bus.connected:
        bus.disconnect()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1.0):
                await bus.wait_for_disconnect()
    for part in (bus._stream, bus._sock):
        with contextlib.suppress(OSError):
            part.close()
