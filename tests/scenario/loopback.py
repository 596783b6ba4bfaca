# SPDX-License-Identifier: Apache-2.0
"""A fleet of real processes on loopback: every host is a directory, the supervisor is embedded."""

import asyncio
import contextlib
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import yaml

from discluster import places
from discluster.lease import BOOT_ID_VARIABLE
from discluster.simulator.client import SimulatorClient
from tests.chaos import recorder
from tests.ports import free_port
from tests.scenario import owners
from tests.scenario.fleet import change_settings
from tests.scenario.masterfiles import back_up, restore, wipe
from tests.scenario.network import DISCORD, MASTER
from tests.scenario.processes import REPOSITORY, Finished, Service, lives, living, run
from tests.scenario.wires import FAR, NEAR, Wires
from tests.waiting import wait_for

TOKEN: Final = "loopback-token"
# Seconds that MASTER waits longer than Discord asks for: on a busy machine the time from the
# writing of an IDENTIFY to its arrival varies that much, whatever the interval is.
MARGIN: Final = 0.25
# For Discord's own interval, the default of the settings is right.
DISCORDS_INTERVAL: Final = 5.0


@final
class LoopbackFleet:
    """See tests.scenario.fleet.Fleet."""

    def __init__(self, *, handler: str = "tests.chaos.recorder:Recorder") -> None:
        """``handler``: of the clusters, in a fleet that is started with ``recording``."""
        # Not pytest's tmp_path: a UNIX socket's path has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="discluster-"))
        self._guardian = subprocess.Popen(
            [sys.executable, "-m", "tests.scenario.guardian", str(self.directory)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self.hosts: tuple[str, ...] = ()
        self._services: dict[str, Service] = {}
        self._simulator: SimulatorClient | None = None
        self._master_settings: dict[str, Any] = {}
        self._pace: dict[str, float] = {}
        self._recorder = handler
        self._handler: dict[str, Any] = {}
        self._control_settings: dict[str, object] = {}
        self._wires: Wires | None = None
        self._boots: Counter[str] = Counter()

    @property
    def network(self) -> Wires:
        assert self._wires is not None, "the fleet was not started with wired=True"
        return self._wires

    @property
    def simulator(self) -> SimulatorClient:
        assert self._simulator is not None, "the fleet was not started"
        return self._simulator

    # --- starting ---

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
        """By default the simulator's identify interval is half a second, MASTER's follows it."""
        self._handler = {"handler": self._recorder} if recording else {}
        self._control_settings = dict(control or {})
        self._credentials.mkdir(parents=True)
        (self._credentials / "discluster.token").write_text(TOKEN)
        settings: dict[str, Any] = {
            "shards": shards,
            "guilds": 20 * shards,
            "max_concurrency": max_concurrency,
            "identify_interval": 0.5,
            **(simulator or {}),
            "tokens": [TOKEN],
            "http_port": free_port(),
            "gateway_ports": [free_port()],
            "control": f"unix:{self.directory / 'simulator.sock'}",
        }
        interval = float(settings["identify_interval"]) * float(settings.get("time_factor", 1.0))
        if interval != DISCORDS_INTERVAL:
            self._pace = {"identify_interval": interval + MARGIN}
        port = free_port()
        self._master_settings = {
            "listen": f"{NEAR}:{port}",
            "names": [NEAR],
            "discord_api": f"http://{NEAR}:{settings['http_port']}/api/v10",
            "shard_count": shards,
            "shards_per_cluster": shards_per_cluster,
            **self._pace,
            "hosts": {name: {"weight": weight} for name, weight in hosts.items()},
            **(master or {}),
            **self._directories(MASTER),
        }
        if wired:
            await self._wire(port, settings, delay)
        await self._start_simulator(settings)
        await self.start_master()
        for name in hosts:
            await self._enrol(name)
        self.hosts = tuple(hosts)

    async def _wire(self, port: int, simulator: dict[str, Any], delay: float) -> None:
        """Leads whoever looks for MASTER or Discord to where the network can be broken."""
        whose = functools.partial(owners.name_of, self.directory)
        self._wires = Wires(whose, delay=delay, rng=random.Random(simulator.get("seed", 1)))
        simulator["advertise"] = FAR
        self._master_settings |= {"names": [FAR], "public_url": f"https://{FAR}:{port}"}
        await self._wires.lead_to(MASTER, port)
        await self._wires.lead_to(DISCORD, simulator["gateway_ports"][0])

    async def _witness(self, host: str) -> dict[str, object]:
        """Where other hosts ask ``host`` for MASTER."""
        port = free_port()
        if self._wires is not None:
            await self._wires.lead_to(host, port)
        at = NEAR if self._wires is None else FAR
        return {"witness_listen": f"{NEAR}:{port}", "witness_address": f"{at}:{port}"}

    async def _start_simulator(self, settings: Mapping[str, Any]) -> None:
        config = self._write("simulator", settings)
        await self._service("simulator", "discluster.simulator", "--config", str(config)).start()
        self._simulator = SimulatorClient(str(settings["control"]))

    async def start_master(self) -> None:
        config = self._write("master", self._master_settings)
        await self._service("master", "discluster.master.main", "--config", str(config)).start()

    async def start_control(self, host: str) -> None:
        config = self.directory / f"{host}.yaml"
        await self._service(host, "discluster.control.main", "--config", str(config)).start()

    async def _enrol(self, name: str) -> None:
        """What an operator does to add a machine, word for word."""
        self._write(f"{name}-cluster", {**self._directories(name), **self._handler})
        settings = {
            "host": name,
            "supervisor": "embedded",
            "embedded_on_stop": "keep",
            "cluster_config": str(self.directory / f"{name}-cluster.yaml"),
            **self._pace,
            "reconnect_maximum": 1,
            **await self._witness(name),
            **self._control_settings,
            **self._directories(name),
        }
        self._write(name, settings)
        joined = await self._join(name)
        assert joined.returncode == 0, joined.stderr
        await self.start_control(name)

    async def _join(self, name: str) -> Finished:
        created = await self.ctl("token", "create", "--host", name)
        assert created.returncode == 0, created.stderr
        words = created.stdout.split()[1:]
        config = self.directory / f"{name}.yaml"
        return await run("discluster.control.main", "--config", str(config), *words)

    async def join_again(self, host: str) -> Finished:
        await self.stop_control(host)
        joined = await self._join(host)
        await self.start_control(host)
        return joined

    async def add_host(self, name: str, weight: float) -> None:
        if weight != 1.0:
            await self.configure(weights={name: weight})
        await self._enrol(name)
        self.hosts += (name,) if name not in self.hosts else ()

    async def configure(
        self,
        *,
        shards_per_cluster: int | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        change_settings(self._master_settings, shards_per_cluster, weights or {})
        await self.restart_master()

    async def edit_master(self, changes: Mapping[str, object]) -> None:
        self._master_settings |= changes
        self._write(MASTER, self._master_settings)

    # --- asking ---

    async def status(self) -> dict[str, Any]:
        done = await self.ctl("status", "--json")
        assert done.stdout.strip(), done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    async def ctl(self, *arguments: str, host: str | None = None) -> Finished:
        return await run(*self.ctl_command(*arguments, host=host)[2:])

    async def elsewhere(self, home: str, *arguments: str) -> Finished:
        place = self.directory / "homes" / home
        place.mkdir(parents=True, exist_ok=True)
        extra = {
            "HOME": str(place),
            "XDG_CONFIG_HOME": "",
            "DISCLUSTER_RUNTIME_DIRECTORY": str(place / "run"),
        }
        return await run("discluster.ctl.main", *arguments, extra=extra)

    def ctl_command(self, *arguments: str, host: str | None = None) -> tuple[str, ...]:
        """``disclusterctl`` with this fleet's sockets, as a command line."""
        return (
            *(sys.executable, "-m", "discluster.ctl.main"),
            *("--socket", str(places.master_socket(self._runtime(host or MASTER)))),
            *("--control-socket", str(places.control_socket(self._runtime(host or MASTER)))),
            *arguments,
        )

    async def set_cluster_setting(self, host: str, name: str, value: str) -> None:
        settings = yaml.safe_load((self.directory / f"{host}-cluster.yaml").read_text())
        self._write(f"{host}-cluster", {**settings, name: value})

    def recordings(self) -> tuple[Path, ...]:
        return (self.directory / "recordings",)

    async def units(self, host: str) -> dict[int, str]:
        return {cluster: "active" for cluster, _ in living(self._runtime(host))}

    async def diagnostics(self) -> str:
        parts = [f"=== {name}\n{service.log()}" for name, service in self._services.items()]
        if self._simulator is not None:
            with contextlib.suppress(OSError):
                records = (await self._simulator.ledger())[-200:]
                parts += ["=== ledger", *map(str, records)]
        return "\n".join(parts)

    # --- doing ---

    async def stop_master(self) -> None:
        await self._services["master"].stop()

    async def restart_master(self) -> None:
        await self.stop_master()
        await self.start_master()

    async def kill_master(self) -> None:
        """As under systemd, it is started again."""
        await self._services["master"].kill()
        await self.start_master()

    async def stop_control(self, host: str) -> None:
        await self._services[host].stop()

    async def restart_control(self, host: str) -> None:
        await self.stop_control(host)
        await self.start_control(host)

    async def kill_control(self, host: str) -> None:
        """As under systemd, it is started again."""
        await self._services[host].kill()
        await self.start_control(host)

    async def shut_down(self, host: str) -> None:
        """What comes nearest: a CONTROL whose clusters end with it is told to stop."""
        config = self.directory / f"{host}.yaml"
        settings = yaml.safe_load(config.read_text())
        if settings["embedded_on_stop"] != "stop":
            config.write_text(yaml.safe_dump({**settings, "embedded_on_stop": "stop"}))
            await self.restart_control(host)
            await wait_for(lambda: self._in_touch(host), 20, what=f"{host} is in touch again")
        await self.stop_control(host)

    async def boot(self, host: str) -> None:
        await self.start_control(host)

    async def cut_power(self, host: str) -> None:
        if self._wires is not None:
            await self._wires.unplug(host)
        await self._services[host].kill()
        await self.kill_clusters(host)
        shutil.rmtree(self._runtime(host))
        self._boots[host] += 1

    async def power_on(self, host: str) -> None:
        if self._wires is not None:
            self._wires.forget(host)
            await self._wires.plug(host)
        await self.start_control(host)

    async def freeze(self, host: str) -> None:
        self._signal(host, signal.SIGSTOP)

    async def thaw(self, host: str) -> None:
        self._signal(host, signal.SIGCONT)

    async def back_up_master(self) -> None:
        back_up(self._masters_files)

    async def restore_master(self) -> None:
        restore(self._masters_files)

    async def wipe_master(self) -> None:
        wipe(self._masters_files)

    async def _in_touch(self, host: str) -> bool:
        if not self._services["master"].running:
            return True
        hosts = (await self.status())["hosts"]
        return any(h["host"] == host and h["state"] == "connected" for h in hosts)

    async def kill_cluster(self, cluster: int) -> None:
        os.kill(self._pid_of(cluster), signal.SIGKILL)

    async def kill_clusters(self, host: str) -> None:
        for _, pid in living(self._runtime(host)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _signal(self, host: str, number: signal.Signals) -> None:
        """CONTROL first, so that it sees nothing of what its clusters do."""
        for pid in (self._services[host].pid, *(pid for _, pid in living(self._runtime(host)))):
            os.kill(pid, number)

    async def kill_host(self, host: str) -> None:
        await self._services[host].kill()
        await self.kill_clusters(host)
        await self.start_control(host)

    async def restart_cluster(self, cluster: int) -> None:
        os.kill(self._pid_of(cluster), signal.SIGTERM)

    async def close(self) -> None:
        """Ends every process that this fleet started."""
        for host in self.hosts:
            with contextlib.suppress(ProcessLookupError):
                await self.thaw(host)
        if self._simulator is not None:
            await self._simulator.close()
        for name in reversed(self._services):
            if name != "simulator":
                await self._services[name].stop()
        pids = [pid for host in self.hosts for _, pid in living(self._runtime(host))]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        # Left alone by their CONTROL, they are nobody's children here: wait until they are gone.
        await wait_for(lambda: not any(map(lives, pids)), 20, what="the clusters end")
        if "simulator" in self._services:
            await self._services["simulator"].stop()
        if self._wires is not None:
            await self._wires.close()
        # Nobody of the fleet is left; it removes the directory.
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        await asyncio.to_thread(self._guardian.wait)

    # --- where things are ---

    @property
    def _credentials(self) -> Path:
        return self.directory / "credentials"

    @property
    def _masters_files(self) -> Path:
        return self.directory / MASTER / "state" / "master"

    def _runtime(self, name: str) -> Path:
        return self.directory / name / "run"

    def _directories(self, name: str) -> dict[str, Any]:
        return {
            "state_directory": str(self.directory / name / "state"),
            "runtime_directory": str(self._runtime(name)),
        }

    def _write(self, name: str, settings: Mapping[str, Any]) -> Path:
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(settings)))
        return path

    def _service(self, name: str, module: str, *arguments: str) -> Service:
        self._services[name] = Service(
            module,
            arguments,
            log=self.directory / f"{name}.log",
            extra={
                "CREDENTIALS_DIRECTORY": str(self._credentials),
                recorder.DIRECTORY: str(self.directory / "recordings"),
                BOOT_ID_VARIABLE: f"{name}{self._boots[name]}",
            },
        )
        return self._services[name]

    def _pid_of(self, cluster: int) -> int:
        running = dict(pair for host in self.hosts for pair in living(self._runtime(host)))
        assert cluster in running, f"no host runs cluster {cluster}"
        return running[cluster]
