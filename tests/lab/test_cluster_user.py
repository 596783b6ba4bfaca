# SPDX-License-Identifier: Apache-2.0
"""An attacker on a host: who has the clusters' user, and who has the code of a packet handler.

One machine runs MASTER, CONTROL and two clusters, so that everything worth having is in reach. What
the first may not, is refused by users and groups alone: its processes run outside of any unit. The
second has the same user, in the unit of a cluster.
"""

import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from discluster.messages import ClusterReport, PermitRequest, StatusQuery, encode
from tests.lab.commands import Completed, wait_until
from tests.lab.conftest import TIMEOUT, lab_fleet
from tests.lab.fleet import CLUSTER_DROP_INS, TOKEN, LabFleet, unit_of
from tests.lab.inside import inside, let_in
from tests.lab.machines import Machine
from tests.lab.runs import Run
from tests.scenario.network import MASTER
from tests.scenario.scenarios import all_ready

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

CLUSTER, CONTROL, MASTERS = "discluster-cluster", "discluster-control", "discluster-master"
STATE, RUNTIME = "/var/lib/discluster", "/run/discluster"
MASTER_SOCKET, CONTROL_SOCKET = f"{RUNTIME}/master/master.sock", f"{RUNTIME}/control/control.sock"
CLUSTERS_SOCKET, LEASE = f"{RUNTIME}/clusters/control.sock", f"{RUNTIME}/clusters/lease.json"
IDENTITY, CA = f"{STATE}/control/identity", f"{STATE}/master/ca"
OWNERS = {CONTROL: "discluster-control.service", MASTERS: "discluster-master.service"}
SHARDS = 8

# Connects, says one line, and prints what comes back within a moment.
TALK = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.settimeout(3)
try:
    peer.sendall(sys.argv[2].encode() + b"\\n")
    print(peer.recv(65536).decode() or "cut off")
except ConnectionError:
    print("cut off")
"""
# Looks into another process, in each way that there is.
LOOK = """
import ctypes, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(16, pid, 0, 0) == 0:
    print("attached")
buffer = ctypes.create_string_buffer(8)
class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
# The address need not be good: what is not allowed is told first (EPERM), else it is EFAULT.
here, there = Iovec(ctypes.addressof(buffer), 8), Iovec(4096, 8)
libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
if ctypes.get_errno() not in (1, 3):
    print("read", ctypes.get_errno())
for name in ("mem", "environ", "maps", "fd/0", "root/etc"):
    try:
        open(f"/proc/{pid}/{name}", "rb").read(1)
        print("opened", name)
    except OSError:
        pass
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    request: pytest.FixtureRequest, lab_run: Run, package_lower: tuple[Path, ...]
) -> AsyncIterator[LabFleet]:
    async with lab_fleet(request, lab_run, package_lower) as made:
        await made.start(shards=SHARDS, hosts={}, shards_per_cluster=4)
        machine = made.lab[MASTER]
        let_in(machine, "Intruder")
        machine.write("/usr/local/lib/talk.py", TALK)
        machine.write("/usr/local/lib/look.py", LOOK)
        await made.add_host(MASTER, 1.0)
        await all_ready(made, SHARDS)
        yield made


@pytest.fixture
def machine(fleet: LabFleet) -> Machine:
    return fleet.lab[MASTER]


@pytest.fixture
def clusters(machine: Machine) -> tuple[int, int]:
    """The numbers of the two clusters: the attacker's, and its sibling's."""
    listed = machine.run("ls", f"{STATE}/clusters").stdout.split()
    first, second = sorted(map(int, listed))
    return first, second


def pid_of(machine: Machine, unit: str) -> str:
    pid = machine.unit(unit, "MainPID")
    assert pid != "0"
    return pid


def refused(done: Completed) -> bool:
    words = ("Permission denied", "not permitted", "Read-only file system")
    return done.returncode != 0 and any(word in done.stdout + done.stderr for word in words)


def report(cluster: int) -> str:
    """What introduces a cluster."""
    said = ClusterReport(cluster=cluster, pid=1, generation=0, uptime=0, handler="", shards=())
    return encode(said).decode()


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "path"),
    [
        *[(CLUSTER, f"{IDENTITY}/{name}") for name in ("host.pem", "joined.json")],
        *[(CLUSTER, f"{STATE}/control/{name}") for name in ("plan.yaml", "identify.json")],
        *[(CLUSTER, f"{STATE}/master/{name}") for name in ("fleet.yaml", "tokens.json")],
        *[(user, CA) for user in (CLUSTER, CONTROL)],
        *[(user, f"{STATE}/master/checkpoints.msgpack") for user in (CLUSTER, CONTROL)],
        *[(MASTERS, path) for path in (IDENTITY, f"{STATE}/assignments", f"{STATE}/clusters")],
        (MASTERS, LEASE),
        *[(user, "/etc/credstore/discluster.token") for user in (CLUSTER, CONTROL, MASTERS)],
        (CONTROL, "/run/credentials/discluster-master.service/discluster.token"),
        (CLUSTER, "/run/credentials/discluster-master.service/discluster.token"),
    ],
)
def test_what_another_program_keeps_cannot_be_read(machine: Machine, user: str, path: str) -> None:
    wait_until(
        lambda: machine.run("test", "-e", path, check=False).returncode == 0,
        timeout=30,
        what=f"{path} is there",
    )
    assert refused(machine.run("grep", "-r", ".", path, user=user, check=False)), path


def test_control_cannot_read_the_token_of_a_cluster(
    machine: Machine, clusters: tuple[int, int]
) -> None:
    """It is of the clusters' group, but has no use for the token, and does not get it."""
    path = f"/run/credentials/{unit_of(clusters[0])}/discluster.token"
    assert machine.run("cat", path).stdout == TOKEN
    assert refused(machine.run("cat", path, user=CONTROL, check=False))


def test_clusters_read_what_is_assigned_and_the_lease(
    machine: Machine, clusters: tuple[int, int]
) -> None:
    """Each what is assigned to all of its machine: they have one user, and one token."""
    for path in (LEASE, *(f"{STATE}/assignments/{number}.json" for number in clusters)):
        assert json.loads(machine.run("cat", path, user=CLUSTER).stdout)


@pytest.mark.parametrize(
    "attempt",
    [
        "echo x >> {assignment}",
        "rm -f {assignment}",
        "mv /tmp/mine {assignment}",
        "ln -sf /tmp/mine {assignment}.new",
        "touch /var/lib/discluster/assignments/99.json",
        "echo x >> {lease}",
        "rm -f {lease}",
        "mv /tmp/mine {lease}",
        "ln -sf /tmp/mine {lease}.new",
        "rm -f {socket}",
        "touch /run/discluster/clusters/probe",
        "touch /run/discluster/probe",
        "touch /run/discluster/control/probe",
        "touch /run/discluster/master/probe",
        "mv {clusters}/{number} {clusters}/moved",
        "ln -s /etc {clusters}/99",
        "chmod 0777 {clusters}/{number}",
        "touch /var/lib/discluster/control/identity/host.pem",
        "touch /var/lib/discluster/probe",
        "touch /etc/discluster/cluster.yaml",
    ],
)
def test_what_binds_the_clusters_cannot_be_changed_by_their_user(
    machine: Machine, clusters: tuple[int, int], attempt: str
) -> None:
    machine.run("touch", "/tmp/mine", user=CLUSTER)
    words = attempt.format(
        assignment=f"{STATE}/assignments/{clusters[1]}.json",
        lease=LEASE,
        socket=CLUSTERS_SOCKET,
        clusters=f"{STATE}/clusters",
        number=clusters[1],
    )
    done = machine.run("sh", "-c", words, user=CLUSTER, check=False)
    assert refused(done), (words, done)


def test_cluster_cannot_write_where_its_sibling_does(
    machine: Machine, clusters: tuple[int, int]
) -> None:
    """Their user might; the sandbox of each one's unit lets it write to its own place alone."""
    own, sibling = clusters
    assert inside(machine, own, f"touch {STATE}/clusters/{own}/mine").returncode == 0
    for words in ("touch {}/theirs", "rm -f {}/sessions", "ln -sf /etc/passwd {}/sessions"):
        done = inside(machine, own, words.format(f"{STATE}/clusters/{sibling}"))
        assert refused(done), (words, done)


# --- sockets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "socket"),
    [
        (CLUSTER, MASTER_SOCKET),
        (CLUSTER, CONTROL_SOCKET),
        (CONTROL, MASTER_SOCKET),
        (MASTERS, CLUSTERS_SOCKET),
        *[("nobody", path) for path in (MASTER_SOCKET, CONTROL_SOCKET, CLUSTERS_SOCKET)],
    ],
)
def test_socket_of_others_cannot_be_reached(machine: Machine, user: str, socket: str) -> None:
    """CONTROL is none of MASTER's operators either."""
    question = encode(StatusQuery()).decode()
    talk = ("python3", "/usr/local/lib/talk.py", socket, question)
    assert refused(machine.run(*talk, user=user, check=False))


@pytest.mark.parametrize("user", [CLUSTER, "nobody"])
def test_disclusterctl_says_who_may_use_it(machine: Machine, user: str) -> None:
    done = machine.run("disclusterctl", "status", user=user, check=False)
    assert done.returncode not in (0, 3)
    assert "discluster-admin" in done.stderr
    assert "Traceback" not in done.stderr


def test_operator_of_the_group_reaches_master_and_control(machine: Machine) -> None:
    machine.run("useradd", "--groups", "discluster-admin", "watcher")
    assert machine.run("disclusterctl", "status", user="watcher").returncode == 0
    talk = ("python3", "/usr/local/lib/talk.py", CONTROL_SOCKET, encode(StatusQuery()).decode())
    assert '"type":"host_status"' in machine.run(*talk, user="watcher").stdout


@pytest.mark.parametrize("message", [report(1), encode(PermitRequest(shard=0)).decode()])
def test_operator_cannot_pose_as_a_cluster(machine: Machine, message: str) -> None:
    for socket in (CONTROL_SOCKET, CLUSTERS_SOCKET):
        done = machine.run("python3", "/usr/local/lib/talk.py", socket, message)
        assert done.stdout == "cut off\n"


def connected(machine: Machine, cluster: int) -> bool:
    """Whether the cluster has its connection to CONTROL."""
    return "CONTROL is away" not in machine.unit(unit_of(cluster), "StatusText")


def test_process_outside_of_the_units_is_no_cluster_though_it_has_their_user(
    machine: Machine, clusters: tuple[int, int]
) -> None:
    talk = ("python3", "/usr/local/lib/talk.py", CLUSTERS_SOCKET, report(clusters[0]))
    assert machine.run(*talk, user=CLUSTER).stdout == "cut off\n"
    journal = machine.journal("--unit=discluster-control", "--lines=20")
    assert f"is none of cluster {clusters[0]}" in journal
    assert connected(machine, clusters[0])


def test_cluster_can_speak_for_itself_and_for_no_other(
    machine: Machine, clusters: tuple[int, int]
) -> None:
    own, sibling = clusters
    talk = f"python3 /usr/local/lib/talk.py {CLUSTERS_SOCKET} "
    assert inside(machine, own, talk + shlex.quote(report(sibling))).stdout == "cut off\n"
    assert f"is none of cluster {sibling}" in machine.journal("--unit=discluster-control")
    for message in (StatusQuery(), PermitRequest(shard=0)):
        said = inside(machine, own, talk + shlex.quote(encode(message).decode())).stdout
        assert said == "cut off\n"
    # Its own connection is replaced by this one, and made again when it is closed.
    assert '"type":"' in inside(machine, own, talk + shlex.quote(report(own))).stdout
    assert connected(machine, sibling)
    wait_until(lambda: connected(machine, own), timeout=30, what="the cluster is connected again")


# --- D-Bus and processes --------------------------------------------------------------------------


def test_cluster_cannot_manage_units(machine: Machine, clusters: tuple[int, int]) -> None:
    unit = unit_of(clusters[1])
    pid = pid_of(machine, unit)
    manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
    for call in (
        f"StopUnit ss {unit} replace",
        f"RestartUnit ss {unit} replace",
        "StopUnit ss discluster-control.service replace",
        f"KillUnit ssi {unit} all 9",
        f"SetUnitProperties 'sba(sv)' {unit} true 1 CPUWeight t 1",
        "Reload",
    ):
        done = inside(machine, clusters[0], f"busctl --system call {manager} {call}")
        assert done.returncode != 0, call
        words = ("nteractive authentication required", "denied", "not permitted")
        assert any(word in done.stdout for word in words), done
    assert pid_of(machine, unit) == pid


@pytest.mark.parametrize(
    ("user", "unit"),
    [
        (CLUSTER, OWNERS[CONTROL]),
        (CLUSTER, OWNERS[MASTERS]),
        (CONTROL, OWNERS[MASTERS]),
        (MASTERS, OWNERS[CONTROL]),
    ],
)
def test_process_of_another_program_can_be_neither_killed_nor_looked_into(
    machine: Machine, user: str, unit: str
) -> None:
    pid = pid_of(machine, unit)
    for signal in ("STOP", "KILL", "USR1"):
        done = machine.run("kill", f"-{signal}", pid, user=user, check=False)
        assert "not permitted" in done.stderr
    looked = machine.run("python3", "/usr/local/lib/look.py", pid, user=user)
    assert looked.stdout == ""
    assert pid_of(machine, unit) == pid


def test_control_can_neither_kill_a_cluster_nor_look_into_it(
    machine: Machine, clusters: tuple[int, int]
) -> None:
    """The token is in its memory."""
    pid = pid_of(machine, unit_of(clusters[0]))
    assert "not permitted" in machine.run("kill", pid, user=CONTROL, check=False).stderr
    assert machine.run("python3", "/usr/local/lib/look.py", pid, user=CONTROL).stdout == ""


def test_look_finds_what_is_open_to_it(machine: Machine) -> None:
    """Or its silence above would say nothing."""
    script = "sleep 60 & python3 /usr/local/lib/look.py $!; kill -9 $!"
    said = machine.run("sh", "-c", script, user=CLUSTER).stdout
    assert "attached" in said
    assert "opened environ" in said


def test_cluster_cannot_look_into_its_sibling(machine: Machine, clusters: tuple[int, int]) -> None:
    """Nor who is outside of the units: each has a user namespace of its own."""
    own, sibling = clusters
    pid = pid_of(machine, unit_of(sibling))
    look = f"python3 /usr/local/lib/look.py {pid}"
    assert inside(machine, own, look).stdout == ""
    assert machine.run(*look.split(), user=CLUSTER).stdout == ""
    # What it can do is stated in ARCHITECTURE.md: a signal needs no more than the same user.


# --- what CONTROL reads of a cluster --------------------------------------------------------------


@pytest.mark.parametrize(
    ("put", "told"),
    [
        (f"ln -s {IDENTITY}/host.pem sessions", "cannot be read: Too many levels"),
        ("mkfifo sessions", "cannot be read: it is not a file"),
        ("truncate -s 1T sessions", "it begins with something else"),
        ("mkdir sessions", "cannot be read: it is not a file"),
        ("head -c 4096 sessions.kept > sessions", "its size is wrong"),
        ("chmod 0 sessions.kept; mv sessions.kept sessions", "cannot be read: Permission denied"),
    ],
)
def test_what_a_cluster_puts_for_its_session_file_is_not_followed_or_waited_for(
    machine: Machine, clusters: tuple[int, int], put: str, told: str
) -> None:
    own = clusters[0]
    pid = pid_of(machine, OWNERS[CONTROL])
    before = machine.journal("--unit=discluster-control").count(told)
    done = inside(machine, own, f"umask 0; mv sessions sessions.kept; {put}")
    try:
        assert done.returncode == 0, done
        wait_until(
            lambda: machine.journal("--unit=discluster-control").count(told) > before,
            timeout=30,
            interval=0.2,
            what=f"CONTROL tells: {told}",
        )
    finally:
        inside(
            machine,
            own,
            "test -e sessions.kept || mv sessions sessions.kept; chmod 0640 sessions.kept;"
            " rm -rf sessions; mv sessions.kept sessions",
        )
    assert pid_of(machine, OWNERS[CONTROL]) == pid
    assert "PRIVATE KEY" not in machine.journal()


def test_root_that_joins_anew_writes_through_no_link_of_controls_user(machine: Machine) -> None:
    """Or CONTROL's user could have any file of the machine replaced, and given to itself."""
    machine.write("/etc/victim", "precious\n", mode=0o600)
    for name in ("host.pem.new", "ca.crt.new", "joined.json.new"):
        machine.run("ln", "-s", "/etc/victim", f"{IDENTITY}/{name}", user=CONTROL)
    line = machine.run("disclusterctl", "token", "create", "--host", MASTER).stdout
    done = machine.run(*shlex.split(line.strip()), check=False)
    assert machine.read("/etc/victim") == "precious\n"
    assert machine.run("stat", "-c", "%U", "/etc/victim").stdout == "root\n"
    assert "Traceback" not in done.stderr
    for name in ("host.pem.new", "ca.crt.new", "joined.json.new"):
        machine.run("rm", "-f", f"{IDENTITY}/{name}")
    line = machine.run("disclusterctl", "token", "create", "--host", MASTER).stdout
    machine.run(*shlex.split(line.strip()))
    owners = machine.run("stat", "-c", "%U %a", f"{IDENTITY}/host.pem").stdout
    assert owners == f"{CONTROL} 600\n"


# --- the sandbox, loosened ------------------------------------------------------------------------

# Each line says what it could do.
LOOSE = """
import mmap, pathlib, socket
def attempt(name, what):
    try:
        what()
        print(name)
    except OSError:
        pass
attempt("code", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt("place", lambda: pathlib.Path("/srv/bot/probe").write_text("x"))
attempt("state", lambda: pathlib.Path("/var/lib/our-bot/probe").write_text("x"))
"""
DROP_IN = """\
[Service]
StateDirectory=our-bot
ReadWritePaths=/srv/bot
MemoryDenyWriteExecute=no
RestrictAddressFamilies=AF_NETLINK
"""


def test_drop_in_loosens_the_handlers_sandbox_and_the_cluster_runs_on(
    machine: Machine, clusters: tuple[int, int]
) -> None:
    """As docs/handlers.md says."""
    machine.write("/usr/local/lib/loose.py", LOOSE)
    machine.run("install", "-d", f"--owner={CLUSTER}", "/srv/bot")
    probe = "python3 /usr/local/lib/loose.py"
    assert inside(machine, clusters[0], probe).stdout == ""

    machine.write(f"{CLUSTER_DROP_INS}/loose.conf", DROP_IN)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", unit_of(clusters[0]))

    assert inside(machine, clusters[0], probe).stdout.split() == [
        *("code", "netlink", "place", "state")
    ]
    wait_until(
        lambda: "4 of 4 shards ready" in machine.unit(unit_of(clusters[0]), "StatusText"),
        timeout=60,
        interval=0.2,
        what="its shards are resumed",
    )
