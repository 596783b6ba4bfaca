# SPDX-License-Identifier: Apache-2.0
"""Runs :mod:`tests.fuzz.hunt` for a while and reads from libFuzzer's words how it went."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz import registry
from tests.fuzz.registry import SEEDS

REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
_SLOWEST: Final = 25  # seconds for one input
_MEMORY: Final = 2048  # MiB
_GRACE: Final = 120  # seconds, for the imports, and the last input
_STATUS: Final = re.compile(r"#(\d+)\s+\w+\s+(?:cov: (\d+) )?(?:ft: (\d+) )?")
_UNITS: Final = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


class Hunt(NamedTuple):
    """How one went. ``features``: branches, with how often they were taken, as libFuzzer counts.
    ``said``: all that was printed.
    """

    name: str
    executions: int
    seconds: float
    features: int
    findings: tuple[Path, ...]
    said: str


def is_possible() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def hunt(name: str, seconds: int, *, work: Path, findings: Path | None = None) -> Hunt:
    """``work``: where the corpus is kept from run to run. ``findings``: where inputs are put that
    break a promise; by default where the tests find them.
    """
    findings = findings or SEEDS / name
    before = set(findings.glob("found-*"))
    artifacts = work / "artifacts"
    for directory in (work / "corpus", work / "seeds", artifacts):
        directory.mkdir(parents=True, exist_ok=True)
    for seed in registry.seeds(name):
        (work / "seeds" / seed.name).write_bytes(b"\0" + seed.read_bytes())
    for old in artifacts.iterdir():
        old.unlink()
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.hunt", name),
            *("--work", str(work), "--findings", str(findings)),
            *(f"-max_total_time={seconds}", f"-timeout={_SLOWEST}", f"-rss_limit_mb={_MEMORY}"),
            f"-max_len={registry.load(name).LONGEST}",
            *("-print_final_stats=1", f"-artifact_prefix={artifacts}/"),
            *(("-seed=1",) if "CI" in os.environ else ()),
            *(str(work / "corpus"), str(work / "seeds")),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        timeout=seconds + _GRACE,
        check=False,
    )
    said = ended.stderr.decode(errors="replace") + ended.stdout.decode(errors="replace")
    if ended.returncode or any(artifacts.iterdir()):
        # It hung, took too much, or took the whole process with it.
        findings.mkdir(parents=True, exist_ok=True)
        kind = next((path.name for path in artifacts.iterdir()), f"exit-{ended.returncode}")
        (findings / f"found-{kind[:24]}").write_bytes((work / "last").read_bytes())
    statuses = _STATUS.findall(said)
    units = _UNITS.search(said)
    return Hunt(
        name=name,
        executions=int(units[1]) if units else max((int(s[0]) for s in statuses), default=0),
        seconds=seconds,
        features=max((int(s[2] or 0) for s in statuses), default=0),
        findings=tuple(sorted(set(findings.glob("found-*")) - before)),
        said=said,
    )


def table(hunts: list[Hunt]) -> str:
    """For people."""
    rows = [("target", "executions", "a second", "features", "findings")]
    for one in hunts:
        rate = f"{one.executions / max(1, one.seconds):,.0f}"
        numbers = (f"{one.executions:,}", rate, f"{one.features:,}", str(len(one.findings)))
        rows.append((one.name, *numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    )
