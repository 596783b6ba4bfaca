# SPDX-License-Identifier: Apache-2.0
"""What somebody who is root on one machine of the fleet, or on none of it, can do to the others.

A MASTER without a Discord is enough: nobody here gets as far as a shard.
"""

import json
import shlex
from typing import Any, Final

import pytest

from tests.lab.commands import Completed, wait_until
from tests.lab.machines import Lab, Machine

MASTER: Final = "https://master:7443"
SETTINGS: Final = """\
names: [master]
discord_api: http://127.0.0.1:9/api
hosts: {alpha: {}, beta: {}}
"""
# Root of a machine has CONTROL's files and its code; what follows is CONTROL's, but for the words.
PRELUDE: Final = """\
import asyncio, ssl, sys, time
from pathlib import Path
import aiohttp
from cryptography.hazmat.primitives.asymmetric import ec
from discluster import pem
from discluster.control.identity import Identity
from discluster.messages import *

IDENTITY = Identity(Path("/var/lib/discluster/control/identity"))

async def dial(context, host="alpha"):
    '''What MASTER says to who greets it like this.'''
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect("https://master:7443/v1/control", ssl=context) as socket:
            hello = Hello(protocol=PROTOCOL, version="0", report=HostReport(plan_generation=0))
            await socket.send_bytes(encode(hello))
            request = pem.request_for(ec.generate_private_key(ec.SECP256R1()), "beta")
            await socket.send_bytes(encode(RenewRequest(csr=request)))
            while (said := await socket.receive(timeout=10)).type is aiohttp.WSMsgType.BINARY:
                message = decode(master_to_control, said.data, peer="MASTER")
                if isinstance(message, Rejected):
                    print("rejected", message.code)
                    return
                if isinstance(message, Renewed):
                    print("certificate of", pem.read(message.certificate).host)
                    return

async def witness(context, address):
    reader, writer = await asyncio.open_connection(address, 7444, ssl=context)
    writer.write(b"GET /v1/witness HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print("witness says", (await reader.read())[:15])

def nobody():
    context = ssl.create_default_context(cafile="/var/lib/discluster/control/identity/ca.crt")
    context.check_hostname = False
    return context

def run(work):
    try:
        asyncio.run(work)
    except (OSError, aiohttp.ClientError) as error:
        print("refused", type(error).__name__)
"""


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Lab:
    """MASTER, alpha and beta; the line with which beta joined is in its ``/root/used``."""
    lab.boot("master", "alpha", "beta")
    master = lab["master"]
    master.write("/etc/discluster/master.yaml", SETTINGS)
    master.write("/etc/credstore/discluster.token", "stand-in", mode=0o600)
    master.run("systemctl", "start", "discluster-master")
    for name in ("alpha", "beta"):
        line = token_line(master, "--host", name)
        lab[name].run(*line)
        lab[name].run("systemctl", "start", "discluster-control")
        lab[name].write("/root/used", shlex.join(line))
    in_touch(master, "alpha", "beta")
    return lab


def in_touch(master: Machine, *names: str, within: float = 40) -> None:
    wait_until(lambda: connected(master) == {*names}, timeout=within, what=f"{names} are there")


def token_line(master: Machine, *options: str) -> list[str]:
    return shlex.split(master.run("disclusterctl", "token", "create", *options).stdout)


def connected(master: Machine) -> set[str]:
    status: dict[str, Any] = json.loads(
        master.run("disclusterctl", "status", "--json", check=False).stdout or '{"hosts": []}'
    )
    return {host["host"] for host in status["hosts"] if host["state"] == "connected"}


def attack(machine: Machine, work: str) -> str:
    """What came of ``work``, a Python expression, done by root there."""
    script = f"{PRELUDE}\nrun({work})\n"
    return machine.run("/usr/bin/python3", "-W", "ignore", "-", stdin=script).stdout.strip()


OWN: Final = "IDENTITY.ssl_context('alpha', now=time.time())"
ASKING: Final = "IDENTITY.asking_context('alpha', now=time.time())"


def test_root_of_one_host_gets_no_certificate_of_another(fleet: Lab) -> None:
    assert attack(fleet["alpha"], f"dial({OWN})") == "certificate of alpha"


def test_machine_without_a_certificate_gets_nowhere(fleet: Lab) -> None:
    assert attack(fleet["alpha"], "dial(nobody())") == "rejected no-certificate"
    stranger = "(lambda c: (setattr(c, 'verify_mode', ssl.CERT_NONE), c)[1])(nobody())"
    said = attack(fleet["alpha"], f"witness({stranger}, 'beta')")
    assert said.startswith("refused") or said == "witness says b''"
    said = attack(fleet["alpha"], f"witness({ASKING}, 'beta')")
    assert said == "witness says b'HTTP/1.1 200 OK'", "the same with alpha's certificate"


def test_tls_1_2_is_refused_by_master_and_by_witnesses(fleet: Lab) -> None:
    for port, address in (("7443", "master"), ("7444", "beta")):
        done = fleet["alpha"].run(
            *("openssl", "s_client", "-tls1_2", "-connect", f"{address}:{port}"), check=False
        )
        assert done.returncode != 0
        assert "no peer certificate available" in done.stdout


def joining(fleet: Lab, *line: str) -> Completed:
    return fleet["beta"].run(*line, check=False)


def test_stolen_token_that_was_used_is_of_no_use(fleet: Lab) -> None:
    line = shlex.split(fleet["beta"].read("/root/used"))
    before = fleet["beta"].read("/var/lib/discluster/control/identity/host.pem")
    done = joining(fleet, *line)
    assert done.returncode == 77
    assert "the join token was used already, by beta" in done.stderr
    assert fleet["beta"].read("/var/lib/discluster/control/identity/host.pem") == before
    told = fleet["master"].run("disclusterctl", "events").stdout
    assert "may not join as beta: the join token was used already" in told


def test_token_takes_no_name_that_somebody_has(fleet: Lab) -> None:
    done = joining(fleet, *token_line(fleet["master"]), "--host", "alpha")
    assert done.returncode == 77
    assert "alpha is a host of this fleet already" in done.stderr
    bound = token_line(fleet["master"], "--host", "gamma")
    done = joining(fleet, *bound[:-1], "alpha")
    assert "the join token is for another host than alpha" in done.stderr


def test_wrong_fingerprint_sends_no_token(fleet: Lab) -> None:
    line = token_line(fleet["master"], "--host", "gamma")
    wrong = [word if not word.startswith("sha256:") else f"sha256:{'0' * 64}" for word in line]
    done = joining(fleet, *wrong)
    assert done.returncode == 77
    assert "another authority than expected" in done.stderr


@pytest.mark.parametrize("user", ["nobody", "daemon"])
def test_keys_are_their_owners_alone(fleet: Lab, user: str) -> None:
    for machine, path in (
        ("master", "/var/lib/discluster/master/ca/ca.pem"),
        ("master", "/var/lib/discluster/master/ca/server.pem"),
        ("alpha", "/var/lib/discluster/control/identity/host.pem"),
    ):
        assert fleet[machine].run("cat", path).stdout
        assert "ermission denied" in fleet[machine].run("cat", path, user=user, check=False).stderr


def test_authoritys_key_that_others_can_read_stops_master_with_its_name(fleet: Lab) -> None:
    master, path = fleet["master"], "/var/lib/discluster/master/ca/ca.pem"
    master.run("chmod", "640", path)
    master.run("systemctl", "restart", "discluster-master", check=False)

    def told() -> bool:
        return f"{path}: others than MASTER's user" in master.journal("-u", "discluster-master")

    wait_until(told, timeout=20, what="MASTER names the file")
    master.run("chmod", "600", path)
    master.run("systemctl", "reset-failed", "discluster-master")
    master.run("systemctl", "restart", "discluster-master")
    in_touch(master, "alpha", "beta")


def test_revoked_host_is_kept_out_by_master_and_by_other_hosts(fleet: Lab) -> None:
    """The last one: alpha is out after this."""
    master = fleet["master"]
    copy = "/root/stolen"
    fleet["beta"].run("mkdir", copy)
    for name in ("host.pem", "ca.crt"):
        text = fleet["alpha"].read(f"/var/lib/discluster/control/identity/{name}")
        fleet["beta"].write(f"{copy}/{name}", text)
    done = master.run("disclusterctl", "host", "revoke", "alpha")
    assert "alpha is cut off and kept out" in done.stdout
    in_touch(master, "beta", within=5)
    assert attack(fleet["alpha"], f"dial({OWN})") == "rejected revoked"
    stolen = OWN.replace("IDENTITY", f"Identity(Path('{copy}'))")
    assert attack(fleet["beta"], f"dial({stolen})") == "rejected revoked", "wherever its key is"

    def shut() -> bool:
        said = attack(fleet["alpha"], f"witness({ASKING}, 'beta')")
        return said.startswith("refused") or said == "witness says b''"

    wait_until(shut, timeout=10, what="beta does not answer alpha any more")
    fleet["alpha"].run(*token_line(master, "--host", "alpha"))
    fleet["alpha"].run("systemctl", "restart", "discluster-control")
    wait_until(
        lambda: connected(master) == {"alpha", "beta"}, timeout=30, what="it is let in again"
    )
