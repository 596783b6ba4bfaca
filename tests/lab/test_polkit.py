# SPDX-License-Identifier: Apache-2.0
"""CONTROL's user may manage clusters over D-Bus, and nothing else; no other user may even that."""

import pytest

from tests.lab.commands import Completed
from tests.lab.machines import Lab, Machine

CLUSTER = "discluster-cluster@3.service"
CONTROL = "discluster-control"
REFUSALS = (
    "nteractive authentication required",
    "Access denied",
    "Permission denied",
    "not permitted",
)


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Machine:
    (machine,) = lab.boot("alpha")
    machine.write(
        "/etc/systemd/system/discluster-cluster@.service.d/test.conf",
        "[Service]\nType=exec\nWatchdogSec=0\nExecStart=\nExecStart=/bin/sleep infinity\n",
    )
    machine.write("/etc/systemd/system/other.service", "[Service]\nExecStart=/bin/sleep 999\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "other.service")
    return machine


def call(
    machine: Machine, method: str, signature: str = "", *arguments: str, user: str = CONTROL
) -> Completed:
    """One call of systemd's manager over D-Bus."""
    manager = (
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
    )
    words = [method, signature, *arguments] if signature else [method]
    return machine.run("busctl", "--system", "call", *manager, *words, user=user, check=False)


@pytest.mark.parametrize(
    ("method", "signature", "arguments"),
    [
        ("StartUnit", "ss", (CLUSTER, "replace")),
        ("StopUnit", "ss", (CLUSTER, "replace")),
        ("StartUnit", "ss", ("discluster-cluster@0.service", "replace")),
        ("StartUnit", "ss", ("discluster-cluster@1048576.service", "replace")),
        ("ResetFailedUnit", "s", (CLUSTER,)),
    ],
)
def test_clusters_are_managed(
    machine: Machine, method: str, signature: str, arguments: tuple[str, ...]
) -> None:
    machine.run("systemctl", "start", CLUSTER)
    done = call(machine, method, signature, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("method", "signature", "arguments"),
    [
        ("StartUnit", "ss", ("other.service", "replace")),
        ("StopUnit", "ss", ("dbus.service", "replace")),
        ("StartUnit", "ss", ("discluster-master.service", "replace")),
        ("RestartUnit", "ss", ("discluster-control.service", "replace")),
        ("StopUnit", "ss", ("discluster.slice", "replace")),
        ("StartUnit", "ss", ("discluster-cluster@x.service", "replace")),
        ("StartUnit", "ss", ("discluster-cluster@03.service", "replace")),
        ("StartUnit", "ss", ("discluster-cluster@3.4.service", "replace")),
        ("StartUnit", "ss", ("discluster-cluster@.service.service", "replace")),
        ("StartUnit", "ss", ("poweroff.target", "replace-irreversibly")),
        ("RestartUnit", "ss", (CLUSTER, "replace")),
        ("ReloadUnit", "ss", (CLUSTER, "replace")),
        ("ReloadOrRestartUnit", "ss", (CLUSTER, "replace")),
        ("FreezeUnit", "s", (CLUSTER,)),
        ("CleanUnit", "sas", (CLUSTER, "1", "all")),
        ("KillUnit", "ssi", (CLUSTER, "all", "9")),
        ("SetUnitProperties", "sba(sv)", (CLUSTER, "true", "1", "CPUWeight", "t", "50")),
        ("ResetFailedUnit", "s", ("other.service",)),
        ("ResetFailed", "", ()),
        ("Reload", "", ()),
        ("Reexecute", "", ()),
        ("EnableUnitFiles", "asbb", ("1", "other.service", "true", "false")),
        ("EnableUnitFiles", "asbb", ("1", CLUSTER, "true", "false")),
        ("DisableUnitFiles", "asb", ("1", "other.service", "true")),
        ("LinkUnitFiles", "asbb", ("1", "/tmp/probe.service", "true", "false")),
        ("MaskUnitFiles", "asbb", ("1", CLUSTER, "true", "false")),
        ("SetEnvironment", "as", ("1", "PATH=/tmp")),
        ("Reboot", "", ()),
        ("PowerOff", "", ()),
        ("Halt", "", ()),
        (
            "StartTransientUnit",
            "ssa(sv)a(sa(sv))",
            ("probe.service", "fail", "1", "Description", "s", "x", "0"),
        ),
    ],
)
def test_all_else_is_refused(
    machine: Machine, method: str, signature: str, arguments: tuple[str, ...]
) -> None:
    machine.run("systemctl", "start", CLUSTER)
    pid = machine.unit(CLUSTER, "MainPID")
    done = call(machine, method, signature, *arguments)
    assert done.returncode != 0
    assert any(words in done.stderr for words in REFUSALS), done.stderr
    assert machine.unit(CLUSTER, "MainPID") == pid


def test_transient_unit_cannot_pose_as_a_cluster(machine: Machine) -> None:
    """It could name User=root. systemd asks polkit with the verb "start", so the rule says yes;
    the template's file is what stands in the way, for every name that the rule allows."""
    for name in ("discluster-cluster@7.service", "discluster-cluster@70000.service"):
        arguments = (name, "fail", "1", "User", "s", "root", "0")
        done = call(machine, "StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments)
        assert "already loaded or has a fragment file" in done.stderr
        assert machine.unit(name, "ActiveState") == "inactive"
        assert machine.unit(name, "User") == "discluster-cluster"


def test_transient_unit_that_poses_as_a_cluster_brings_no_other_with_it(machine: Machine) -> None:
    """systemd asks polkit about the first unit only."""
    second = ("evil.service", "1", "ExecStart", "a(sasb)", "1", "/bin/true", "1", "true", "false")
    arguments = ("discluster-cluster@7.service", "fail", "0", "1", *second)
    done = call(machine, "StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments)
    assert "already loaded or has a fragment file" in done.stderr
    assert machine.unit("evil.service", "LoadState") == "not-found"


def test_start_of_a_cluster_cannot_stop_the_rest_of_the_machine(machine: Machine) -> None:
    done = call(machine, "StartUnit", "ss", CLUSTER, "isolate")
    assert "may not be isolated" in done.stderr
    assert machine.unit("other.service", "ActiveState") == "active"


@pytest.mark.parametrize("user", ["discluster-cluster", "discluster-master", "nobody"])
@pytest.mark.parametrize("method", ["StartUnit", "StopUnit", "ResetFailedUnit"])
def test_other_users_cannot_manage_clusters(machine: Machine, user: str, method: str) -> None:
    machine.run("systemctl", "start", CLUSTER)
    pid = machine.unit(CLUSTER, "MainPID")
    arguments = ("s", CLUSTER) if method == "ResetFailedUnit" else ("ss", CLUSTER, "replace")
    done = call(machine, method, *arguments, user=user)
    assert "nteractive authentication required" in done.stderr
    assert machine.unit(CLUSTER, "MainPID") == pid


@pytest.mark.parametrize("user", [CONTROL, "discluster-cluster", "discluster-master"])
@pytest.mark.parametrize("verb", ["poweroff", "reboot", "daemon-reload"])
def test_machine_is_not_theirs_to_switch_off(machine: Machine, user: str, verb: str) -> None:
    """As systemctl does it, by logind where there is one."""
    done = machine.run("systemctl", "--no-ask-password", verb, user=user, check=False)
    assert done.returncode != 0
    assert machine.unit("other.service", "ActiveState") == "active"
    assert machine.run("systemctl", "list-jobs", "--no-legend").stdout in ("", "No jobs running.\n")
