# SPDX-License-Identifier: Apache-2.0
"""What the virtual environment gets is pinned, and is what pyproject.toml asks for."""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
RUNTIME: list[str] = PYPROJECT["project"]["dependencies"]
DEVELOPMENT: list[str] = PYPROJECT["project"]["optional-dependencies"]["dev"]
BUILD: list[str] = PYPROJECT["dependency-groups"]["build"]
FILES = {
    "requirements.txt": RUNTIME,
    "requirements-dev.txt": [*RUNTIME, *DEVELOPMENT],
    "requirements-build.txt": BUILD,
}
PIN = re.compile(
    r"([a-z0-9-]+)(?:\[\S+\])?==(\S+)(?: ; (.*?))?((?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
# Debian's names that are not python3- and the name on the index.
DEBIAN = {"pyyaml": "python3-yaml"}


class Pin(msgspec.Struct, frozen=True):
    """``marker``: where it is needed, empty for everywhere; ``hashes``: of all its files."""

    version: str
    marker: str
    hashes: frozenset[str]


def pins(name: str) -> dict[str, Pin]:
    """What packaging/``name`` pins; fails at a line that is anything else than a pin."""
    text = (REPOSITORY / "packaging" / name).read_text()
    whole = re.sub(r"\\\n", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    found = {}
    for line in whole.splitlines():
        said = PIN.fullmatch(line)
        assert said is not None, f"{name}: not a pin with hashes: {line!r}"
        found[said[1]] = Pin(said[2], said[3] or "", frozenset(said[4].split()))
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_pinned_within_its_range(name: str) -> None:
    pinned = pins(name)
    for wanted in map(Requirement, FILES[name]):
        pin = pinned.get(canonicalize_name(wanted.name))
        assert pin is not None, f"{wanted.name} has no pin in {name}: run make pins"
        assert wanted.specifier.contains(pin.version), f"{wanted} has {pin.version}: run make pins"
        assert pin.marker == str(wanted.marker or "").replace('"', "'"), wanted


def test_demo_and_tests_run_with_the_same_versions() -> None:
    runtime, development = pins("requirements.txt"), pins("requirements-dev.txt")
    for name, pin in runtime.items():
        both = (pin.version, pin.hashes)
        assert (development[name].version, development[name].hashes) == both, name


def test_debian_package_asks_for_the_same_ranges() -> None:
    control = (REPOSITORY / "packaging/debian/control").read_text()
    (depends,) = re.findall(r"^Depends:\n((?: .*\n)+)", control, re.MULTILINE)
    asked = set(re.findall(r"(python3-\S+) \((>= \S+)\)", depends))
    wanted = set()
    for requirement in map(Requirement, RUNTIME):
        (least,) = requirement.specifier
        assert least.operator == ">=", "an upper bound would keep Debian's next release out"
        wanted.add((DEBIAN.get(requirement.name, f"python3-{requirement.name}"), str(least)))
    assert asked == {(name, f">= {least.removeprefix('>=')}") for name, least in wanted}


def wheel(path: Path, text: str) -> bytes:
    """Writes a package ``harmless`` of one module."""
    about = "harmless-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("harmless.py", text)
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1.0\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path.read_bytes()


def test_file_with_another_hash_than_the_pinned_one_is_not_installed(tmp_path: Path) -> None:
    index, site, python = tmp_path / "index", tmp_path / "site", tmp_path / "venv/bin/python"
    for directory in (index, python.parent, tmp_path / "packaging"):
        directory.mkdir(parents=True)
    # Spares the making of an environment.
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    there = index / "harmless-1.0-py3-none-any.whl"
    good = wheel(there, "harm = False")
    pin = f"harmless==1.0 --hash=sha256:{hashlib.sha256(good).hexdigest()}\n"
    (tmp_path / "packaging/pins.txt").write_text(pin)
    (tmp_path / "packaging/requirements-build.txt").write_text("")

    def make() -> subprocess.CompletedProcess[str]:
        settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_TARGET": str(site)}
        return subprocess.run(
            [REPOSITORY / "packaging/make-venv", sys.executable, "venv", "pins.txt"],
            cwd=tmp_path,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )

    wheel(there, "harm = True")
    refused = make()
    assert (refused.returncode, "DO NOT MATCH THE HASHES" in refused.stderr) == (1, True)
    assert "error: the packages of pins.txt cannot be installed" in refused.stderr
    assert not (site / "harmless.py").exists()
    there.write_bytes(good)
    made = make()
    assert made.returncode == 0, made.stderr
    assert (site / "harmless.py").read_text() == "harm = False"
