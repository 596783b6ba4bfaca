# SPDX-License-Identifier: Apache-2.0
"""Debian 13 machines: boot them, enter them, cut their power, pull their cables."""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, final

from tests.lab import network
from tests.lab.cgroups import Cgroup
from tests.lab.commands import Completed, LabError, run, wait_until
from tests.lab.runs import NSPAWN_ENVIRONMENT, Run

_BOOTED: Final = ("running", "degraded")
_HALT: Final = signal.SIGRTMIN + 4  # systemd(1): poweroff.target
_ENTER: Final = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")


@final
class Machine:
    """One machine. Its disk outlives its boots, until the lab is closed."""

    def __init__(
        self, run: Run, switch: network.Switch, label: str, name: str, number: int, disk: Path
    ) -> None:
        self.name = name
        self.address = network.address(number)
        self.number = number
        self.disk = disk
        self.namespace = run.name(f"{label}-{name}")
        self._switch = switch
        self._group: Cgroup = run.cgroup(self.namespace)
        self._console = run.directory / f"{self.namespace}.console"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    @property
    def leader(self) -> int:
        """The pid of the machine's pid 1, as the host counts.

        Raises:
            LabError: it is switched off.
        """
        if not self._leader:
            raise LabError(f"{self.name} is switched off")
        return self._leader

    @property
    def root(self) -> Path:
        """The machine's file tree as its processes see it, with /run and /proc; from outside."""
        return Path(f"/proc/{self.leader}/root")

    def boot(self, *, timeout: float = 60.0) -> None:
        """Switch on and wait until systemd has started everything."""
        self._switch.plug(self.namespace, self.number)
        command = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"]
        command += ["--console=passive", "--resolv-conf=off", f"--directory={self.disk}"]
        command += [f"--network-namespace-path=/run/netns/{self.namespace}"]
        command += [f"--machine={self.namespace}"]
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                self._group.enter(command),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=NSPAWN_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for us; we switch the machines off
            )
        wait_until(self._has_leader, timeout=timeout, what=f"{self.name}: has a pid 1")
        wait_until(self._has_booted, timeout=timeout, what=f"{self.name}: booted", interval=0.05)

    def run(
        self,
        *argv: str,
        user: str = "root",
        stdin: str = "",
        timeout: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """Run ``argv`` in the machine as ``user``.

        Raises:
            LabError: as :func:`tests.lab.commands.run`.
        """
        become = [] if user == "root" else ["runuser", "-u", user, "--"]
        enter = ["nsenter", f"--target={self.leader}", *_ENTER, "--"]
        return run([*enter, *become, *argv], stdin=stdin, timeout=timeout, check=check)

    async def arun(
        self,
        *argv: str,
        user: str = "root",
        stdin: str = "",
        timeout: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """:meth:`run` without blocking the event loop."""
        return await asyncio.to_thread(
            self.run, *argv, user=user, stdin=stdin, timeout=timeout, check=check
        )

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file below /etc, /usr or /var, owned by root; directories as needed."""
        target = self.disk / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """A file below /etc, /usr or /var; also while the machine is switched off."""
        return (self.disk / path.lstrip("/")).read_text()

    def unit(self, name: str, property_name: str) -> str:
        """A property of a unit, as ``systemctl show`` prints it."""
        return self.run("systemctl", "show", "--value", "-p", property_name, name).stdout.strip()

    def journal(self, *options: str) -> str:
        """The journal, of all boots; also while the machine is switched off."""
        command = ["journalctl", "--no-pager", "--output=short-precise", *options]
        if self._leader:
            return self.run(*command, check=False).stdout
        return run([*command, f"--directory={self.disk}/var/log/journal"], check=False).stdout

    def console(self) -> str:
        """What was written to the machine's console: the reason if it did not boot."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def shut_down(self, *, timeout: float = 60.0) -> None:
        """An orderly power-off: every unit is stopped in its order."""
        os.kill(self.leader, _HALT)
        self._off(timeout)

    def power_off(self, verb: str = "poweroff", *, timeout: float = 60.0) -> None:
        """``systemctl poweroff``, or another verb that ends the machine, as an operator does it."""
        # It may end before systemctl has its answer.
        self.run("systemctl", verb, check=False)
        self._off(timeout)

    def cut_power(self) -> None:
        """Gone from one instant to the next: nothing is saved, no connection is closed."""
        self._switch.link(self.number, up=False)
        os.kill(self.leader, signal.SIGKILL)
        self._off(timeout=30)

    def link(self, *, up: bool) -> None:
        """Pull the network cable, or put it back."""
        self._switch.link(self.number, up=up)

    def cut_off_from(self, other: "Machine", *, cut: bool = True) -> None:
        """Lose every packet between the two machines and nothing else; ``cut=False`` mends it."""
        network.silence(self.namespace, other.number, silent=cut)
        network.silence(other.namespace, self.number, silent=cut)

    def freeze(self, frozen: bool = True) -> None:
        """Stop every process of the machine at once (a stalled hypervisor), or let them go on."""
        self._group.freeze(frozen)

    def close(self) -> None:
        """Switch off without ceremony, for good."""
        if self._nspawn is None:
            return
        with contextlib.suppress(LabError, ProcessLookupError):
            os.kill(self.leader, signal.SIGKILL)
        self._group.freeze(False)
        try:
            self._off(timeout=5)
        except LabError:
            self._nspawn.kill()
            self._off(timeout=5)

    def _off(self, timeout: float) -> None:
        assert self._nspawn is not None
        try:
            self._nspawn.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} is still on after {timeout:g} s") from None
        self._nspawn, self._leader = None, 0
        self._switch.unplug(self.namespace, self.number)

    def _has_leader(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise LabError(f"{self.name} does not boot: {self.console()[-3000:]}")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        for pid in children.read_text().split():
            if _is_first(int(pid)):
                self._leader = int(pid)
        return self._leader != 0

    def _has_booted(self) -> bool:
        if self._nspawn is None or self._nspawn.poll() is not None:
            raise LabError(f"{self.name} went down while booting: {self.console()[-3000:]}")
        # Fails until /proc is mounted in there and systemd answers.
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in _BOOTED


@final
class Lab:
    """Machines that share a switch and a file tree below their own disks."""

    def __init__(self, run: Run, lower: Sequence[Path]) -> None:
        self.run = run
        self.machines: dict[str, Machine] = {}
        self._lower = lower
        self._closed = False
        self._label = run.unique("lab")
        self._switch = network.Switch(run.name(f"{self._label}-switch"))
        self._switch.create()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def add(self, *names: str) -> list[Machine]:
        """Machines with a disk and a name each, switched off; every machine knows all names."""
        new = []
        for name in names:
            disk = self.run.overlay(self._lower)
            (disk / "etc/hostname").write_text(f"{name}\n")
            (disk / "etc/machine-id").unlink(missing_ok=True)  # read-only in the root
            (disk / "etc/machine-id").write_text(f"{secrets.token_hex(16)}\n")
            number = len(self.machines) + 1
            machine = Machine(self.run, self._switch, self._label, name, number, disk)
            self.machines[name] = machine
            new.append(machine)
        hosts = "127.0.0.1 localhost\n" + "".join(
            f"{machine.address} {machine.name}\n" for machine in self.machines.values()
        )
        for machine in self.machines.values():
            machine.write("/etc/hosts", hosts)
        return new

    def boot(self, *names: str) -> list[Machine]:
        """Add machines and switch them on, all at the same time."""
        machines = self.add(*names)
        with ThreadPoolExecutor(len(machines) or 1) as pool:
            list(pool.map(Machine.boot, machines))
        return machines

    def journals(self) -> str:
        """The journals of all machines, one after the other."""
        parts = []
        for machine in self.machines.values():
            parts += [f"=== {machine.name} ({machine.address})", machine.journal("--lines=400")]
        return "\n".join(parts)

    def save(self, directory: Path) -> None:
        """The whole journal and the console of every machine, as files for a post mortem."""
        directory.mkdir(parents=True, exist_ok=True)
        for machine in self.machines.values():
            (directory / f"{machine.name}.journal").write_text(machine.journal())
            (directory / f"{machine.name}.console").write_text(machine.console())

    def close(self) -> None:
        """Switch everything off and throw the disks away; nothing happens the second time."""
        if self._closed:
            return
        self._closed = True
        for machine in self.machines.values():
            machine.close()
            self.run.discard(machine.disk)
        self.machines.clear()
        self._switch.remove()


def _is_first(pid: int) -> bool:
    """Whether ``pid`` is pid 1 in its own namespace."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        status = Path(f"/proc/{pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
        return line.split()[-1] == "1" and len(line.split()) > 2
    return False
