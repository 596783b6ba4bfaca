# SPDX-License-Identifier: Apache-2.0
"""What the lab needs of its host, why it cannot run, and how to get what is missing."""

import os
import shutil
from pathlib import Path
from typing import Final

from tests.lab.commands import ENVIRONMENT, LabError, run

PACKAGE_OF: Final = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "nft": "nftables",
    "git": "git",
    "dbus-daemon": "dbus-daemon",  # not for the lab: unit tests run against a private bus
}
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CAP_NET_ADMIN: Final = 12
CAP_SYS_ADMIN: Final = 21


def missing_packages() -> list[str]:
    """Debian packages to install before the lab can run."""
    packages = {
        package
        for command, package in PACKAGE_OF.items()
        if shutil.which(command, path=ENVIRONMENT["PATH"]) is None
    }
    if not KEYRING.exists():
        packages.add("debian-archive-keyring")
    return sorted(packages)


def obstacle() -> str | None:
    """Why this process can never run the lab here, or None."""
    if os.geteuid() != 0:
        return "the lab needs root (network namespaces, overlay mounts, systemd-nspawn)"
    for bit, name in ((CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")):
        if not _capabilities() >> bit & 1:
            return f"the lab needs {name}, which this container withholds"
    if "\toverlay\n" not in Path("/proc/filesystems").read_text() and not _loads("overlay"):
        return "the lab needs overlay mounts, which this kernel does not have"
    if " cgroup2 " not in Path("/proc/mounts").read_text():
        return "the lab needs a cgroup2 mount"
    return None


def required() -> bool:
    """Whether the lab must run (``DISCLUSTER_LAB=required``, as in CI): no skipping."""
    return os.environ.get("DISCLUSTER_LAB", "") == "required"


def reason_to_skip() -> str | None:
    """Why the lab cannot run now, with what to do about it, or None."""
    reason = obstacle()
    if reason is None and (packages := missing_packages()):
        reason = f"missing {', '.join(packages)}: run tests/lab/prepare as root"
    return reason


def install() -> list[str]:
    """Install what is missing with apt; the names of what was installed.

    Raises:
        LabError: the lab cannot run here, or the host is not a Debian with apt.
    """
    reason = obstacle()
    if reason is not None:
        raise LabError(reason)
    packages = missing_packages()
    if packages:
        if shutil.which("apt-get", path=ENVIRONMENT["PATH"]) is None:
            raise LabError(f"no apt-get here: install {', '.join(packages)} by hand")
        apt_install(packages)
    return packages


def apt_install(packages: list[str]) -> None:
    """``apt-get install`` on the host, after ``apt-get update``."""
    environment = {**passed_on(), "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "-qq", "update"], timeout=300, environment=environment)
    command = ["apt-get", "-qq", "install", "-y", "--no-install-recommends"]
    run([*command, *packages], timeout=600, environment=environment)


def passed_on() -> dict[str, str]:
    """The environment of a command that may use the network: ours, with the caller's proxies."""
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {**ENVIRONMENT, **proxies}


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return int(line.split()[1], 16)


def _loads(module: str) -> bool:
    if shutil.which("modprobe", path=ENVIRONMENT["PATH"]) is None:
        return False
    return run(["modprobe", module], check=False).returncode == 0
