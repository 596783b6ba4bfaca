# SPDX-License-Identifier: Apache-2.0
"""The lab's own promises: what a fault does, and that nothing of a run is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.cache import mounts_below
from tests.lab.commands import LabError, wait_until
from tests.lab.machines import Lab, Machine
from tests.lab.roots import REPOSITORY
from tests.lab.runs import NETNS, RUNS, Run, group_of, prefix_of, sweep

CRASHING_RUN = """
import os, signal
from tests.lab.cache import Cache, default_directory
from tests.lab.machines import Lab
from tests.lab.roots import machine_root
from tests.lab.runs import Run

run = Run()
(machine,) = Lab(run, [machine_root(Cache(default_directory()))]).boot("orphan")
print(run.id, machine.leader, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def pair(bare_lab: Lab) -> tuple[Machine, Machine]:
    one, two = bare_lab.boot("one", "two")
    return one, two


def reaches(source: Machine, target: Machine) -> bool:
    done = source.run("ping", "-c", "1", "-W", "1", target.name, check=False)
    return done.returncode == 0


def lives(pid: str) -> bool:
    """Whether ``pid`` is a process, and not one that ended and waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_machines_reach_each_other_by_name_and_nobody_else(pair: tuple[Machine, Machine]) -> None:
    one, two = pair
    assert reaches(one, two)
    assert one.run("ip", "route", "show", "default").stdout == ""


def test_pulled_cable_cuts_a_machine_off_until_it_is_back(pair: tuple[Machine, Machine]) -> None:
    one, two = pair
    two.link(up=False)
    assert not reaches(one, two)
    two.link(up=True)
    wait_until(lambda: reaches(one, two), timeout=10, what="reachable again")


def test_cut_between_two_machines_is_silent_and_can_be_mended(
    pair: tuple[Machine, Machine],
) -> None:
    one, two = pair
    one.cut_off_from(two)
    assert not reaches(one, two)
    assert not reaches(two, one)
    one.cut_off_from(two, cut=False)
    assert reaches(one, two)


def test_disk_outlives_a_power_cut(pair: tuple[Machine, Machine]) -> None:
    one, two = pair
    two.run("sh", "-c", "echo kept > /var/lib/kept")
    two.cut_power()
    assert not reaches(one, two)
    with pytest.raises(LabError, match="switched off"):
        two.run("true")
    two.boot()
    assert two.read("/var/lib/kept") == "kept\n"
    assert reaches(one, two)


def test_frozen_machine_answers_again_when_it_goes_on(pair: tuple[Machine, Machine]) -> None:
    one, _ = pair
    stat = Path(f"/proc/{one.leader}/stat")
    one.freeze()
    before = stat.read_text().split()[13:15]
    assert stat.read_text().split()[13:15] == before
    one.freeze(False)
    assert one.run("systemctl", "is-system-running").stdout == "running\n"


def test_run_that_was_killed_is_swept_by_the_next(lab_run: Run) -> None:
    died = subprocess.run(
        [sys.executable, "-c", CRASHING_RUN],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    run_id, leader = died.stdout.split()
    assert lives(leader), "its machine runs on"
    assert run_id in sweep()
    assert lab_run.directory.exists(), "a living run is left alone"
    assert not lives(leader)
    assert not list(RUNS.glob(f"{run_id}*"))
    assert not list(NETNS.glob(f"{prefix_of(run_id)}*"))
    assert not mounts_below(RUNS / run_id)
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{group_of(run_id)}"))
