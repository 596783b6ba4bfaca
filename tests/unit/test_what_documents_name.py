# SPDX-License-Identifier: Apache-2.0
"""What documents name is there: tests as proof, commands to be typed."""

import re
import shlex
from pathlib import Path

import pytest

from discluster.ctl.main import build_parser

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TESTS = REPOSITORY / "tests"


def written() -> set[str]:
    """Names of all tests in the tree."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        found.update(re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    return found


@pytest.mark.parametrize(
    ("document", "least"), [("SECURITY.md", 30), ("ARCHITECTURE.md", 30), ("docs/faults.md", 0)]
)
def test_every_test_that_a_document_names_is_in_the_tree(document: str, least: int) -> None:
    named = set(
        re.findall(r"`(?:tests/[\w./]+::)?(test_\w+)`", (REPOSITORY / document).read_text())
    )
    assert len(named) >= least
    assert named - written() == set()


def test_every_attack_in_the_table_has_its_test() -> None:
    _, _, table = (REPOSITORY / "SECURITY.md").read_text().partition("| attack | expected | test |")
    rows = [line for line in table.splitlines() if line.startswith("| ") and "**" not in line]
    assert len(rows) > 30
    assert [row for row in rows if "`test_" not in row.rsplit("|", 2)[1]] == []


@pytest.mark.parametrize("document", ["README.md", "SECURITY.md"])
def test_every_command_that_a_document_tells_to_type_is_one(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    told = re.findall(r"^    disclusterctl (.*?)(?: +#.*)?$", text, re.MULTILINE)
    told += re.findall(r"`disclusterctl ([^`]+)`", text)
    assert len(told) >= 5
    for command in told:
        try:
            build_parser().parse_args(shlex.split(command))
        except SystemExit as error:
            raise AssertionError(f"disclusterctl {command}: no such command") from error
