# SPDX-License-Identifier: Apache-2.0
"""A fleet on lab machines: MASTER, CONTROLs, and a simulated Discord, all out of the package.

The scenario tests drive it through the same interface as the fleet on loopback.
"""

import asyncio
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, final

import yaml

from discluster.simulator.client import SimulatorClient
from tests.chaos import recorder
from tests.lab.breaking import Breaking
from tests.lab.commands import Completed, LabError, wait_until
from tests.lab.machines import Lab, Machine
from tests.scenario.fleet import change_settings
from tests.scenario.masterfiles import back_up, restore, wipe
from tests.scenario.network import DISCORD, MASTER

# As long as a real one, and nowhere else on a machine.
TOKEN: Final = "bGFiLXRva2Vu.Zq7WxT.this-stands-nowhere-else-on-the-machine"
API_PORT: Final = 8080
GATEWAY_PORT: Final = 8081
CONTROL_SOCKET: Final = "/run/simulator.sock"
CLUSTER_UNITS: Final = "discluster-cluster@*.service"
CLUSTER_DROP_INS: Final = "/etc/systemd/system/discluster-cluster@.service.d"
RECORDER: Final = "discluster_recorder"
# Seconds that MASTER waits longer than Discord asks for: on a busy machine the time from the
# writing of an IDENTIFY to its arrival varies that much, whatever the interval is.
MARGIN: Final = 0.25

# How the simulator is reached; the rest of its settings are the test's.
WIRING: Final[Mapping[str, object]] = {
    "host": "0.0.0.0",
    "advertise": DISCORD,
    "http_port": API_PORT,
    "gateway_ports": [GATEWAY_PORT],
    "control": f"unix:{CONTROL_SOCKET}",
    "tokens": [TOKEN],
}
SIMULATOR_UNIT: Final = """\
[Unit]
Description=Simulated Discord

[Service]
ExecStart=/usr/bin/discluster-simulator --config /etc/simulator.yaml
LimitNOFILE=65536
"""


@final
class LabFleet:
    """One fleet; it owns the machines of its lab and is used once.

    MASTER runs on the machine ``master``, the simulator on ``discord``, a CONTROL on each host.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.hosts: tuple[str, ...] = ()
        self._master_settings: dict[str, Any] = {}
        self._interval = 0.0
        self._recording = False
        self._control_settings: dict[str, object] = {}
        self._delay = 0.0
        self._simulator: SimulatorClient | None = None
        self.network = Breaking(lab, lambda: self.hosts)

    @property
    def simulator(self) -> SimulatorClient:
        """The control API of the simulated Discord, once the fleet was started."""
        if self._simulator is None:
            raise LabError("the fleet was not started")
        return self._simulator

    async def start(
        self,
        *,
        shards: int,
        hosts: Mapping[str, float],
        max_concurrency: int = 8,
        shards_per_cluster: int = 4,
        simulator: Mapping[str, object] | None = None,
        recording: bool = False,
        master: Mapping[str, object] | None = None,
        control: Mapping[str, object] | None = None,
        wired: bool = False,
        delay: float = 0.0,
    ) -> None:
        """Boot all machines, enrol the hosts (name to weight) and start every service.

        ``simulator``: settings of the simulated Discord. By default its identify interval is half a
        second, so that a fleet is up in seconds; MASTER's follows whatever it is. ``wired`` changes
        nothing: the network of machines can always be broken.
        """
        self.hosts = tuple(hosts)
        self._recording = recording
        self._control_settings = dict(control or {})
        self._delay = delay
        await asyncio.to_thread(self.lab.boot, DISCORD, MASTER, *hosts)
        settings: dict[str, Any] = {
            **WIRING,
            "shards": shards,
            "guilds": 20 * shards,
            "max_concurrency": max_concurrency,
            "identify_interval": 0.5,
            **(simulator or {}),
        }
        interval = float(settings["identify_interval"]) * float(settings.get("time_factor", 1.0))
        self._interval = interval + MARGIN
        self._master_settings = {
            "names": [MASTER],
            "discord_api": f"http://{DISCORD}:{API_PORT}/api/v10",
            "shard_count": shards,
            "shards_per_cluster": shards_per_cluster,
            "identify_interval": self._interval,
            "hosts": {name: {"weight": weight} for name, weight in hosts.items()},
            **(master or {}),
        }
        await self._start_simulator(settings)
        await asyncio.to_thread(self._configure_master)
        await self._systemctl(MASTER, "enable", "--now", "--quiet", "discluster-master")
        await asyncio.gather(*(self._enrol(name) for name in hosts))

    async def status(self) -> dict[str, Any]:
        """What ``disclusterctl status --json`` prints on MASTER's machine.

        Raises:
            LabError: MASTER does not answer.
        """
        done = await self.ctl("status", "--json")
        if not done.stdout.strip():
            raise LabError(f"no status: {done.stderr.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    async def ctl(self, *arguments: str, host: str | None = None) -> Completed:
        """``disclusterctl`` on the machine of a host, or of MASTER."""
        return await self.lab[host or MASTER].arun("disclusterctl", *arguments, check=False)

    async def elsewhere(self, home: str, *arguments: str) -> Completed:
        """On the machine of the first host, by a user of its own who is in no group of ours."""
        machine = self.lab[self.hosts[0]]
        await machine.arun("useradd", "--create-home", home, check=False)
        command = ("env", f"HOME=/home/{home}", "disclusterctl", *arguments)
        return await machine.arun(*command, user=home, check=False)

    async def start_master(self) -> None:
        await self._systemctl(MASTER, "start", "discluster-master")

    async def stop_master(self) -> None:
        await self._systemctl(MASTER, "stop", "discluster-master")

    async def restart_master(self) -> None:
        await self._systemctl(MASTER, "restart", "discluster-master")

    async def kill_master(self) -> None:
        """SIGKILL; systemd starts it again after a second."""
        await self._kill(MASTER, "discluster-master")

    async def start_control(self, host: str) -> None:
        await self._systemctl(host, "start", "discluster-control")

    async def stop_control(self, host: str) -> None:
        await self._systemctl(host, "stop", "discluster-control")

    async def restart_control(self, host: str) -> None:
        await self._systemctl(host, "restart", "discluster-control")

    async def kill_control(self, host: str) -> None:
        """SIGKILL; systemd starts it again after a second."""
        await self._kill(host, "discluster-control")

    async def add_host(self, name: str, weight: float) -> None:
        """A further machine, or MASTER's, which may be a host as well. A weight other than 1 has to
        be set in MASTER's file first.
        """
        if name not in self.lab.machines:
            await asyncio.to_thread(self.lab.boot, name)
        if weight != 1.0:
            await self.configure(weights={name: weight})
        self.hosts += (name,) if name not in self.hosts else ()
        await self._enrol(name)

    async def configure(
        self,
        *,
        shards_per_cluster: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """Change MASTER's file and restart MASTER."""
        change_settings(self._master_settings, shards_per_cluster, weights or {})
        await asyncio.to_thread(self._configure_master)
        await self.restart_master()

    async def edit_master(self, changes: Mapping[str, object]) -> None:
        """Change MASTER's file."""
        self._master_settings |= changes
        await asyncio.to_thread(self._configure_master)

    async def set_cluster_setting(self, host: str, name: str, value: str) -> None:
        self.lab[host].write("/etc/discluster/cluster.yaml", yaml.safe_dump({name: value}))

    async def shut_down(self, host: str) -> None:
        """``systemctl poweroff``."""
        await asyncio.to_thread(self.lab[host].power_off)

    async def boot(self, host: str) -> None:
        await asyncio.to_thread(self.lab[host].boot)

    async def cut_power(self, host: str) -> None:
        await asyncio.to_thread(self.lab[host].cut_power)

    async def power_on(self, host: str) -> None:
        await asyncio.to_thread(self.lab[host].boot)

    async def freeze(self, host: str) -> None:
        """As a hypervisor does it: systemd stands still as well."""
        await asyncio.to_thread(self.lab[host].freeze)

    async def thaw(self, host: str) -> None:
        await asyncio.to_thread(self.lab[host].freeze, False)

    async def back_up_master(self) -> None:
        back_up(self._masters_files)

    async def restore_master(self) -> None:
        restore(self._masters_files)

    async def wipe_master(self) -> None:
        wipe(self._masters_files)

    async def kill_cluster(self, cluster: int) -> None:
        """SIGKILL of the cluster's main process."""
        await self._kill(await self._host_of(cluster), unit_of(cluster))

    async def kill_clusters(self, host: str) -> None:
        """SIGKILL of all clusters of a host in one command; systemd starts them again."""
        await self._kill(host, CLUSTER_UNITS)

    async def kill_host(self, host: str) -> None:
        """SIGKILL of CONTROL and of all clusters; systemd starts them again."""
        await self._kill(host, "discluster-control.service", CLUSTER_UNITS)

    def recordings(self) -> tuple[Path, ...]:
        """On the disks of all hosts; the machines share one monotonic clock."""
        inside = str(recorder.ON_A_MACHINE).lstrip("/")
        return tuple(self.lab[host].disk / inside for host in self.hosts)

    async def restart_cluster(self, cluster: int) -> None:
        """``systemctl restart``."""
        await self._systemctl(await self._host_of(cluster), "restart", unit_of(cluster))

    async def units(self, host: str) -> dict[int, str]:
        """Every cluster that systemd on ``host`` knows of, with its ActiveState."""
        done = await self.lab[host].arun(
            *("systemctl", "list-units", "--all", "--plain", "--no-legend", CLUSTER_UNITS)
        )
        return parse_units(done.stdout)

    async def diagnostics(self) -> str:
        """The journals of all machines, and the end of what the simulator recorded."""
        parts = [await asyncio.to_thread(self.lab.journals)]
        if self._simulator is not None:
            try:
                records = (await self._simulator.ledger())[-200:]
            except OSError as error:
                records = []
                parts.append(f"no ledger: {error}")
            parts += ["=== ledger", *map(str, records)]
        return "\n".join(parts)

    async def close(self) -> None:
        """Switch everything off."""
        if self._simulator is not None:
            await self._simulator.close()
            self._simulator = None
        await asyncio.to_thread(self.lab.close)

    @property
    def _masters_files(self) -> Path:
        return self.lab[MASTER].disk / "var/lib/discluster/master"

    async def _start_simulator(self, settings: Mapping[str, object]) -> None:
        machine = self.lab[DISCORD]
        machine.write("/etc/simulator.yaml", yaml.safe_dump(dict(settings)))
        machine.write("/etc/systemd/system/simulator.service", SIMULATOR_UNIT)
        await self._systemctl(DISCORD, "daemon-reload")
        await self._systemctl(DISCORD, "start", "simulator")
        socket = machine.root / CONTROL_SOCKET.lstrip("/")
        await asyncio.to_thread(_wait_for_simulator, machine, socket.exists)
        self._simulator = SimulatorClient(f"unix:{socket}")

    def _configure_master(self) -> None:
        machine = self.lab[MASTER]
        machine.write("/etc/discluster/master.yaml", yaml.safe_dump(self._master_settings))
        _give_token(machine)

    async def _enrol(self, name: str) -> None:
        """What an operator does to add a machine, word for word."""
        settings = {
            "identify_interval": self._interval,
            "reconnect_maximum": 1,
            **self._control_settings,
        }
        if self._delay:
            await self.network.delay(name, self._delay)
        self.lab[name].write("/etc/discluster/control.yaml", yaml.safe_dump(settings))
        if self._recording:
            source = Path(recorder.__file__).read_text()
            self.lab[name].write(f"/usr/lib/python3/dist-packages/{RECORDER}.py", source)
            handler = yaml.safe_dump({"handler": f"{RECORDER}:Recorder"})
            self.lab[name].write("/etc/discluster/cluster.yaml", handler)
            place = f"[Service]\nStateDirectory={recorder.ON_A_MACHINE.name}\n"
            self.lab[name].write(f"{CLUSTER_DROP_INS}/recorder.conf", place)
            await self._systemctl(name, "daemon-reload")
        _give_token(self.lab[name])
        joined = await self._join(name)
        if joined.returncode:
            raise LabError(f"{name} did not join: {joined.stderr}")
        await self._systemctl(name, "enable", "--now", "--quiet", "discluster-control")

    async def _join(self, name: str) -> Completed:
        created = await self.ctl("token", "create", "--host", name)
        if created.returncode:
            raise LabError(f"no join token: {created.stderr}")
        return await self.lab[name].arun(*shlex.split(created.stdout.strip()), check=False)

    async def join_again(self, host: str) -> Completed:
        await self.stop_control(host)
        joined = await self._join(host)
        await self.start_control(host)
        return joined

    async def _systemctl(self, name: str, *words: str) -> None:
        machine = self.lab[name]
        done = await machine.arun("systemctl", *words, check=False)
        if done.returncode:
            journal = await asyncio.to_thread(machine.journal, "--lines=60")
            raise LabError(f"{name}: systemctl {' '.join(words)}: {done.stderr}\n{journal}")

    async def _kill(self, name: str, *units: str) -> None:
        await self._systemctl(name, "kill", "--kill-whom=main", "--signal=KILL", *units)

    async def _host_of(self, cluster: int) -> str:
        for host in self.hosts:
            if (await self.units(host)).get(cluster) in ("active", "activating"):
                return host
        raise LabError(f"no host runs cluster {cluster}")


def unit_of(cluster: int) -> str:
    """The unit of a cluster."""
    return f"discluster-cluster@{cluster}.service"


def parse_units(listed: str) -> dict[int, str]:
    """Cluster number to ActiveState, out of ``systemctl list-units --plain --no-legend``."""
    found = {}
    for line in listed.splitlines():
        unit, _, active, _ = line.split(maxsplit=3)
        found[int(unit.partition("@")[2].removesuffix(".service"))] = active
    return found


def _give_token(machine: Machine) -> None:
    machine.write("/etc/credstore/discluster.token", TOKEN, mode=0o600)


def _wait_for_simulator(machine: Machine, listens: Callable[[], bool]) -> None:
    try:
        wait_until(listens, timeout=20, what="the simulator listens")
    except LabError as error:
        raise LabError(f"{error}\n{machine.journal('--unit=simulator')}") from error
