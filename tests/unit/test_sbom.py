# SPDX-License-Identifier: Apache-2.0
"""The bill of materials: by CycloneDX's own schema, complete, and the same every time."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator
from installed import (
    COPYRIGHT,
    FILES,
    STATUS,
    Package,
    Relation,
    declared,
    licences,
    needed,
    package_of,
    paragraphs,
    read,
    relations,
)
from packageurl import PackageURL
from sbom import bom, commit_time, text_of

SHA256 = "ab" * 32
AT = 1_780_000_000
CONTROL = """\
Package: discluster
Version: 0.1.0
Architecture: all
Depends: python3 (<< 3.14), python3 (>= 3.13~), python3-aiohttp (>= 3.11),
 default-mta | mail-transport-agent, python3-uvloop (>= 0.21)
"""
INSTALLED = """\
Package: python3
Status: install ok installed
Version: 3.13.5-1
Architecture: amd64
Depends: libc6 (>= 2.34)

Package: python3-aiohttp
Status: install ok installed
Version: 3.11.16-1
Architecture: amd64
Depends: python3 (>= 3.13~), libstdc++6
Description: an HTTP client
 Depends: nobody

Package: libc6
Status: install ok installed
Version: 2.41-12
Architecture: amd64
Pre-Depends: libgcc-s1

Package: libgcc-s1
Status: install ok installed
Version: 14.2.0-19
Architecture: amd64
Depends: libc6

Package: libstdc++6
Status: install ok installed
Version: 1:14.2.0-19+b1
Architecture: amd64

Package: postfix
Status: install ok installed
Version: 3.10.3-2
Architecture: amd64
Provides: mail-transport-agent

Package: less
Status: install ok installed
Version: 668-1
Architecture: amd64

Package: python3-uvloop
Status: deinstall ok config-files
Version: 0.21.0
Architecture: amd64
"""
PARTS = {
    "python3": "3.13.5-1",
    "python3-aiohttp": "3.11.16-1",
    "libc6": "2.41-12",
    "libgcc-s1": "14.2.0-19",
    "libstdc++6": "1:14.2.0-19+b1",
    "postfix": "3.10.3-2",
}
MACHINE_READABLE = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: aiohttp

Files: *
Copyright: 2013-2025 the authors
License: Apache-2

Files: vendor/*
Copyright: 2012 others
License: Expat

License: Expat
 Permission is hereby granted
"""
PROSE = """\
This is free software; see /usr/share/common-licenses/LGPL-2.1 and
/usr/share/common-licenses/GPL-3.
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Debian of which there is nothing but what is looked at."""
    (tmp_path / STATUS).parent.mkdir(parents=True)
    (tmp_path / STATUS).write_text(INSTALLED)
    for name, text in (("python3-aiohttp", MACHINE_READABLE), ("libc6", PROSE)):
        path = tmp_path / COPYRIGHT.format(name)
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path


def own() -> Package:
    (fields,) = paragraphs(CONTROL)
    return package_of(fields)


def written(root: Path) -> str:
    found = read(root)
    licensed = {name: licences(root, name) for name in found}
    return text_of(bom(own(), found, licensed=licensed, sha256=SHA256, at=AT))


def component(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (one for one in document["components"] if one["name"] == name)
    return dict(found)


def test_it_is_valid_by_the_official_schema(root: Path) -> None:
    validator = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6)
    text = written(root)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"library"', '"book"')) is not None


def test_it_holds_all_that_debian_installs_and_nothing_else(root: Path) -> None:
    document = json.loads(written(root))
    versions = {one["name"]: one.get("version") for one in document["components"]}
    assert versions == PARTS | {"python3-uvloop": None}, "not installed here, but asked for"
    bound = component(document, "python3")["properties"]
    assert bound == [{"name": "discluster:depends", "value": "<< 3.14, >= 3.13~"}]
    assert "properties" not in component(document, "libc6"), "our package does not ask for it"


def test_it_tells_who_needs_whom(root: Path) -> None:
    document = json.loads(written(root))
    names = {one["bom-ref"]: one["name"] for one in document["components"]}
    needs = {
        names.get(one["ref"], "discluster"): {names[ref] for ref in one["dependsOn"]}
        for one in document["dependencies"]
    }
    assert needs["discluster"] == {"python3", "python3-aiohttp", "python3-uvloop", "postfix"}
    assert needs["python3-aiohttp"] == {"python3", "libstdc++6"}
    assert needs["libgcc-s1"] == {"libc6"}, "a circle ends"


def test_our_own_package_has_licence_version_and_hash(root: Path) -> None:
    ours = json.loads(written(root))["metadata"]["component"]
    assert (ours["name"], ours["version"]) == ("discluster", "0.1.0")
    assert ours["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert ours["hashes"] == [{"alg": "SHA-256", "content": SHA256}]


def test_addresses_of_packages_are_in_their_canonical_form(root: Path) -> None:
    document = json.loads(written(root))
    for one in (document["metadata"]["component"], *document["components"]):
        parsed = PackageURL.from_string(one["purl"])
        assert parsed.to_string() == one["purl"] == one["bom-ref"]
        assert (parsed.name, parsed.version) == (one["name"], one.get("version"))


def test_the_same_content_gives_the_same_bytes_and_another_gives_another_number(
    root: Path,
) -> None:
    before = written(root)
    assert written(root) == before
    (root / STATUS).write_text(INSTALLED.replace("2.41-12", "2.41-13"))
    after = json.loads(written(root))
    assert after["serialNumber"] != json.loads(before)["serialNumber"]
    assert after["metadata"]["timestamp"] == "2026-05-28T20:26:40Z"


def test_time_is_the_one_that_the_build_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(AT))
    assert commit_time() == AT


def test_licences_are_told_as_spdx_has_them(root: Path) -> None:
    document = json.loads(written(root))
    assert component(document, "python3-aiohttp")["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert "licenses" not in component(document, "python3"), "it has no copyright file here"
    assert declared("Files: *\nLicense: Expat and PSF-2\n") == ("MIT", "PSF-2.0")
    assert declared("Files: a\nLicense: GPL-2+ with exception\n\nFiles: b\nLicense: ISC\n") == (
        "GPL-2+ with exception",
        "ISC",
    )


def test_licence_of_prose_is_named_as_it_stands_there(root: Path) -> None:
    """Whether later versions will do, only people can tell from it."""
    licensed = component(json.loads(written(root)), "libc6")["licenses"]
    assert licensed == [{"license": {"name": "GPL-3"}}, {"license": {"name": "LGPL-2.1"}}]


def test_python_package_whose_copyright_file_names_no_licence_tells_it_itself(root: Path) -> None:
    text = "Files: *\nLicense: Permission is hereby granted, free of charge, to any person\n"
    (root / COPYRIGHT.format("python3-aiohttp")).write_text(text)
    assert licences(root, "python3-aiohttp") == ("see /usr/share/doc/python3-aiohttp/copyright",)
    metadata = root / "usr/lib/python3/dist-packages/aiohttp-3.11.16.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nLicense: MIT\n")
    files = root / FILES.format("python3-aiohttp")
    files.parent.mkdir(parents=True)
    files.write_text(f"/.\n/{metadata.relative_to(root)}\n")
    assert licences(root, "python3-aiohttp") == ("MIT",)


def test_relations_are_read_with_alternatives_and_bounds() -> None:
    assert relations("python3:any (>= 3.13~), exim | postfix (<< 2)") == (
        (Relation("python3", ">= 3.13~"),),
        (Relation("exim"), Relation("postfix", "<< 2")),
    )
    with pytest.raises(ValueError, match="not a relation"):
        relations("${misc:Depends}")


def test_a_package_that_is_there_under_another_name_is_found() -> None:
    mailer = Package(
        name="postfix", version="1", architecture="all", provides=frozenset(["mail-agent"])
    )
    wants = Package(
        name="bot", version="1", architecture="all", needs=relations("exim | mail-agent")
    )
    assert needed(wants, {"postfix": mailer})["bot"] == {"postfix": mailer}
    assert needed(wants, {})["bot"] == {"exim": None}
