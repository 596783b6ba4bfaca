#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a software bill of materials: what an installation of the package consists of.

CycloneDX 1.6, JSON: the package with its hash, and everything that Debian installs for it, with the
versions of the Debian 13 that the lab boots (where it cannot, of this one). The same tree and the
same Debian give the same bytes: the time is SOURCE_DATE_EPOCH or the commit's.
"""

import argparse
import hashlib
import os
import sys
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from installed import Package, is_spdx, licences, needed, package_of, paragraphs, read

from tests.lab import deb, prerequisites, roots
from tests.lab.cache import Cache, default_directory
from tests.lab.commands import LabError, run

SPECIFICATION: Final = "1.6"
LICENCE: Final = "Apache-2.0"
SUITE: Final = roots.SUITE
BOUND: Final = "discluster:depends"


class Licence(msgspec.Struct, frozen=True, omit_defaults=True):
    """``id``: of SPDX; ``name``: of one that has none there."""

    id: str | None = None
    name: str | None = None


class LicenceChoice(msgspec.Struct, frozen=True):
    license: Licence


class Hash(msgspec.Struct, frozen=True):
    alg: str
    content: str


class Property(msgspec.Struct, frozen=True):
    name: str
    value: str


class Component(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``ref``: what dependencies name it by."""

    type: str
    ref: str = msgspec.field(name="bom-ref")
    name: str
    version: str | None = None
    hashes: tuple[Hash, ...] = ()
    licenses: tuple[LicenceChoice, ...] = ()
    purl: str | None = None
    properties: tuple[Property, ...] = ()


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    name: str
    version: str


class Tools(msgspec.Struct, frozen=True):
    components: tuple[Tool, ...]


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    timestamp: str
    tools: Tools
    component: Component


class Dependency(msgspec.Struct, frozen=True, rename="camel"):
    ref: str
    depends_on: tuple[str, ...]


class Bom(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    schema: str = msgspec.field(name="$schema")
    bom_format: str
    spec_version: str
    serial_number: str | None = None
    version: int
    metadata: Metadata
    components: tuple[Component, ...]
    dependencies: tuple[Dependency, ...]


def bom(
    package: Package,
    installed: Mapping[str, Package],
    *,
    licensed: Mapping[str, tuple[str, ...]],
    sha256: str,
    at: int,
) -> Bom:
    """``installed``: Debian's packages, by name. ``licensed``: the licences of each. ``sha256``: of
    the .deb, in hex. ``at``: wall-clock seconds.
    """
    graph = needed(package, installed)
    parts = {name: one for needs in graph.values() for name, one in needs.items()}
    bounds = _bounds(package)
    refs = {name: _purl(name, one) for name, one in parts.items()}
    own = _own(package, sha256)
    made = Bom(
        schema=f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        bom_format="CycloneDX",
        spec_version=SPECIFICATION,
        version=1,
        metadata=Metadata(
            timestamp=datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            tools=Tools((Tool(type="application", name="sbom.py", version=package.version),)),
            component=own,
        ),
        components=tuple(
            _component(name, one, refs[name], licensed.get(name, ()), bounds.get(name))
            for name, one in sorted(parts.items())
        ),
        dependencies=tuple(
            Dependency(refs.get(name, own.ref), tuple(refs[need] for need in needs))
            for name, needs in sorted(graph.items())
        ),
    )
    # Derived from the content, so that the same content has the same number.
    number = uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256(msgspec.json.encode(made)).hexdigest())
    return msgspec.structs.replace(made, serial_number=number.urn)


def _bounds(package: Package) -> dict[str, str]:
    """What the .deb's control file says of versions, by package."""
    found: dict[str, list[str]] = {}
    for entry in package.needs:
        for relation in entry:
            found.setdefault(relation.name, []).append(relation.bound)
    return {name: ", ".join(filter(None, bounds)) for name, bounds in found.items()}


def _own(package: Package, sha256: str) -> Component:
    purl = f"pkg:generic/{package.name}@{quote(package.version, safe=':')}"
    return Component(
        type="application",
        ref=purl,
        name=package.name,
        version=package.version,
        hashes=(Hash("SHA-256", sha256),),
        licenses=(LicenceChoice(Licence(id=LICENCE)),),
        purl=purl,
    )


def _component(
    name: str, package: Package | None, purl: str, licensed: tuple[str, ...], bound: str | None
) -> Component:
    return Component(
        type="library",
        ref=purl,
        name=name,
        version=package.version if package is not None else None,
        licenses=tuple(LicenceChoice(_licence(one)) for one in licensed),
        purl=purl,
        properties=(Property(BOUND, bound),) if bound else (),
    )


def _licence(name: str) -> Licence:
    return Licence(id=name) if is_spdx(name) else Licence(name=name)


def _purl(name: str, package: Package | None) -> str:
    """Of a package of Debian's; without a version where none is installed."""
    whole = f"pkg:deb/debian/{quote(name)}"
    if package is None:
        return f"{whole}?distro={SUITE}"
    version = quote(package.version, safe=":")
    return f"{whole}@{version}?arch={package.architecture}&distro={SUITE}"


def text_of(made: Bom) -> str:
    """As it is written to disk."""
    return msgspec.json.format(msgspec.json.encode(made), indent=2).decode() + "\n"


def commit_time() -> int:
    """SOURCE_DATE_EPOCH, or when the newest commit was made; wall-clock seconds."""
    if said := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(said)
    git = ["git", "-c", "safe.directory=*", "-C", str(roots.REPOSITORY)]
    return int(run([*git, "log", "-1", "--format=%ct"]).stdout)


def _make(cache: Cache) -> tuple[str, str]:
    """The version, and the bill.

    Raises:
        LabError: the package cannot be built.
    """
    built = deb.build(cache)
    (fields,) = paragraphs(run(["dpkg-deb", "--field", str(built.path)]).stdout)
    package = package_of(fields)
    in_lab = prerequisites.reason_to_skip() is None
    root = roots.machine_root(cache) if in_lab else Path("/")
    installed = read(root)
    made = bom(
        package,
        installed,
        licensed={name: licences(root, name) for name in installed},
        sha256=hashlib.sha256(built.path.read_bytes()).hexdigest(),
        at=commit_time(),
    )
    return package.version, text_of(made)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=roots.REPOSITORY / "build", help="directory (default: build)"
    )
    arguments = parser.parse_args()
    reason = deb.why_not()
    if reason is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    try:
        with Cache(default_directory()) as cache:
            version, text = _make(cache)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    arguments.output.mkdir(parents=True, exist_ok=True)
    target = arguments.output / f"discluster_{version}.cdx.json"
    target.write_text(text)
    print(target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
