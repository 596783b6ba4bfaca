# SPDX-License-Identifier: Apache-2.0
"""Each target under atheris for some seconds; ``make fuzz`` for longer."""

import os
from pathlib import Path

import pytest

from tests.fuzz import hunting, registry

SECONDS = 3


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", registry.NAMES)
def test_hunt_of_some_seconds_finds_nothing(name: str, tmp_path: Path) -> None:
    if not hunting.is_possible() and "CI" not in os.environ:
        pytest.skip("atheris is not installed: pip install atheris, or make fuzz")
    done = hunting.hunt(name, SECONDS, work=tmp_path / "work", findings=tmp_path / "findings")
    assert done.executions > 0, done.said
    assert not done.findings, done.said
