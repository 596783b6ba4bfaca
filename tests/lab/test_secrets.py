# SPDX-License-Identifier: Apache-2.0
"""After everything that can go wrong has gone wrong, the bot token is where it belongs and nowhere
else; and what the running units are exposed to.

On MASTER's machine the token is in the credential store; on the host it is encrypted, in a place of
the operator's choice.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.lab.commands import wait_until
from tests.lab.conftest import JOURNALS, TIMEOUT
from tests.lab.fleet import CLUSTER_DROP_INS, TOKEN, LabFleet, unit_of
from tests.lab.inside import inside, let_in
from tests.lab.machines import Lab, Machine
from tests.lab.runs import Run
from tests.scenario.network import DISCORD, MASTER
from tests.scenario.scenarios import all_ready
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

HOST = "alpha"
SHARDS = 8
STORE = "/etc/credstore/discluster.token"
ENCRYPTED = "/etc/our/token.cred"
DROP_IN = f"[Service]\nLoadCredentialEncrypted=discluster.token:{ENCRYPTED}\n"
NO_CREDENTIAL, NO_TOKEN = "status=243/CREDENTIALS", "no bot token"
PROGRAMS = ("master", "control", "cluster")
ANSWERS = (
    *("status", "status --shards", "status --json", "hosts", "hosts --json"),
    *("plan show", f"plan show {HOST}", "plan diff", "plan diff --json"),
    *("plan history", "plan history --json", "events", "events --json", "moves"),
    *("identify status", "identify status --json", "drain --dry-run alpha", "token create"),
)
PATTERN = "/usr/local/lib/pattern"
# Prints every file, process and journal entry with the token in it. What is looked for comes from a
# file, or the search would find itself. /run/credentials is where systemd puts credentials.
SEARCH = f"""
grep -rlF --devices=skip --exclude-dir=credstore -f {PATTERN} /etc /home /opt /root /srv /tmp /var
grep -rlF --devices=skip --exclude-dir=credentials -f {PATTERN} /run /dev/shm
grep -lF -f {PATTERN} /proc/[0-9]*/cmdline /proc/[0-9]*/environ
journalctl --no-pager --output=export | grep -aF -f {PATTERN}
for unit in $(systemctl list-units --all --plain --no-legend 'discluster*' | cut -d' ' -f1); do
    systemctl show --all $unit | grep -F -f {PATTERN}
    path=$(busctl --system call org.freedesktop.systemd1 /org/freedesktop/systemd1 \\
        org.freedesktop.systemd1.Manager GetUnit s $unit | cut -d'"' -f2)
    busctl --system call org.freedesktop.systemd1 $path \\
        org.freedesktop.DBus.Properties GetAll s "" | grep -F -f {PATTERN}
done 2> /dev/null
true
"""
# Whether the token is in the memory of a process.
SCAN = """
import sys
pid, token = sys.argv[1], open(sys.argv[2], "rb").read().strip()
found = False
with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
    for line in maps:
        span, mode, *rest = line.split()
        if not mode.startswith("rw"):
            continue
        start, end = (int(part, 16) for part in span.split("-"))
        memory.seek(start)
        try:
            found = found or token in memory.read(end - start)
        except OSError:
            pass
print("found" if found else "nothing")
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    request: pytest.FixtureRequest, lab_run: Run, package_lower: tuple[Path, ...]
) -> AsyncIterator[LabFleet]:
    """One in which everything went wrong."""
    lab = Lab(lab_run, package_lower)
    made = LabFleet(lab)
    failed_before = request.session.testsfailed
    try:
        await made.start(shards=SHARDS, hosts={}, shards_per_cluster=4)
        (host,) = lab.boot(HOST)
        let_in(host, "Clumsy")
        _encrypt(host)
        await made.add_host(HOST, 1.0)
        await all_ready(made, SHARDS)
        host.run("rm", STORE)
        for machine in lab.machines.values():
            machine.write(PATTERN, f"{TOKEN}\n")
            machine.write("/usr/local/lib/scan.py", SCAN)
        await _go_wrong(made, lab[MASTER], host)
        yield made
    finally:
        if request.session.testsfailed > failed_before:
            lab.save(JOURNALS / "test_secrets")
        await made.close()


def _encrypt(machine: Machine) -> None:
    """As README says, with a key of the machine and a place of our own."""
    machine.run("mkdir", "-p", "/etc/our")
    command = ("systemd-creds", "encrypt", "--with-key=host", "--name=discluster.token")
    machine.run(*command, "-", ENCRYPTED, stdin=TOKEN)
    machine.write(f"{CLUSTER_DROP_INS}/token.conf", DROP_IN)
    machine.run("systemctl", "daemon-reload")


async def _go_wrong(fleet: LabFleet, master: Machine, host: Machine) -> None:
    numbers = sorted(await fleet.units(HOST))
    unit = unit_of(numbers[0])
    _crash_until_given_up(host, unit)
    host.run("systemctl", "reset-failed", unit)
    host.run("systemctl", "start", unit)
    await _all_ready(fleet)

    await fleet.kill_control(HOST)
    await fleet.kill_master()
    await _all_ready(fleet)

    _start_without_token(host, ENCRYPTED, unit, NO_CREDENTIAL)
    _start_without_token(master, STORE, "discluster-master.service", NO_TOKEN)
    await _all_ready(fleet)

    await fleet.simulator.revoke_token()

    async def rejected() -> bool:
        return "4004" in (await fleet.ctl("status", "--json")).stdout

    await wait_for(rejected, 60, what="Discord rejected the token, and status says so")
    await fleet.kill_cluster(numbers[1])
    await fleet.restart_master()
    await wait_for(rejected, 60, what="MASTER is back")


async def _all_ready(fleet: LabFleet) -> None:
    """Also when MASTER is just coming back."""

    async def answers() -> bool:
        return '"hosts"' in (await fleet.ctl("status", "--json")).stdout

    await wait_for(answers, 60, what="MASTER answers")
    await all_ready(fleet, SHARDS)


def _crash_until_given_up(host: Machine, unit: str) -> None:
    def restarted_or_failed() -> bool:
        pid = host.unit(unit, "MainPID")
        return host.unit(unit, "ActiveState") == "failed" or pid not in ("0", crashed)

    crashed = "0"
    while host.unit(unit, "ActiveState") != "failed":
        crashed = host.unit(unit, "MainPID")
        host.run("systemctl", "kill", "--kill-whom=main", "--signal=ABRT", unit, check=False)
        wait_until(restarted_or_failed, timeout=30, interval=0.1, what=f"{unit} was restarted")


def _start_without_token(machine: Machine, path: str, unit: str, told: str) -> None:
    machine.run("mv", path, f"{path}.away")
    machine.run("systemctl", "restart", unit, check=False)
    wait_until(lambda: told in machine.journal(), timeout=30, interval=0.2, what=told)
    machine.run("mv", f"{path}.away", path)
    machine.run("systemctl", "reset-failed", unit, check=False)
    machine.run("systemctl", "restart", unit)


def pid_of(machine: Machine, unit: str) -> str:
    pid = machine.unit(unit, "MainPID")
    assert pid != "0"
    return pid


def cluster_on(machine: Machine) -> str:
    """A unit of a cluster that runs."""
    listed = machine.run(
        "systemctl", "list-units", "--plain", "--no-legend", "discluster-cluster@*"
    )
    return listed.stdout.split()[0]


# --- where the token is not -----------------------------------------------------------------------


def test_everything_that_was_to_go_wrong_went_wrong(fleet: LabFleet) -> None:
    """Or finding nothing would say little."""
    journal = fleet.lab[HOST].journal()
    assert "Start request repeated too quickly" in journal
    assert "code=killed, status=6/ABRT" in journal
    assert "code=killed, status=9/KILL" in journal
    assert NO_CREDENTIAL in journal
    assert "ValueError: cannot take GUILD_CREATE" in journal
    assert "4004" in journal
    masters = fleet.lab[MASTER].journal()
    assert "code=killed, status=9/KILL" in masters
    assert NO_TOKEN in masters


@pytest.mark.parametrize("name", [MASTER, HOST])
def test_token_is_in_no_file_process_journal_or_property(fleet: LabFleet, name: str) -> None:
    machine = fleet.lab[name]
    found = machine.run("sh", "-c", SEARCH, timeout=120)
    assert found.stdout == ""


def test_token_is_not_in_the_journal_of_what_plays_discord(fleet: LabFleet) -> None:
    assert TOKEN not in fleet.lab[DISCORD].journal("--output=export")


@pytest.mark.parametrize("words", ANSWERS)
def test_token_is_in_no_answer_of_master(fleet: LabFleet, words: str) -> None:
    done = fleet.lab[MASTER].run("disclusterctl", *words.split(), check=False)
    assert done.stdout + done.stderr
    assert "not running" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_token_is_in_no_answer_of_control(fleet: LabFleet) -> None:
    done = fleet.lab[HOST].run("disclusterctl", "status", "--json", check=False)
    assert HOST in done.stdout
    assert TOKEN not in done.stdout + done.stderr


def test_control_never_has_the_token(fleet: LabFleet) -> None:
    """Not in its memory either; where it belongs, the same look finds it."""
    host, master = fleet.lab[HOST], fleet.lab[MASTER]
    seen = {}
    for machine, unit in (
        (host, "discluster-control.service"),
        (host, cluster_on(host)),
        (master, "discluster-master.service"),
    ):
        scan = ("python3", "/usr/local/lib/scan.py", pid_of(machine, unit), PATTERN)
        seen[unit.split("@")[0]] = machine.run(*scan, timeout=120).stdout.strip()
    assert seen["discluster-control.service"] == "nothing"
    assert seen["discluster-cluster"] == "found"
    assert host.run("ls", "/run/credentials").stdout.split() == [
        unit for unit in host.run("ls", "/run/credentials").stdout.split() if "control" not in unit
    ]


def test_token_is_on_the_hosts_disk_only_encrypted(fleet: LabFleet) -> None:
    host = fleet.lab[HOST]
    script = f"grep -rlF --devices=skip -f {PATTERN} / --exclude-dir=proc --exclude-dir=sys"
    found = host.run("sh", "-c", f"{script} --exclude-dir=run", check=False, timeout=120)
    assert found.stdout.split() == [PATTERN]
    command = ("systemd-creds", "decrypt", "--name=discluster.token", ENCRYPTED, "-")
    assert host.run(*command).stdout == TOKEN


def test_search_finds_a_token_wherever_it_is_put(fleet: LabFleet) -> None:
    (spare,) = fleet.lab.boot("spare")
    spare.write(PATTERN, f"{TOKEN}\n")
    unit = unit_of(7)
    places = (
        "/var/lib/discluster/clusters",
        "/run/discluster",
        "/etc",
        "/tmp",
        "/var/tmp",
        "/root",
    )
    files = [f"{place}/planted" for place in places]
    for path in files:
        spare.run("sh", "-c", f"echo {TOKEN} > {path}")
    planted = ("Type=exec", "WatchdogSec=0", "ExecStart=", "ExecStart=/bin/sleep 99")
    text = "\n".join(["[Service]", *planted, f"Environment=T={TOKEN}", ""])
    spare.write(f"/etc/systemd/system/{unit}.d/planted.conf", text)
    spare.run("systemctl", "daemon-reload")
    spare.run("systemctl", "start", unit)
    spare.run("systemd-run", "--unit=planted", "sh", "-c", f": {TOKEN}; sleep 99")
    spare.run("sh", "-c", f"echo {TOKEN} | systemd-cat")
    found = spare.run("sh", "-c", SEARCH, timeout=120).stdout
    for path in files:
        assert f"{path}\n" in found
    assert f"/proc/{pid_of(spare, unit)}/environ" in found
    assert f"/proc/{pid_of(spare, 'planted.service')}/cmdline" in found
    assert f"MESSAGE={TOKEN}" in found
    assert re.search(rf"^Environment=.*{re.escape(TOKEN)}", found, re.MULTILINE)
    assert re.search(rf"^a\{{sv\}} .*{re.escape(TOKEN)}", found, re.MULTILINE), "over D-Bus"


# --- core dumps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_can_be_dumped(fleet: LabFleet, program: str) -> None:
    """By a limit, which holds for files, and by itself, which holds for programs that the kernel
    pipes dumps to. The kernel's core_pattern is the host's, and is left as it is.
    """
    machine = fleet.lab[MASTER if program == "master" else HOST]
    unit = cluster_on(machine) if program == "cluster" else f"discluster-{program}.service"
    pid = pid_of(machine, unit)
    limits = machine.run("cat", f"/proc/{pid}/limits").stdout
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    # What may not be dumped belongs to root, although the process does not.
    assert machine.run("stat", "-c", "%U", f"/proc/{pid}/status").stdout == "root\n"
    user = machine.run("ps", "-o", "user:32=", "-p", pid).stdout.strip()
    assert user == f"discluster-{program}"


def test_crash_of_a_cluster_left_no_core_dump(fleet: LabFleet) -> None:
    host = fleet.lab[HOST]
    journal = host.journal()
    assert "code=killed, status=6/ABRT" in journal
    assert "code=dumped" not in journal
    names = ("(", "-name", "core", "-o", "-name", "core.[0-9]*", "-o", "-name", "*.core", ")")
    found = host.run("find", "/", "-xdev", "-type", "f", *names).stdout
    assert found == ""


# --- exposure -------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS)
def test_exposure_of_the_running_unit_is_at_most_1_5(fleet: LabFleet, program: str) -> None:
    machine = fleet.lab[MASTER if program == "master" else HOST]
    unit = cluster_on(machine) if program == "cluster" else f"discluster-{program}.service"
    assert machine.unit(unit, "ActiveState") == "active"
    done = machine.run(*("systemd-analyze", "security", "--no-pager", "--threshold=15"), unit)
    print(done.stdout.splitlines()[-1])


def test_token_reaches_the_cluster_although_the_store_is_empty(fleet: LabFleet) -> None:
    """By the drop-in's LoadCredentialEncrypted=, and systemd passes it in no variable."""
    host = fleet.lab[HOST]
    assert host.run("ls", "-A", "/etc/credstore").stdout == ""
    number = int(cluster_on(host).partition("@")[2].removesuffix(".service"))
    count = f"grep -cF -f {PATTERN}"
    script = f'{count} "$CREDENTIALS_DIRECTORY/discluster.token"; env | {count}'
    assert inside(host, number, script).stdout.split() == ["1", "0"]
