# SPDX-License-Identifier: Apache-2.0
"""Where the clients of others are installed, whether they are, and how they get there.

Everything is pinned here: requirements*.txt with hashes, package-lock.json with integrity values.
hikari-clusters needs an older hikari, so it has a virtual environment of its own.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.installing import InstallError, make_environment, run
from tests.lab.commands import LabError
from tests.lab.prerequisites import apt_install

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
PINS: Final = Path(__file__).resolve().parent
HOME: Final = REPOSITORY / "build" / "clients"
PYTHON: Final = HOME / "venv" / "bin" / "python"
HIKARI_CLUSTERS: Final = HOME / "venv-hikari-clusters" / "bin" / "python"
MODULES: Final = HOME / "node_modules"
LEAST_NODE: Final = 20
"""What @discordjs/ws asks for, and what Debian 13 has."""

_REQUIREMENTS: Final = {
    PYTHON: "requirements.txt",
    HIKARI_CLUSTERS: "requirements-hikari-clusters.txt",
}
_TOO_NEW: Final = (3, 14)
"""For hikari 2.0, by its metadata."""
_STAMP: Final = HOME / "installed"
_NPM_PINS: Final = ("package.json", "package-lock.json")


def fingerprint() -> str:
    """Changes whenever a pin does, or the Python that the virtual environment is made with."""
    digest = hashlib.sha256(sys.version.encode())
    for name in (*_REQUIREMENTS.values(), *_NPM_PINS):
        digest.update((PINS / name).read_bytes())
    return digest.hexdigest()


def node() -> str | None:
    """Path of a Node that is new enough, or None."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    major = said.strip().removeprefix("v").partition(".")[0]
    return found if major.isdecimal() and int(major) >= LEAST_NODE else None


def reason_to_skip() -> str | None:
    """Why no foreign client can run now, with what to do about it, or None."""
    if not _STAMP.exists():
        return "the clients of others are not installed: run tests/clients/install"
    if _STAMP.read_text() != fingerprint():
        return "other versions of the clients are installed: run tests/clients/install"
    if node() is None:
        return f"Node {LEAST_NODE} and npm are missing: run tests/clients/install as root"
    return None


def no_hikari_clusters() -> str | None:
    """Why hikari-clusters cannot run with this Python, or None."""
    if sys.version_info < _TOO_NEW:
        return None
    return f"hikari 2.0, which hikari-clusters needs, is for Python below 3.{_TOO_NEW[1]}"


def install() -> bool:
    """Install what is missing; False when everything was there.

    Raises:
        InstallError: something cannot be had here.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    with _alone():
        if reason_to_skip() is None:
            return False
        _STAMP.unlink(missing_ok=True)
        _install_node()
        _install_python(PYTHON)
        if no_hikari_clusters() is None:
            _install_python(HIKARI_CLUSTERS)
        _install_npm()
        _STAMP.write_text(fingerprint())
    return True


@contextmanager
def _alone() -> Iterator[None]:
    """Two installers at once would tread on each other."""
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install_node() -> None:
    if node() is not None:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise InstallError(f"Node {LEAST_NODE} and npm are missing (apt install nodejs npm)")
    try:
        apt_install(["nodejs", "npm"])
    except LabError as error:
        raise InstallError(f"nodejs and npm cannot be installed with apt: {error}") from error
    if node() is None:
        raise InstallError(f"apt's Node is older than {LEAST_NODE} (install a newer one)")


def _install_python(python: Path) -> None:
    make_environment(python, PINS / _REQUIREMENTS[python], directory=HOME)


def _install_npm() -> None:
    for name in _NPM_PINS:
        shutil.copyfile(PINS / name, HOME / name)
    # Nothing of what is installed needs a build step, so none of it may run one.
    run(
        ["npm", "ci", "--prefix", HOME, "--ignore-scripts", "--no-audit", "--no-fund"],
        directory=HOME,
    )
