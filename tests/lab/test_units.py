# SPDX-License-Identifier: Apache-2.0
"""The units as systemd 257 sees them: valid, confined, and independent of each other."""

import pytest

from tests.lab.commands import wait_until
from tests.lab.machines import Lab, Machine

UNITS = (
    "discluster-master.service",
    "discluster-control.service",
    "discluster-cluster@3.service",
)
TOKEN = "stand-in.for.a-bot-token"
STATE, RUNTIME = "/var/lib/discluster", "/run/discluster"
# Where each of them writes files, and where it makes sockets. It writes nowhere else.
FILES = {
    UNITS[0]: (f"{STATE}/master",),
    UNITS[1]: (f"{STATE}/control", f"{STATE}/assignments", f"{STATE}/clusters"),
    UNITS[2]: (f"{STATE}/clusters/3",),
}
SOCKETS = {
    UNITS[0]: (f"{RUNTIME}/master",),
    UNITS[1]: (f"{RUNTIME}/control", f"{RUNTIME}/clusters"),
    UNITS[2]: (),
}
# Of its own user, and closed to it.
SIBLING = f"{STATE}/clusters/4"

# What the three programs need of the kernel, done in the sandbox of each of them.
NEEDS = """
import asyncio, ctypes, mmap, os, pathlib, signal, socket, sqlite3, ssl, tempfile, time
import aiohttp, cryptography.x509, dbus_next, msgspec, prometheus_client, uvloop, yaml, zstandard
from cryptography.hazmat.primitives.asymmetric import ec

async def main():
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.open_connection("localhost", port)
    for directory in os.environ["SOCKETS"].split():
        path = f"{directory}/needs.sock"
        await asyncio.start_unix_server(lambda r, w: None, path)
        await asyncio.open_unix_connection(path)
        os.unlink(path)
    child = await asyncio.create_subprocess_exec("/bin/true")
    assert await child.wait() == 0
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0)

uvloop.run(main())
ec.generate_private_key(ec.SECP256R1())
ssl.create_default_context()
zstandard.ZstdDecompressor().decompressobj().decompress(zstandard.compress(b"x" * 999))
for directory in os.environ["FILES"].split():
    path = pathlib.Path(directory, "needs")
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 4096) as pages:
            pages[0:8] = b"12345678"
            pages.flush()
        os.fsync(file.fileno())
    path.rename(path.with_suffix(".done"))
    path.with_suffix(".done").unlink()
time.clock_gettime(time.CLOCK_BOOTTIME)
"""


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Machine:
    (machine,) = lab.boot("alpha")
    owner = ("--owner=discluster-control", "--group=discluster-cluster")
    machine.run("install", "-d", "--mode=0770", *owner, *FILES[UNITS[2]], SIBLING)
    return machine


def override(machine: Machine, unit: str, *lines: str) -> None:
    """Replace what the unit starts, and leave all around it as it is shipped."""
    text = "[Service]\nExecStart=\n" + "\n".join(lines) + "\n"
    machine.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
    machine.run("systemctl", "daemon-reload")


def restore(machine: Machine, *units: str) -> None:
    for unit in units:
        machine.run("systemctl", "stop", unit)
        machine.run("rm", "-rf", f"/etc/systemd/system/{unit}.d")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed")


def test_nothing_fails_on_a_machine_where_the_package_was_only_installed(machine: Machine) -> None:
    assert machine.run("systemctl", "is-system-running", check=False).stdout == "running\n"


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_no_fault_in_the_unit(machine: Machine, unit: str) -> None:
    # --man=no: a lab machine has no man(1). That the pages exist is tested with the package.
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", unit]
    done = machine.run(*command, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS)
def test_exposure_is_at_most_1_5(machine: Machine, unit: str) -> None:
    command = ["systemd-analyze", "security", "--no-pager", "--threshold=15", unit]
    done = machine.run(*command, check=False)
    assert done.returncode == 0, done.stdout
    print(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("unit", UNITS)
def test_the_sandbox_lets_the_programs_do_their_work(machine: Machine, unit: str) -> None:
    machine.write("/usr/local/lib/needs.py", NEEDS)
    override(
        machine,
        unit,
        "Type=oneshot",
        "Restart=no",
        f'Environment="FILES={" ".join(FILES[unit])}" "SOCKETS={" ".join(SOCKETS[unit])}"',
        "ExecStart=/usr/bin/python3 /usr/local/lib/needs.py",
    )
    try:
        done = machine.run("systemctl", "start", unit, check=False)
        journal = machine.journal("--unit", unit)
        assert done.returncode == 0, journal
        assert machine.unit(unit, "Result") == "success"
    finally:
        restore(machine, unit)


@pytest.mark.parametrize("unit", UNITS)
def test_the_sandbox_hides_the_rest_of_the_machine(machine: Machine, unit: str) -> None:
    """Each of these must fail; the unit fails if one does not."""
    machine.write("/usr/local/lib/secret", "readable by root alone\n", mode=0o600)
    attempts = (
        "touch /etc/discluster/probe",
        "touch /usr/probe",
        "touch /var/lib/probe",
        "cat /usr/local/lib/secret",
        "ls /home/someone",
        "grep -q . /proc/1/cmdline",
        "unshare --user true",
        "mknod /tmp/probe c 1 3",
        "python3 -c 'import socket; socket.socket(socket.AF_NETLINK)'",
    )
    places = {SIBLING}.union(*FILES.values(), *SOCKETS.values())
    own = (*FILES[unit], *SOCKETS[unit])
    closed = sorted(place for place in places if not place.startswith(own))
    tried = (*attempts, *(f"touch {place}/probe" for place in closed))
    lines = [f"if {attempt}; then echo possible: {attempt!r}; exit 9; fi" for attempt in tried]
    machine.write("/usr/local/lib/attempts", "\n".join(lines))
    machine.run("mkdir", "-p", "/home/someone")
    override(
        machine, unit, "Type=oneshot", "Restart=no", "ExecStart=/bin/sh /usr/local/lib/attempts"
    )
    try:
        done = machine.run("systemctl", "start", unit, check=False)
        assert done.returncode == 0, machine.journal("--unit", unit)
    finally:
        restore(machine, unit)


def read_credential(machine: Machine, unit: str) -> str:
    """What the unit finds in its credential directory."""
    script = """'cat "$CREDENTIALS_DIRECTORY/discluster.token" > "$SEEN/seen"'"""
    (place,) = FILES[unit]
    command = f"ExecStart=/bin/sh -c {script}"
    override(machine, unit, "Type=oneshot", "Restart=no", f"Environment=SEEN={place}", command)
    try:
        machine.run("systemctl", "start", unit)
        return machine.run("sh", "-c", f"cat {place}/seen; rm {place}/seen").stdout
    finally:
        restore(machine, unit)


@pytest.mark.parametrize("unit", [UNITS[0], UNITS[2]])
def test_token_comes_out_of_the_credential_store(machine: Machine, unit: str) -> None:
    machine.write("/etc/credstore/discluster.token", TOKEN, mode=0o600)
    try:
        assert read_credential(machine, unit) == TOKEN
    finally:
        machine.run("rm", "/etc/credstore/discluster.token")


@pytest.mark.parametrize("unit", [UNITS[0], UNITS[2]])
def test_token_comes_out_of_the_encrypted_credential_store(machine: Machine, unit: str) -> None:
    target = "/etc/credstore.encrypted/discluster.token"
    machine.run("mkdir", "-p", "/etc/credstore.encrypted")
    machine.run(
        *("systemd-creds", "encrypt", "--with-key=host", "--name=discluster.token", "-", target),
        stdin=TOKEN,
    )
    try:
        assert TOKEN not in machine.run("cat", target).stdout
        assert read_credential(machine, unit) == TOKEN
    finally:
        machine.run("rm", target)


def test_cluster_without_token_tells_what_to_do_and_is_not_retried(machine: Machine) -> None:
    unit = UNITS[2]
    machine.run("systemctl", "start", unit, check=False)
    try:
        wait_until(
            lambda: machine.unit(unit, "ActiveState") == "failed", timeout=30, what=f"{unit} failed"
        )
        assert machine.unit(unit, "ExecMainStatus") == "78", machine.journal("--unit", unit)
        assert machine.unit(unit, "NRestarts") == "0"
        journal = machine.journal("--unit", unit, "--invocation=0", "--output=cat")
        assert "/etc/credstore/discluster.token" in journal
        assert "Traceback" not in journal
    finally:
        restore(machine, unit)


def test_cluster_that_control_does_not_plan_tells_why_it_cannot_start(machine: Machine) -> None:
    """By hand, say. Where it would write is CONTROL's to make."""
    unit = "discluster-cluster@77.service"
    machine.write("/etc/credstore/discluster.token", TOKEN, mode=0o600)
    try:
        machine.run("systemctl", "start", unit, check=False)
        wait_until(
            lambda: "CONTROL makes when it plans this cluster" in machine.journal("--unit", unit),
            timeout=30,
            interval=0.1,
            what=f"{unit} tells why",
        )
        assert "Traceback" not in machine.journal("--unit", unit)
    finally:
        machine.run("rm", "/etc/credstore/discluster.token")
        restore(machine, unit)


def test_master_without_token_runs_and_tells_what_to_do(machine: Machine) -> None:
    """It owns what runs already; without a token only Discord's recommendation is out of reach."""
    try:
        machine.run("systemctl", "start", UNITS[0])
        said = machine.run("disclusterctl", "status", "--json", check=False)
        assert "/etc/credstore/discluster.token" in said.stdout
    finally:
        restore(machine, UNITS[0])


def start_sleepers(machine: Machine, *units: str) -> dict[str, str]:
    """Start the units with a program that only sleeps; their main pids."""
    for unit in units:
        override(machine, unit, "Type=exec", "WatchdogSec=0", "ExecStart=/bin/sleep infinity")
    machine.run("systemctl", "start", *units)
    return {unit: machine.unit(unit, "MainPID") for unit in units}


def test_clusters_outlive_master_and_control(machine: Machine) -> None:
    pids = start_sleepers(machine, *UNITS)
    try:
        for action in ("restart", "stop", "kill --signal=KILL", "stop"):
            machine.run("systemctl", *action.split(), *UNITS[:2])
            assert machine.unit(UNITS[2], "ActiveState") == "active"
            assert machine.unit(UNITS[2], "MainPID") == pids[UNITS[2]]
    finally:
        restore(machine, *UNITS)


def test_clusters_of_a_machine_share_one_slice(machine: Machine) -> None:
    assert machine.unit("discluster-cluster@3.service", "Slice") == "discluster.slice"
    assert machine.unit("discluster-cluster@4.service", "Slice") == "discluster.slice"


def test_crash_loop_of_a_cluster_ends_failed_and_reset_failed_ends_that(machine: Machine) -> None:
    unit = UNITS[2]
    override(machine, unit, "Type=exec", "RestartSec=0", "ExecStart=/bin/false")
    try:
        machine.run("systemctl", "start", unit, check=False)
        wait_until(
            lambda: machine.unit(unit, "ActiveState") == "failed",
            timeout=30,
            what="the cluster is given up",
        )
        assert machine.unit(unit, "NRestarts") == "5"
        assert machine.run("systemctl", "start", unit, check=False).returncode != 0
        machine.run("systemctl", "reset-failed", unit)
        assert start_sleepers(machine, unit)[unit] != "0"
    finally:
        restore(machine, unit)


def test_cluster_that_hangs_is_killed_and_started_again(machine: Machine) -> None:
    unit = UNITS[2]
    script = "import sdnotify, time; sdnotify.SystemdNotifier().notify('READY=1'); time.sleep(999)"
    command = f'ExecStart=/usr/bin/python3 -c "{script}"'
    override(machine, unit, "WatchdogSec=1s", "RestartSec=0", command)
    try:
        machine.run("systemctl", "start", unit)
        wait_until(
            lambda: machine.unit(unit, "NRestarts") != "0", timeout=30, what="restarted once"
        )
        assert "Watchdog timeout" in machine.journal("--unit", unit)
    finally:
        restore(machine, unit)


def test_machine_goes_down_with_clusters_before_control_before_master(lab: Lab) -> None:
    (machine,) = lab.boot("beta")
    start_sleepers(machine, *UNITS)
    machine.shut_down()
    lines = machine.journal("--output=cat").splitlines()
    stopped = [line for line in lines if line.startswith("Stopped discluster-")]
    order = [unit for line in stopped for unit in UNITS if unit in line]
    assert order == list(reversed(UNITS))
