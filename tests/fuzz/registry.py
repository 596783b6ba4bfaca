# SPDX-License-Identifier: Apache-2.0
"""All targets by name, and the inputs that are kept of each."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol, cast

from hypothesis.strategies import SearchStrategy

from tests.fuzz import targets

SEEDS: Final = Path(__file__).parent / "seeds"
NAMES: Final = tuple(sorted(module.name for module in pkgutil.iter_modules(targets.__path__)))


class Target(Protocol):
    """A module. ``LONGEST``: bytes of one input that make sense."""

    LONGEST: int

    def inputs(self) -> SearchStrategy[bytes]:
        """Inputs with a shape that the reader does not refuse at once."""
        ...

    def target(self, data: bytes) -> None:
        """Reads ``data``; fails if what is promised for any input is not kept."""
        ...


def load(name: str) -> Target:
    return cast("Target", importlib.import_module(f"tests.fuzz.targets.{name}"))


def seeds(name: str) -> Iterator[Path]:
    """What was found once, and cases of interest."""
    directory = SEEDS / name
    yield from sorted(directory.iterdir()) if directory.is_dir() else ()
