# SPDX-License-Identifier: Apache-2.0
"""The scene of each test of a fault; whatever the test said holds no token (O-16)."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene


@pytest.fixture
def scene(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Scene]:
    made, root = Scene(tmp_path), logging.getLogger()
    level = root.level
    root.addHandler(made.said)
    root.setLevel(logging.DEBUG)
    try:
        yield made
    finally:
        root.removeHandler(made.said)
        root.setLevel(level)
    printed = "".join(capfd.readouterr())
    print(printed)  # for whoever looks at a test that failed
    assert made.leaks(printed) == []
