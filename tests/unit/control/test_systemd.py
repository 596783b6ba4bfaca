# SPDX-License-Identifier: Apache-2.0
"""The systemd supervisor against a stand-in for systemd on a private bus."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discluster.clock import SystemClock
from discluster.control.supervisor import UnitView
from discluster.control.systemd import Bus, SystemdSupervisor
from discluster.errors import SupervisorError
from tests.unit.control.systemd1 import ROOT, Systemd1, Unit, private_bus
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(
    shutil.which("dbus-daemon") is None, reason="dbus-daemon is not installed"
)


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with private_bus(tmp_path_factory.mktemp("bus")) as address:
        yield address


class LateClock(SystemClock):
    """``ahead``: seconds for which nobody wants to wait."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Rig:
    """A supervisor and the systemd that it speaks with."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.systemd = Systemd1()
        self.buses: list[Bus] = []
        self.changes = 0
        self.clock = LateClock()
        self.supervisor = SystemdSupervisor(
            clock=self.clock, connect=self._make, job_timeout=0.3, call_timeout=1.0
        )

    def _make(self) -> Bus:
        self.buses.append(Bus(bus_address=self.address))
        return self.buses[-1]

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture
async def rig(bus: str) -> AsyncIterator[Rig]:
    made = Rig(bus)
    await made.systemd.open(bus)
    await made.supervisor.open(made.changed)
    yield made
    await made.supervisor.close()
    await made.systemd.close()


async def test_it_subscribes_before_it_acts(rig: Rig) -> None:
    await rig.supervisor.start(3)
    assert rig.systemd.members()[0] == "Subscribe"
    assert rig.systemd.calls[1] == ("StartUnit", "discluster-cluster@3.service", "replace")


async def test_failed_unit_is_started_although_it_crashed_too_often(rig: Rig) -> None:
    rig.systemd.units[3] = Unit("failed", "failed", result="start-limit-hit")
    await rig.supervisor.units()
    await rig.supervisor.start(3)
    name = "discluster-cluster@3.service"
    assert rig.systemd.calls[-2:] == [("ResetFailedUnit", name), ("StartUnit", name, "replace")]
    await rig.supervisor.units()
    await rig.supervisor.start(3)
    assert rig.systemd.members().count("ResetFailedUnit") == 1, "it is not failed any more"


async def test_process_belongs_to_the_cluster_in_whose_unit_it_is(rig: Rig) -> None:
    units = f"{ROOT}/unit"
    rig.systemd.processes = {
        10: f"{units}/discluster_2dcluster_403_2eservice",
        11: f"{units}/discluster_2dcluster_4033_2eservice",
        12: f"{units}/ssh_2eservice",
    }
    assert [await rig.supervisor.runs(3, pid) for pid in (10, 11, 12)] == [True, False, False]


@pytest.mark.parametrize("name", ["NoUnitForPID", "NoSuchUnit"])
async def test_process_of_no_unit_belongs_to_no_cluster(rig: Rig, name: str) -> None:
    rig.systemd.errors["GetUnitByPID"] = (f"org.freedesktop.systemd1.{name}", "no unit")
    assert not await rig.supervisor.runs(3, 10)


async def test_process_that_systemd_cannot_tell_of_is_nobodys_yet(rig: Rig) -> None:
    rig.systemd.silent.add("GetUnitByPID")
    with pytest.raises(SupervisorError, match="no answer to GetUnitByPID"):
        await rig.supervisor.runs(3, 10)


@pytest.mark.parametrize("early", [False, True])
async def test_start_and_stop_wait_for_their_jobs(rig: Rig, early: bool) -> None:
    rig.systemd.early = early
    await rig.supervisor.start(3)
    assert (await rig.supervisor.units())[3].state == "active"
    await rig.supervisor.stop(3)
    assert (await rig.supervisor.units())[3].state == "inactive"


async def test_job_that_does_not_end_is_given_up(rig: Rig) -> None:
    rig.systemd.jobs_end = False
    with pytest.raises(SupervisorError, match=r"StartUnit .*@3\.service did not end within 0\.3 s"):
        await rig.supervisor.start(3)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("failed", "it failed"),
        ("canceled", "another start or stop took its place"),
        ("timeout", "it took too long"),
        ("dependency", "another unit that it needs failed"),
        ("invented-later", "result 'invented-later'"),
    ],
)
async def test_job_that_fails_is_told_in_words(rig: Rig, result: str, told: str) -> None:
    rig.systemd.job_result = result
    with pytest.raises(SupervisorError) as caught:
        await rig.supervisor.start(3)
    assert caught.value.message == f"systemd: StartUnit discluster-cluster@3.service: {told}"
    assert caught.value.hint == "journalctl -u discluster-cluster@3.service tells why"


async def test_four_hundred_starts_keep_at_most_64_calls_in_flight(rig: Rig) -> None:
    rig.systemd.delay = 0.002
    supervisor = SystemdSupervisor(
        clock=SystemClock(), connect=lambda: Bus(bus_address=rig.address), call_timeout=30
    )
    await supervisor.open(rig.changed)
    await asyncio.gather(*(supervisor.start(n) for n in range(400)))
    assert rig.systemd.members().count("StartUnit") == 400
    assert 32 < rig.systemd.most_in_flight <= 64
    rig.systemd.delay = 0.0
    views = await supervisor.units()
    assert len(views) == 400
    assert {view.state for view in views.values()} == {"active"}
    await supervisor.close()


async def test_refusal_by_polkit_names_the_rule(rig: Rig) -> None:
    rig.systemd.errors["StartUnit"] = (
        "org.freedesktop.DBus.Error.AccessDenied",
        "Permission denied",
    )
    with pytest.raises(SupervisorError) as caught:
        await rig.supervisor.start(3)
    assert caught.value.code == "not-allowed"
    assert "discluster-cluster@3.service: not allowed: Permission denied" in caught.value.message
    assert "50-discluster.rules" in str(caught.value.hint)


async def test_missing_unit_file_is_told(rig: Rig) -> None:
    rig.systemd.errors["StartUnit"] = (
        "org.freedesktop.systemd1.NoSuchUnit",
        "Unit discluster-cluster@3.service not found.",
    )
    with pytest.raises(SupervisorError) as caught:
        await rig.supervisor.start(3)
    assert caught.value.code == "no-such-unit"
    assert "discluster-cluster@.service installed" in str(caught.value.hint)


async def test_other_refusals_keep_their_name(rig: Rig) -> None:
    rig.systemd.errors["StopUnit"] = ("org.example.Odd", "it is odd")
    with pytest.raises(SupervisorError, match=r"it is odd \(org\.example\.Odd\)"):
        await rig.supervisor.stop(3)


async def test_call_without_an_answer_has_a_time_limit(rig: Rig) -> None:
    rig.systemd.silent.add("ListUnitsByPatterns")
    with pytest.raises(SupervisorError, match="no answer to ListUnitsByPatterns within 1 s"):
        await rig.supervisor.units()


@pytest.mark.parametrize(
    ("unit", "view"),
    [
        (
            Unit("active", "running", pid=42),
            UnitView(state="active", detail="running", pid=42),
        ),
        (
            Unit("activating", "auto-restart", result="signal", restarts=2),
            UnitView(
                state="activating",
                detail="it was killed by a signal; see 'journalctl -u"
                " discluster-cluster@3.service'",
                restarts=2,
            ),
        ),
        (
            Unit("failed", "failed", result="start-limit-hit"),
            UnitView(
                state="failed",
                detail="it crashed too often in a row and systemd gave up; see 'journalctl -u"
                " discluster-cluster@3.service'",
            ),
        ),
        (
            Unit("failed", "failed", result="struck-by-lightning"),
            UnitView(
                state="failed",
                detail="result 'struck-by-lightning'; see 'journalctl -u"
                " discluster-cluster@3.service'",
            ),
        ),
        (Unit("reloading", "reload"), UnitView(state="active", detail="reload")),
        (Unit("levitating", "odd"), UnitView(state="unknown", detail="odd")),
    ],
)
async def test_unit_is_seen_as_systemd_tells_it(rig: Rig, unit: Unit, view: UnitView) -> None:
    rig.systemd.units[3] = unit
    seen = await rig.supervisor.units()
    assert {c: msgspec.structs.replace(v, usage=None) for c, v in seen.items()} == {3: view}


async def test_usage_of_a_unit_is_what_systemd_accounts_for(rig: Rig) -> None:
    rig.systemd.units[3] = Unit("active", "running", cpu=2_500_000_000, memory=70 << 20)
    rig.systemd.units[4] = Unit("active", "running")
    rig.systemd.units[5] = Unit("failed", "failed", cpu=1, memory=1)
    before = rig.clock.monotonic()
    views = await rig.supervisor.units()
    usage = views[3].usage
    assert usage is not None
    assert (usage.cpu_seconds, usage.memory) == (2.5, 70 << 20)
    assert before <= usage.at <= rig.clock.monotonic()
    unknown = views[4].usage
    assert unknown is not None
    assert (unknown.cpu_seconds, unknown.memory) == (None, None)
    assert views[5].usage is None


async def test_usage_is_not_asked_for_at_each_look(rig: Rig) -> None:
    rig.systemd.units[3] = Unit("active", "running", cpu=1, memory=1)

    async def asked() -> int:
        before = len(rig.systemd.calls)
        await rig.supervisor.units()
        return sum(call[-1] == "CPUUsageNSec" for call in rig.systemd.calls[before:])

    assert await asked() == 1
    assert [await asked() for _ in range(5)] == [0] * 5
    rig.clock.ahead = 9.0
    assert await asked() == 1


async def test_usage_of_many_units_keeps_within_the_calls_that_the_bus_bears(rig: Rig) -> None:
    rig.systemd.units.update({n: Unit("active", "running", cpu=n, memory=n) for n in range(200)})
    rig.systemd.delay = 0.001
    views = await rig.supervisor.units()
    assert all(view.usage is not None and view.usage.memory == n for n, view in views.items())
    assert rig.systemd.most_in_flight <= 64


async def test_shutdown_that_is_wanted_is_seen_at_once_and_so_is_its_end(rig: Rig) -> None:
    assert not await rig.supervisor.going_down()
    rig.systemd.shut_down()
    await wait_for(lambda: rig.changes == 1, 5)
    assert await rig.supervisor.going_down()
    rig.systemd.shut_down(wanted=False)
    await wait_for(lambda: rig.changes == 2, 5)
    assert not await rig.supervisor.going_down()


async def test_state_that_nobody_knows_may_run(rig: Rig) -> None:
    rig.systemd.units[3] = Unit("levitating", "odd")
    assert (await rig.supervisor.units())[3].may_run


async def test_change_of_a_known_unit_is_noticed(rig: Rig) -> None:
    rig.systemd.units[3] = Unit("active", "running")
    await rig.supervisor.units()
    rig.changes = 0
    rig.systemd.change(3, active="failed", result="oom-kill")
    await wait_for(lambda: rig.changes, 5)
    assert "out of memory" in (await rig.supervisor.units())[3].detail


async def test_unit_that_fails_to_be_followed_is_followed_next_time(rig: Rig) -> None:
    """A lost AddMatch must not leave a unit whose end nobody notices."""
    rig.systemd.units[3] = Unit("active", "running")
    sent: list[Any] = []
    bus: Any = rig.buses[0]
    real = bus.call

    async def refuse_once(message: Any) -> Any:
        if message.member == "AddMatch" and not sent:
            sent.append(message)
            raise OSError("broken")
        return await real(message)

    bus.call = refuse_once
    with pytest.raises(SupervisorError, match="bus is gone"):
        await rig.supervisor.units()
    await rig.supervisor.units()
    rig.changes = 0
    rig.systemd.change(3, active="failed")
    await wait_for(lambda: rig.changes, 5)


async def test_forgotten_units_free_their_matches(rig: Rig) -> None:
    removed: list[object] = []
    bus: Any = rig.buses[0]
    real = bus.call

    async def watch(message: Any) -> Any:
        if message.member == "RemoveMatch":
            removed.append(message)
        return await real(message)

    bus.call = watch
    rig.systemd.units = {3: Unit("active"), 4: Unit("active")}
    await rig.supervisor.units()
    del rig.systemd.units[3]
    assert list(await rig.supervisor.units()) == [4]
    assert len(removed) == 1


async def test_lost_bus_is_connected_again_and_waiters_are_told(rig: Rig) -> None:
    rig.systemd.jobs_end = False
    patient = SystemdSupervisor(
        clock=SystemClock(), connect=rig._make, job_timeout=30, call_timeout=1.0
    )
    await patient.open(rig.changed)
    waiting = asyncio.create_task(patient.start(3))
    await wait_for(lambda: "StartUnit" in rig.systemd.members(), 5)
    await asyncio.sleep(0)
    before = len(rig.buses)
    await wait_for(lambda: patient._jobs, 5)
    rig.buses[-1]._sock.shutdown(2)
    with pytest.raises(SupervisorError, match="bus went away"):
        await waiting
    await wait_for(lambda: len(rig.buses) > before, 5)

    async def works() -> bool:
        try:
            return 3 in await patient.units()
        except SupervisorError:
            return False

    await wait_for(works, 5)
    assert rig.systemd.members().count("Subscribe") >= 3
    await patient.close()


async def test_absent_bus_is_told_with_the_way_out(tmp_path: Path) -> None:
    supervisor = SystemdSupervisor(
        clock=SystemClock(),
        connect=lambda: Bus(bus_address=f"unix:path={tmp_path / 'none'}"),
    )
    with pytest.raises(SupervisorError, match="system bus cannot be reached") as caught:
        await supervisor.open(lambda: None)
    assert "supervisor: embedded" in str(caught.value.hint)
    assert caught.value.exit_status == 69
    await supervisor.close()


def test_bus_that_is_not_there_leaves_no_socket_behind(tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(FileNotFoundError) as failed:
        Bus(bus_address=f"unix:path={tmp_path / 'none'}")
    assert set(Path("/proc/self/fd").iterdir()) == before, "though the error is still held"
    assert failed.type is FileNotFoundError


async def test_bus_that_comes_back_later_is_found(tmp_path: Path) -> None:
    """The bus is restarted; calls fail in words meanwhile."""
    with private_bus(tmp_path) as address:
        rig = Rig(address)
        await rig.systemd.open(address)
        await rig.supervisor.open(rig.changed)
        await rig.systemd.close()

    async def fails() -> bool:
        try:
            await rig.supervisor.units()
        except SupervisorError as error:
            return "systemd" in error.message
        return False

    await wait_for(fails, 5)
    (tmp_path / "bus").unlink(missing_ok=True)
    with private_bus(tmp_path) as address:
        systemd = Systemd1()
        systemd.units[5] = Unit("active", "running")
        await systemd.open(address)

        async def sees() -> bool:
            try:
                return 5 in await rig.supervisor.units()
            except SupervisorError:
                return False

        await wait_for(sees, 10)
        await rig.supervisor.close()
        await systemd.close()
