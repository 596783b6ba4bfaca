# SPDX-License-Identifier: Apache-2.0
"""The life of the package on a machine: install, upgrade while clusters run, purge."""

import shutil
from collections.abc import Iterator

import pytest

from tests.lab import deb
from tests.lab.cache import Cache
from tests.lab.commands import Completed
from tests.lab.machines import Lab, Machine

CLUSTERS = ("discluster-cluster@3.service", "discluster-cluster@17.service")
DAEMONS = ("discluster-master.service", "discluster-control.service")
PAGES = (
    "man1/discluster-simulator.1",
    "man5/discluster-cluster.yaml.5",
    "man5/discluster-control.yaml.5",
    "man5/discluster-master.yaml.5",
    "man8/discluster-cluster.8",
    "man8/discluster-control.8",
    "man8/discluster-master.8",
    "man8/disclusterctl.8",
)
# What apt, dpkg and the running system write of their own accord.
ELSEWHERE = (
    *("/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/", "/var/log/", "/var/tmp/", "/tmp/"),
    *("/var/lib/systemd/", "/root/", "/etc/systemd/system/discluster-"),
    # The account files and their backups; the accounts themselves are looked at by name.
    *("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/.pwd.lock"),
)


def apt(machine: Machine, *words: str) -> Completed:
    """apt-get as an unattended run calls it; a machine has no network to download from."""
    environment = ("env", "DEBIAN_FRONTEND=noninteractive")
    return machine.run(*environment, "apt-get", "-q", "-y", *words, timeout=120)


def files(machine: Machine) -> set[str]:
    """Everything on the machine's disk."""
    found = machine.run("find", "/", "-xdev", "-print").stdout.splitlines()
    return {path for path in found if not path.startswith(ELSEWHERE)}


@pytest.fixture
def machine(bare_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Machine]:
    (machine,) = bare_lab.boot(f"m{len(bare_lab.machines)}")
    yield machine
    machine.close()


@pytest.fixture
def installed(machine: Machine, package: deb.Package) -> Machine:
    put(machine, package)
    apt(machine, "install", "/root/discluster.deb")
    return machine


def put(machine: Machine, package: deb.Package) -> None:
    shutil.copy(package.path, machine.disk / "root/discluster.deb")


def run_sleepers(machine: Machine, *units: str) -> dict[str, str]:
    """Start the units with a program that only sleeps; their main pids."""
    for unit in units:
        machine.write(
            f"/etc/systemd/system/{unit}.d/test.conf",
            "[Service]\nType=exec\nWatchdogSec=0\nExecStart=\nExecStart=/bin/sleep infinity\n",
        )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", *units)
    return pids(machine, *units)


def pids(machine: Machine, *units: str) -> dict[str, str]:
    return {unit: machine.unit(unit, "MainPID") for unit in units}


def test_installing_starts_and_enables_nothing(installed: Machine) -> None:
    for unit in DAEMONS:
        assert installed.unit(unit, "ActiveState") == "inactive"
        assert installed.unit(unit, "UnitFileState") == "disabled"
    assert installed.run("systemctl", "is-system-running", check=False).stdout == "running\n"


def test_installing_makes_the_users_and_their_directories(installed: Machine) -> None:
    expected = {
        "/run/discluster": "755 root root",
        "/run/discluster/master": "2750 discluster-master discluster-admin",
        "/run/discluster/control": "2750 discluster-control discluster-admin",
        "/run/discluster/clusters": "2750 discluster-control discluster-cluster",
        "/run/discluster/gateways": "2750 discluster-cluster discluster-bot",
        "/var/lib/discluster": "755 root root",
        "/var/lib/discluster/master": "700 discluster-master discluster-master",
        "/var/lib/discluster/control": "700 discluster-control discluster-control",
        "/var/lib/discluster/assignments": "2750 discluster-control discluster-cluster",
        "/var/lib/discluster/clusters": "2750 discluster-control discluster-cluster",
    }
    said = installed.run("stat", "--format=%n %a %U %G", *expected).stdout
    assert dict(line.split(" ", 1) for line in said.splitlines()) == expected
    groups = {
        "discluster-master": {"discluster-master", "discluster-admin"},
        "discluster-control": {"discluster-control", "discluster-cluster"},
        "discluster-cluster": {"discluster-cluster"},
    }
    for user, expected_groups in groups.items():
        assert installed.run("id", "-u", user).stdout.strip() != "0"
        assert set(installed.run("id", "-Gn", user).stdout.split()) == expected_groups
        shell = installed.run("getent", "passwd", user).stdout.strip().split(":")[-1]
        assert shell == "/usr/sbin/nologin"


def test_every_program_tells_how_it_is_used(installed: Machine) -> None:
    programs = ("master", "control", "cluster", "simulator")
    for program in ("disclusterctl", *(f"discluster-{name}" for name in programs)):
        done = installed.run(program, "--help")
        assert done.stdout.startswith("usage: "), program
        assert done.stderr == ""


def test_every_program_and_settings_file_has_a_manual_page(installed: Machine) -> None:
    for page in PAGES:
        text = installed.run("zcat", f"/usr/share/man/{page}.gz").stdout
        assert text.startswith(".TH "), page


def test_upgrade_leaves_running_clusters_alone_and_restarts_the_others(
    installed: Machine, newer_package: deb.Package
) -> None:
    clusters = run_sleepers(installed, *CLUSTERS)
    daemons = run_sleepers(installed, *DAEMONS)
    put(installed, newer_package)
    apt(installed, "install", "/root/discluster.deb")
    version = installed.run("dpkg-query", "--show", "--showformat=${Version}", "discluster")
    assert version.stdout == newer_package.version
    assert pids(installed, *CLUSTERS) == clusters
    for unit, pid in pids(installed, *DAEMONS).items():
        assert pid not in ("0", daemons[unit]), f"{unit} still runs the old code"


def test_upgrade_starts_nothing_that_was_stopped(
    installed: Machine, newer_package: deb.Package
) -> None:
    put(installed, newer_package)
    apt(installed, "install", "/root/discluster.deb")
    assert set(pids(installed, *DAEMONS).values()) == {"0"}


def test_upgrade_keeps_the_operators_settings(
    installed: Machine, newer_package: deb.Package
) -> None:
    path = "/etc/discluster/master.yaml"
    edited = installed.read(path) + "\n# an operator was here\n"
    installed.write(path, edited)
    put(installed, newer_package)
    apt(installed, "install", "/root/discluster.deb")
    assert installed.read(path) == edited


def test_removal_stops_everything_and_keeps_settings_and_state(installed: Machine) -> None:
    run_sleepers(installed, *CLUSTERS, *DAEMONS)
    installed.write("/var/lib/discluster/control/kept", "state")
    apt(installed, "remove", "discluster")
    running = installed.run("systemctl", "list-units", "--all", "--plain", "discluster-*").stdout
    assert "running" not in running
    assert "failed" not in running
    assert installed.read("/var/lib/discluster/control/kept") == "state"
    assert (installed.disk / "etc/discluster/master.yaml").exists()


def test_purge_leaves_nothing(machine: Machine, package: deb.Package) -> None:
    before = files(machine)
    put(machine, package)
    apt(machine, "install", "/root/discluster.deb")
    assert "/usr/bin/disclusterctl" in files(machine) - before
    run_sleepers(machine, *CLUSTERS, *DAEMONS)
    machine.run("disclusterctl", "--help")
    machine.run("systemctl", "enable", *DAEMONS)
    apt(machine, "purge", "discluster")
    assert files(machine) - before == set()
    for base in ("passwd", "group"):
        assert "discluster" not in machine.run("getent", base).stdout
    assert machine.run("ls", "/run/discluster", check=False).returncode == 2


def test_purge_keeps_what_the_operator_put_beside_our_settings(installed: Machine) -> None:
    installed.write("/etc/discluster/notes.txt", "mine")
    apt(installed, "purge", "discluster")
    listed = installed.run("ls", "/etc/discluster").stdout.split()
    assert listed == ["notes.txt"]


def test_lintian_finds_no_fault(lab_run: object, lab_cache: Cache, package: deb.Package) -> None:
    done = deb.lint(lab_cache, package)
    assert done.returncode == 0, done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))]
