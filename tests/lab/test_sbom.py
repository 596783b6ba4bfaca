# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of the real package, beside what apt installed for it."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator

from tests.lab import deb
from tests.lab.cache import Cache
from tests.lab.machines import Lab
from tests.lab.roots import REPOSITORY

OURS = (
    *("aiohttp", "cryptography", "dbus-next", "msgspec", "prometheus-client", "rich"),
    *("sdnotify", "uvloop", "yaml", "zstandard"),
)


def bill(directory: Path) -> str:
    """``make sbom``."""
    command = [sys.executable, "packaging/sbom.py", "--output", str(directory)]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=300)
    (made,) = directory.iterdir()
    return made.read_text()


def test_bill_agrees_with_what_a_machine_has_installed(
    lab: Lab, package: deb.Package, tmp_path: Path
) -> None:
    text = bill(tmp_path)
    assert (
        make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(text) is None
    )
    assert bill(tmp_path) == text

    document: dict[str, Any] = json.loads(text)
    ours = document["metadata"]["component"]
    assert ours["version"] == package.version
    digest = hashlib.sha256(package.path.read_bytes()).hexdigest()
    assert ours["hashes"] == [{"alg": "SHA-256", "content": digest}]
    lab.boot("alpha")
    listed = lab["alpha"].run("dpkg-query", "--show", "--showformat=${Package} ${Version}\n").stdout
    installed = dict(line.split() for line in listed.splitlines())
    parts = {one["name"]: one for one in document["components"]}
    assert {name: one.get("version") for name, one in parts.items()} == {
        name: installed[name] for name in parts
    }
    assert {"systemd", "polkitd", "python3", *(f"python3-{name}" for name in OURS)} <= parts.keys()
    assert "discluster" not in parts
    assert [name for name, one in parts.items() if not one.get("licenses")] == []


def test_same_tree_gives_the_same_package_byte_for_byte(
    lab_cache: Cache, package: deb.Package, tmp_path: Path
) -> None:
    deb.make(lab_cache, tmp_path)
    (again,) = tmp_path.glob("*.deb")
    assert again.read_bytes() == package.path.read_bytes()
