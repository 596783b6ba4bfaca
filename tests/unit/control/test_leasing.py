# SPDX-License-Identifier: Apache-2.0
"""The loop around the lease: rounds, what is on disk, and what the clusters are told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from discluster.control.lease import NO_LEASE, WhenIsolated
from discluster.control.leasing import Leasing
from discluster.errors import StateError
from discluster.lease import read_lease, read_stored
from discluster.messages import Lease, WitnessAnswer
from discluster.plan import HostPlan
from tests.clock import ManualClock
from tests.unit.control.leases import BOOT, ScriptedPanel, leasing

L = 30.0
PLAN = HostPlan(
    generation=5,
    shard_count=8,
    host="alpha",
    gateway_url="wss://gateway.example",
    witnesses={"alpha": "192.0.2.1:7444", "beta": "192.0.2.2:7444", "gamma": "192.0.2.3:7444"},
)


def says(host: str, *, hears: bool | None, generation: int = 5) -> WitnessAnswer:
    return WitnessAnswer(host=host, hears=hears, age=1.0, generation=generation)


class Machine:
    """One boot of a machine: CONTROL may be started on it several times."""

    def __init__(self, directory: Path, *, when_isolated: WhenIsolated = "stop") -> None:
        self.directory = directory
        self.clock = ManualClock()
        self.panel = ScriptedPanel()
        self.plan: HostPlan | None = PLAN
        self.boot_id = BOOT
        self.when_isolated: WhenIsolated = when_isolated
        self.told: list[Lease] = []
        self.start()

    def start(self) -> Leasing:
        """CONTROL starts."""
        self.leasing = leasing(
            self.directory,
            panel=self.panel,
            now=self.clock.monotonic,
            clock=self.clock,
            boot_id=self.boot_id,
            when_isolated=self.when_isolated,
        )
        self.leasing.open(plan=lambda: self.plan, tell=self._hear)
        return self.leasing

    def _hear(self, lease: Lease) -> None:
        assert self.on_disk == lease, "first on disk, then told"
        self.told.append(lease)

    @property
    def on_disk(self) -> Lease | None:
        return read_lease(self.directory / "lease.json", boot_id=self.boot_id)

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def connect(self) -> None:
        """To MASTER, which sends its plan; a pass is made."""
        self.leasing.greeting()
        self.leasing.heard()
        self.leasing.welcomed(sent=self.now, length=L)
        self.leasing.plan_taken()
        self.leasing.plan_carried_out()

    def ping(self) -> None:
        self.leasing.heard()
        self.leasing.confirmed(self.now)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.leasing.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_new_machine_has_a_lease_when_masters_plan_is_carried_out(machine: Machine) -> None:
    assert machine.leasing.lease == NO_LEASE
    machine.leasing.greeting()
    machine.leasing.welcomed(sent=machine.now, length=L)
    machine.leasing.plan_carried_out()
    assert machine.told == [], "that was some older plan"
    machine.leasing.plan_taken()
    assert machine.told == []
    machine.leasing.plan_carried_out()
    assert machine.told == [Lease(until=machine.now + L)]
    assert machine.on_disk == machine.leasing.lease


def test_pings_renew_and_are_told(machine: Machine) -> None:
    machine.connect()
    machine.clock.jump(5)
    machine.ping()
    assert machine.told[-1] == Lease(until=machine.now + L)
    assert machine.leasing.words() == ""


def test_plan_of_an_older_connection_renews_no_ended_lease(machine: Machine) -> None:
    machine.connect()
    machine.leasing.parted()
    machine.clock.jump(L + 1)
    before = machine.leasing.lease
    machine.leasing.greeting()
    machine.leasing.welcomed(sent=machine.now, length=L)
    machine.leasing.plan_carried_out()
    assert machine.leasing.lease == before
    machine.leasing.plan_taken()
    machine.leasing.plan_carried_out()
    assert machine.leasing.lease.until == machine.now + L


async def test_witnesses_are_asked_from_two_thirds_on_until_master_answers(
    machine: Machine,
) -> None:
    machine.connect()
    machine.panel.says = {"beta": says("beta", hears=False)}
    async with machine.running():
        await machine.clock.advance(19)
        assert machine.panel.asked == []
        await machine.clock.advance(41)
        others = {"beta": "192.0.2.2:7444", "gamma": "192.0.2.3:7444"}
        assert machine.panel.asked[0] == (others, L / 5)
        assert len(machine.panel.asked) == pytest.approx(7, abs=1)
        assert machine.leasing.lease.until == pytest.approx(machine.now + L / 2, abs=6.1)
        machine.ping()
        asked = len(machine.panel.asked)
        await machine.clock.advance(19)
        assert len(machine.panel.asked) == asked


async def test_cut_off_machine_is_told_in_words_and_its_lease_ends(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.connect()
    machine.panel.says = {"beta": says("beta", hears=True)}
    end = machine.leasing.lease.until
    async with machine.running():
        await machine.clock.advance(22)
        assert machine.leasing.words() == (
            "out of touch with MASTER for 22 s; beta hears it: this machine is cut off, its"
            " clusters stop in 8 s"
        )
        await machine.clock.advance(20)
    assert machine.leasing.lease.until == end
    told = [record for record in caplog.records if "cut off" in record.message]
    assert len(told) == 2, "once when it is found, once when the lease ends"
    assert (vars(told[0])["HOST"], vars(told[0])["GENERATION"]) == ("alpha", 5)


async def test_machine_alone_in_its_fleet_starts_at_once_without_master(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.plan = HostPlan(
        generation=5,
        shard_count=1,
        host="alpha",
        gateway_url="wss://gateway.example",
        witnesses={"alpha": "192.0.2.1:7444"},
    )
    async with machine.running():
        await machine.clock.advance(0)
        assert machine.leasing.lease == Lease(until=machine.now + L / 2)
    assert machine.panel.asked == []


async def test_machine_that_has_no_plan_asks_nobody_and_says_nothing(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.plan = None
    async with machine.running():
        await machine.clock.advance(60)
    assert machine.panel.asked == []
    assert caplog.text == ""


async def test_machine_that_slept_finds_its_lease_ended(machine: Machine) -> None:
    """Suspended: all clocks but that of the lease stood still."""
    machine.connect()
    machine.panel.says = {"beta": says("beta", hears=True)}
    end = machine.leasing.lease.until
    async with machine.running():
        machine.clock.jump(600)
        await machine.clock.advance(2)
    assert machine.leasing.lease.until == end
    assert "its clusters run no shards" in machine.leasing.words()


def test_restarted_control_goes_on_with_the_lease_that_stands(machine: Machine) -> None:
    machine.connect()
    lease = machine.leasing.lease
    machine.clock.jump(3)
    assert machine.start().lease == lease
    machine.clock.jump(2)
    machine.leasing.greeting()
    machine.leasing.welcomed(sent=machine.now, length=L)
    assert machine.leasing.lease.until == machine.now + L, "unexpired, so MASTER's word will do"


def test_goodbye_makes_it_endless_and_the_next_hello_bounds_it_before_it_is_sent(
    machine: Machine,
) -> None:
    machine.connect()
    machine.leasing.unattended()
    machine.leasing.close()
    assert machine.on_disk == machine.told[-1] == Lease(until=None)
    machine.clock.jump(86_400)
    machine.start()
    assert machine.leasing.lease == Lease(until=None)
    machine.leasing.greeting()
    assert machine.on_disk == machine.told[-1] == Lease(until=machine.now + L)


def test_hello_is_not_sent_while_the_file_says_that_there_is_no_end(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.connect()
    machine.leasing.unattended()
    machine.leasing.close()
    control = machine.start()
    (machine.directory / "lease.json.new").mkdir()
    with pytest.raises(StateError, match=r"lease\.json: cannot be written"):
        control.greeting()
    with pytest.raises(StateError):
        control.greeting()
    assert "cannot be written" in (control.trouble or "")
    assert machine.told[-1] == Lease(until=None)
    (machine.directory / "lease.json.new").rmdir()
    control.greeting()
    assert control.trouble is None
    assert machine.told[-1] == machine.on_disk == Lease(until=machine.now + L)


def test_file_that_cannot_be_written_is_a_trouble_and_no_reason_to_stop(machine: Machine) -> None:
    (machine.directory / "lease.json.new").mkdir()
    told: list[Lease] = []
    machine.leasing.open(plan=lambda: PLAN, tell=told.append)
    machine.connect()
    assert told == [machine.leasing.lease] != [NO_LEASE]
    assert "lease.json: cannot be written" in (machine.leasing.trouble or "")


def test_reboot_ends_every_lease_but_masters_length_is_known(machine: Machine) -> None:
    machine.leasing.greeting()
    machine.leasing.welcomed(sent=machine.now, length=3.0)
    machine.leasing.plan_taken()
    machine.leasing.plan_carried_out()
    machine.boot_id = "next"
    assert machine.start().lease == NO_LEASE
    machine.leasing.greeting()
    stored = read_stored(machine.directory / "lease.json", boot_id="next")
    assert stored is not None
    assert (stored.length, stored.confirmed) == (3.0, None)


def test_damaged_files_are_told_and_count_as_none(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.leasing.greeting()
    machine.leasing.welcomed(sent=machine.now, length=3.0)
    (machine.directory / "lease.json").write_text("{")
    (machine.directory / "control" / "lease.json").write_text("{")
    assert machine.start().lease == NO_LEASE
    assert "lease.json: not a lease" in caplog.text
    assert "control/lease.json cannot be used" in caplog.text


def test_machine_that_was_cut_off_remembers_it_over_a_restart(tmp_path: Path) -> None:
    async def scene() -> None:
        machine = Machine(tmp_path, when_isolated="keep")
        machine.connect()
        machine.panel.says = {"beta": says("beta", hears=True)}
        async with machine.running():
            await machine.clock.advance(21)
        assert machine.leasing.lease.then == "stop"
        end = machine.leasing.lease.until
        machine.panel.says = {}
        machine.start()
        async with machine.running():
            await machine.clock.advance(60)
        assert machine.leasing.lease == Lease(until=end, then="stop")
        assert machine.leasing.answer().hears is False
        machine.connect()
        assert machine.leasing.lease == Lease(until=machine.now + L, then="keep")

    asyncio.run(scene())


async def test_machine_that_never_had_a_lease_may_keep_its_shards_when_isolated(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path, when_isolated="keep")
    machine.leasing.close()
    machine.start()
    async with machine.running():
        await machine.clock.advance(1)
    assert machine.leasing.lease.then == "keep"
    assert machine.leasing.lease.until is not None


# --- as a witness ---


def kill(machine: Machine) -> None:
    machine.start()


def stop(machine: Machine) -> None:
    machine.leasing.close()
    machine.start()


def reboot(machine: Machine) -> None:
    machine.boot_id = "next"
    machine.start()


def first_boot(machine: Machine) -> None:
    (machine.directory / "lease.json").unlink()
    reboot(machine)


@pytest.mark.parametrize(
    ("happens", "silence", "hears"),
    [
        (lambda _: None, 9.0, True),
        (lambda _: None, 11.0, False),
        (stop, 9.0, True),
        (stop, 11.0, False),
        (kill, 9.0, None),
        (kill, 11.0, None),
        (reboot, 11.0, None),
        (first_boot, 11.0, False),
    ],
    ids=[
        *("lately", "long ago", "stopped", "stopped long ago", "killed", "killed later"),
        *("rebooted", "rebooted, with /run anew"),
    ],
)
def test_witness_hears_for_a_third_of_the_lease_and_says_when_it_cannot_know(
    machine: Machine, happens: Callable[[Machine], None], silence: float, hears: bool | None
) -> None:
    machine.connect()
    machine.clock.jump(silence)
    happens(machine)
    answer = machine.leasing.answer()
    assert (answer.host, answer.hears, answer.generation) == ("alpha", hears, 5)


def test_witness_that_was_killed_knows_again_after_a_third(machine: Machine) -> None:
    machine.connect()
    kill(machine)
    machine.clock.jump(L / 3 + 0.1)
    assert machine.leasing.answer().hears is False
    machine.leasing.heard()
    machine.clock.jump(2)
    answer = machine.leasing.answer()
    assert (answer.hears, answer.age) == (True, 2)


async def test_host_that_is_kept_out_runs_to_the_end_of_its_lease_and_no_further(
    tmp_path: Path,
) -> None:
    """Also with a CONTROL that is started anew, whatever is set for isolated machines."""
    machine = Machine(tmp_path, when_isolated="keep")
    machine.connect()
    until = machine.now + L
    machine.leasing.turned_away()
    machine.leasing.parted()
    assert machine.on_disk == Lease(until=until, then="stop")
    machine.start()
    async with machine.running():
        await machine.clock.advance(3 * L)
        assert machine.panel.asked, "nobody answers"
        assert machine.leasing.lease == Lease(until=until, then="stop")
        machine.connect()
        assert machine.leasing.lease == Lease(until=machine.now + L, then="keep")
