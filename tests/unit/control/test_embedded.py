# SPDX-License-Identifier: Apache-2.0
"""The embedded supervisor with real child processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from discluster.clock import SystemClock
from discluster.control.embedded import EmbeddedSupervisor
from discluster.control.supervisor import UnitView
from discluster.errors import SupervisorError
from tests.waiting import wait_for

# What a child does comes as its script; its first act is to say that it lives.
LIVES = (
    "import os, sys, time, signal; open(sys.argv[1] + '/born', 'a').write(f'{os.getpid()}\\n')\n"
)
STAYS = LIVES + "time.sleep(60)\n"
CRASHES = LIVES + "sys.exit(3)\n"
MISCONFIGURED = LIVES + "sys.exit(78)\n"
REFUSED = LIVES + "sys.exit(70)\n"
ENDS = LIVES + "sys.exit(0)\n"
STUBBORN = (
    "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LIVES + "time.sleep(60)\n"
)
ORDERLY = (
    LIVES
    + "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    + "open(sys.argv[1] + '/ready', 'w').close()\n"
    + "while True: time.sleep(60)\n"
)


class House:
    """A directory with pid files, and the supervisors that were made over it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[EmbeddedSupervisor] = []
        self.changes = 0

    def supervisor(
        self, script: str, *, keep: bool = False, pause: float = 0.02
    ) -> EmbeddedSupervisor:
        command = (sys.executable, "-S", "-c", script, str(self.directory))
        return self.running(command, keep=keep, pause=pause)

    def running(
        self, command: tuple[str, ...], *, keep: bool = False, pause: float = 0.02
    ) -> EmbeddedSupervisor:
        made = EmbeddedSupervisor(
            command=command,
            directory=self.directory,
            environment={"PATH": os.environ["PATH"]},
            clock=SystemClock(),
            keep_on_close=keep,
            restart_pause=pause,
            stop_timeout=0.3,
        )
        self.made.append(made)
        return made

    def changed(self) -> None:
        self.changes += 1

    @property
    def born(self) -> list[int]:
        path = self.directory / "born"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    for supervisor in made.made:
        await supervisor.close()
    for pid in made.born:
        assert not alive(pid), "a test left a process"


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def reaches(
    supervisor: EmbeddedSupervisor, condition: Callable[[UnitView], object], cluster: int = 7
) -> UnitView:
    async def met() -> bool:
        return bool(condition((await supervisor.units())[cluster]))

    await wait_for(met, 10)
    return (await supervisor.units())[cluster]


async def test_started_cluster_runs_with_its_number(house: House) -> None:
    supervisor = house.running(
        (
            sys.executable,
            "-S",
            "-c",
            "import sys; open(sys.argv[1], 'w').write(sys.argv[2])",
            str(house.directory / "number"),
        ),
    )
    await supervisor.open(house.changed)
    await supervisor.start(7)
    await wait_for((house.directory / "number").exists, 5)
    await wait_for(lambda: (house.directory / "number").read_text() == "7", 5)
    assert house.changes


async def test_killed_cluster_comes_back_and_leaves_no_zombie(house: House) -> None:
    supervisor = house.supervisor(STAYS)
    await supervisor.open(house.changed)
    await supervisor.start(7)
    first = (await reaches(supervisor, lambda v: v.state == "active")).pid
    assert first is not None
    await wait_for(lambda: len(house.born) == 1, 5)
    os.kill(first, signal.SIGKILL)
    view = await reaches(supervisor, lambda v: v.restarts == 1 and v.state == "active")
    assert view.pid not in (None, first)
    assert not exists(first)
    await wait_for(lambda: len(house.born) == 2, 5)


@pytest.mark.parametrize(("script", "told"), [(CRASHES, "exit status 3"), (ENDS, "exit status 0")])
async def test_crash_loop_is_given_up_after_five_starts(
    house: House, script: str, told: str
) -> None:
    supervisor = house.supervisor(script)
    await supervisor.open(house.changed)
    await supervisor.start(7)
    view = await reaches(supervisor, lambda v: v.state == "failed")
    assert view.detail == f"it crashed too often in a row (it ended with {told})"
    assert len(house.born) == 5
    assert not view.may_run


@pytest.mark.parametrize(
    ("script", "told"), [(MISCONFIGURED, "configuration"), (REFUSED, "Discord refuses")]
)
async def test_final_exit_status_is_not_restarted(house: House, script: str, told: str) -> None:
    supervisor = house.supervisor(script)
    await supervisor.open(house.changed)
    await supervisor.start(7)
    view = await reaches(supervisor, lambda v: v.state == "failed")
    assert told in view.detail
    assert len(house.born) == 1


async def test_given_up_cluster_can_be_started_again(house: House) -> None:
    supervisor = house.supervisor(MISCONFIGURED)
    await supervisor.open(house.changed)
    for times in (1, 2):
        await supervisor.start(7)
        await reaches(supervisor, lambda v: v.state == "failed")
        assert len(house.born) == times


async def test_stop_ends_an_orderly_cluster(house: House) -> None:
    supervisor = house.supervisor(ORDERLY)
    await supervisor.open(house.changed)
    await supervisor.start(7)
    await wait_for((house.directory / "ready").exists, 5)
    await supervisor.stop(7)
    view = (await supervisor.units())[7]
    assert (view.state, view.pid) == ("inactive", None)
    assert not any(map(exists, house.born))
    assert list(house.directory.glob("*.pid")) == []


async def test_cluster_that_ignores_sigterm_is_killed(house: House) -> None:
    supervisor = house.supervisor(STUBBORN)
    await supervisor.open(house.changed)
    await supervisor.start(7)
    await wait_for(lambda: house.born, 5)
    await supervisor.stop(7)
    assert (await supervisor.units())[7].state == "inactive"
    assert not any(map(exists, house.born))


async def test_stop_during_the_pause_before_a_restart_wins(house: House) -> None:
    # Long enough to be met by a test that looks now and then, however busy the machine is.
    supervisor = house.supervisor(CRASHES, pause=1.0)
    await supervisor.open(house.changed)
    await supervisor.start(7)
    await reaches(supervisor, lambda v: v.state == "activating")
    await supervisor.stop(7)
    assert (await supervisor.units())[7].state == "inactive"
    assert len(house.born) == 1


async def test_starting_twice_runs_one_process(house: House) -> None:
    supervisor = house.supervisor(STAYS)
    await supervisor.open(house.changed)
    await supervisor.start(7)
    await supervisor.start(7)
    await wait_for(lambda: house.born, 5)
    assert (await supervisor.units())[7].pid == house.born[0]
    assert len(house.born) == 1


async def test_next_control_adopts_what_runs_and_can_stop_it(house: House) -> None:
    first = house.supervisor(ORDERLY, keep=True)
    await first.open(house.changed)
    await first.start(7)
    await wait_for((house.directory / "ready").exists, 5)
    await first.close()
    pid = house.born[0]
    assert alive(pid)
    second = house.supervisor(ORDERLY)
    await second.open(house.changed)
    assert (await second.units())[7] == UnitView(state="active", detail="running", pid=pid)
    await second.stop(7)
    assert not alive(pid)
    os.waitpid(pid, 0)  # here both supervisors are one process; else init does it


async def test_adopted_cluster_that_dies_is_restarted(house: House) -> None:
    first = house.supervisor(STAYS, keep=True)
    await first.open(house.changed)
    await first.start(7)
    await wait_for(lambda: house.born, 5)
    await first.close()
    second = house.supervisor(STAYS)
    await second.open(house.changed)
    os.kill(house.born[0], signal.SIGKILL)
    await reaches(second, lambda v: v.restarts == 1 and v.state == "active")
    os.waitpid(house.born[0], 0)
    await wait_for(lambda: len(house.born) == 2, 5)


async def test_reused_process_id_is_not_adopted(house: House) -> None:
    """The file names a living process that began at another time: ours is gone."""
    stranger = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", "import sys; sys.stdin.read()", stdin=asyncio.subprocess.PIPE
    )
    (house.directory / "cluster-7.pid").write_text(f"{stranger.pid} 12345\n")
    supervisor = house.supervisor(STAYS)
    await supervisor.open(house.changed)
    assert (await supervisor.units())[7].state == "inactive"
    await supervisor.stop(7)
    assert not (house.directory / "cluster-7.pid").exists()
    await stranger.communicate(b"")
    assert stranger.returncode == 0, "it was left alone"


@pytest.mark.parametrize("content", ["", "x", "1 2 3", "-5 7", "999999999 1"])
async def test_damaged_pid_file_is_no_process(house: House, content: str) -> None:
    (house.directory / "cluster-7.pid").write_text(content)
    supervisor = house.supervisor(STAYS)
    await supervisor.open(house.changed)
    assert (await supervisor.units())[7].state == "inactive"


async def test_missing_program_is_told_in_words(house: House) -> None:
    supervisor = house.running(("/does/not/exist",))
    await supervisor.open(house.changed)
    with pytest.raises(SupervisorError, match="/does/not/exist cannot be started"):
        await supervisor.start(7)
    view = (await supervisor.units())[7]
    assert (view.state, view.detail) == ("failed", "/does/not/exist: No such file or directory")


async def test_cluster_that_could_not_be_found_again_does_not_run(house: House) -> None:
    supervisor = house.supervisor(STAYS)
    await supervisor.open(house.changed)
    (house.directory / "cluster-7.pid").mkdir()
    with pytest.raises(SupervisorError, match="cannot be written"):
        await supervisor.start(7)
    assert (await supervisor.units())[7].state == "failed"
    (house.directory / "cluster-7.pid").rmdir()


async def test_close_stops_all_clusters_unless_told_to_keep_them(house: House) -> None:
    supervisor = house.supervisor(STAYS)
    await supervisor.open(house.changed)
    await asyncio.gather(*(supervisor.start(n) for n in range(5)))
    await wait_for(lambda: len(house.born) == 5, 10)
    await supervisor.close()
    assert not any(map(exists, house.born))


async def test_process_belongs_to_the_cluster_that_it_is(house: House) -> None:
    supervisor = house.supervisor(STAYS)
    await supervisor.open(house.changed)
    await supervisor.start(7)
    pid = (await supervisor.units())[7].pid
    assert pid is not None
    assert await supervisor.runs(7, pid)
    assert not await supervisor.runs(7, os.getpid())
    assert not await supervisor.runs(8, pid)
    await supervisor.stop(7)
    assert not await supervisor.runs(7, pid)
