# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that a linter does not know."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted((REPOSITORY / "discluster").rglob("*.py"))
NOUNS = {
    *(
        "admission",
        "bounds",
        "calling",
        "calls",
        "certificates",
        "clearance",
        "clock",
        "console",
        "decoding",
        "documents",
        "errors",
        "files",
        "flowtext",
        "lease",
        "logs",
        "messages",
        "notify",
    ),
    *(
        "operators",
        "orders",
        "pace",
        "pem",
        "places",
        "plan",
        "reception",
        "rules",
        "secret",
        "service",
        "sessionfaults",
        "sessions",
        "settings",
        "sidelane",
        "stays",
        "trust",
    ),
}
PACKAGES = {"cluster", "control", "ctl", "gateway", "master", "simulator"}
# The whole vocabulary of the fleet's wire stands in one place.
LONGER_FILES = {"discluster.messages": 620}
LONGEST_FILE = 400
LONGEST_FUNCTION = 50


def module(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_file_says_its_licence_and_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    body = ast.parse(text).body
    assert not body or ast.get_docstring(ast.parse(text)), "a module says what it is"


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_file_and_its_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGER_FILES.get(module(path), LONGEST_FILE)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def test_nouns_import_no_package() -> None:
    for path in SOURCES:
        parts = module(path).split(".")
        if len(parts) != 2 or path.name == "__init__.py":
            continue
        assert parts[1] in NOUNS, f"{path.name} is not a noun: which package does it belong to?"
        foreign = {n for n in imports(path) if n.split(".")[0] == "discluster"}
        assert not {n for n in foreign if n.split(".")[1:2] and n.split(".")[1] in PACKAGES}


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("dbus_next", "discluster.control.systemd"),
        ("sdnotify", "discluster.notify"),
        ("rich", "discluster.ctl"),
        ("yaml", "discluster.documents"),
    ],
)
def test_library_has_one_home(library: str, home: str) -> None:
    users = {module(p) for p in SOURCES if library in {n.split(".")[0] for n in imports(p)}}
    assert users
    assert {user for user in users if not f"{user}.".startswith(f"{home}.")} == set()


@pytest.mark.parametrize("daemon", ["master", "control", "cluster", "simulator"])
def test_daemon_does_not_load_rich(daemon: str) -> None:
    code = f"import sys, discluster.{daemon}.main; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


def test_simulator_and_gateway_share_no_protocol_code() -> None:
    allowed = {"clock", "errors", "notify", "secret", "settings", "documents"}
    for path in (REPOSITORY / "discluster" / "simulator").rglob("*.py"):
        ours = {n.split(".")[1] for n in imports(path) if n.startswith("discluster.")}
        assert ours <= allowed | {"simulator", "service", "logs"}, module(path)


def test_no_top_level_names_but_the_agreed_ones() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    agreed = {
        *(
            "discluster",
            "units",
            "etc",
            "packaging",
            "tests",
            "docs",
            "examples",
            ".ci",
            "Makefile",
        ),
        *("pyproject.toml", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", ".gitignore"),
        "SECURITY.md",
    }
    assert names <= agreed
