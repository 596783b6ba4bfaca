# SPDX-License-Identifier: Apache-2.0
"""Everything that one run of the benchmark found, as it is kept in build/bench."""

from pathlib import Path
from typing import Final

import msgspec

from tests.bench.idle import IdleSample, StartSample
from tests.bench.machine import Machine
from tests.bench.measure import Sample
from tests.bench.processes import BenchError

RAW_NAME: Final = "gateway.json"


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """``scale``: of the numbers of events; below 1 it was a smoke run, which shows nothing."""

    machine: Machine
    runs: int
    scale: float = 1.0
    samples: tuple[Sample, ...]
    idle: tuple[IdleSample, ...] = ()
    starts: tuple[StartSample, ...] = ()


def save(results: Results, directory: Path) -> Path:
    """Returns where they are."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / RAW_NAME
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    return path


def read(path: Path) -> Results:
    """Raises BenchError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        raise BenchError(f"{path}: {error}") from None
