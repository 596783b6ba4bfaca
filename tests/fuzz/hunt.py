# SPDX-License-Identifier: Apache-2.0
"""One target under atheris, in a process of its own, since libFuzzer ends the one it runs in.

An input's first byte tells how the rest is meant: as the data itself, or as the choices of which
hypothesis builds data with a shape. So the branches that are taken lead both.
"""

import argparse
import hashlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import atheris
from hypothesis import HealthCheck, given, settings

from tests.fuzz import registry

_SHAPED: Final = 1
_MOST_FINDINGS: Final = 20
LAST: Final = "last"
"""The file with what the target got when its process ended without a word."""


class Finder:
    """Writes each input by which the target breaks its promise to ``directory``, once for each
    place where it does.
    """

    def __init__(self, target: Callable[[bytes], None], directory: Path, *, last: Path) -> None:
        self._target = target
        self._directory = directory
        self._last = last
        self._places: set[tuple[str, ...]] = set()

    def run(self, data: bytes) -> None:
        self._last.write_bytes(data)
        try:
            self._target(data)
        except Exception as error:
            self._found(data, error)

    def _found(self, data: bytes, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        place = (type(error).__name__, *(f"{frame.filename}:{frame.lineno}" for frame in frames))
        if place in self._places or len(self._places) >= _MOST_FINDINGS:
            return
        self._places.add(place)
        name = f"found-{hashlib.sha256(data).hexdigest()[:12]}"
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / name).write_bytes(data)
        print(f"--- {self._directory / name}", file=sys.stderr)
        traceback.print_exception(error)


def one_input(inputs: Any, run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """What atheris calls."""

    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=inputs)
    def shaped(data: bytes) -> None:
        run(data)

    build: Callable[[bytes], object] = shaped.hypothesis.fuzz_one_input  # type: ignore[attr-defined]

    def decide(data: bytes) -> None:
        if data[:1] and data[0] & 1 == _SHAPED:
            build(data[1:])
        else:
            run(data[1:])

    return decide


def main() -> None:
    """``NAME --work DIRECTORY --findings DIRECTORY`` and then what is libFuzzer's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=registry.NAMES)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--findings", type=Path, required=True)
    chosen, rest = parser.parse_known_args()
    with atheris.instrument_imports(include=["discluster"], enable_loader_override=False):
        module = registry.load(chosen.name)
    finder = Finder(module.target, chosen.findings, last=chosen.work / LAST)
    atheris.Setup([sys.argv[0], *rest], one_input(module.inputs(), finder.run))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
