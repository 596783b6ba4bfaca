# SPDX-License-Identifier: Apache-2.0
"""Where the brokers and the clients of consumers are, and how they get there."""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.installing import InstallError, make_environment
from tests.lab.commands import LabError
from tests.lab.prerequisites import apt_install

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
PINS: Final = Path(__file__).resolve().parent / "requirements.txt"
HOME: Final = REPOSITORY / "build" / "brokers"
PYTHON: Final = HOME / "venv" / "bin" / "python"
DOCUMENT: Final = REPOSITORY / "docs" / "brokers.md"
PROGRAMS: Final = {"nats-server": "nats-server", "redis-server": "redis-server"}
"""Program -> Debian's package."""

_STAMP: Final = HOME / "installed"
_POLICY: Final = Path("/usr/sbin/policy-rc.d")


def fingerprint() -> str:
    """Changes whenever a pin does, or the Python that the virtual environment is made with."""
    return hashlib.sha256(sys.version.encode() + PINS.read_bytes()).hexdigest()


def program(name: str) -> str | None:
    """The path of ``nats-server`` or ``redis-server``, or None."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def reason_to_skip() -> str | None:
    """Why the tests cannot run now, with what to do about it, or None."""
    missing = [name for name in PROGRAMS if program(name) is None]
    if missing:
        return f"{' and '.join(missing)} missing: run tests/brokers/install as root"
    if not _STAMP.exists() or _STAMP.read_text() != fingerprint():
        return "the clients of the brokers are not installed: run tests/brokers/install"
    return None


def install() -> bool:
    """Install what is missing; False when everything was there.

    Raises:
        InstallError: something cannot be had here.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two installers at once would tread on each other
        if reason_to_skip() is None:
            return False
        _STAMP.unlink(missing_ok=True)
        _install_servers()
        make_environment(PYTHON, PINS, directory=HOME)
        _STAMP.write_text(fingerprint())
    return True


def _install_servers() -> None:
    packages = [package for name, package in PROGRAMS.items() if program(name) is None]
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise InstallError(f"{' and '.join(packages)} missing (apt install {' '.join(packages)})")
    try:
        with _nothing_started():
            apt_install(packages)
    except LabError as error:
        raise InstallError(f"{', '.join(packages)} cannot be installed: {error}") from error


@contextmanager
def _nothing_started() -> Iterator[None]:
    """Debian starts a service as it is installed, unless this policy forbids it; the tests start
    servers of their own.
    """
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
