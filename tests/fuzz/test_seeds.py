# SPDX-License-Identifier: Apache-2.0
"""What was found once stays mended."""

from pathlib import Path

import pytest

from tests.fuzz import registry

CASES = [(name, seed) for name in registry.NAMES for seed in registry.seeds(name)]


@pytest.mark.parametrize(("name", "seed"), CASES, ids=[f"{n}-{s.name}" for n, s in CASES])
def test_kept_input_does_no_harm(name: str, seed: Path) -> None:
    registry.load(name).target(seed.read_bytes())


@pytest.mark.parametrize("name", registry.NAMES)
def test_each_target_has_seeds(name: str) -> None:
    assert any(True for _ in registry.seeds(name))
