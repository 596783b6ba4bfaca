# SPDX-License-Identifier: Apache-2.0
"""One line of the table, and what it promises."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

Doubles = Literal["none", "replayed", "any"]
"""Events may come twice: never, where a RESUME asked for them again, or at will."""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold. A subject that promises nothing is measured and not judged."""

    lost: int | None = 0
    doubles: Doubles = "none"
    identifies: int | None = 0
    twice: int | None = 0
    judged: bool = True


NOTHING = Promise(lost=None, doubles="any", identifies=None, twice=None, judged=False)
ORDERLY = Promise()
CRASH = Promise(doubles="replayed")
UNHEARD = Promise(doubles="replayed", twice=None)
"""Who is cut off from Discord, or frozen, cannot close the connection that is taken over: dead
connections are not counted. That two processes had a shard is."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """``times``: how often ``what`` was done to ``subject``. Events: ``sent`` by Discord, of them
    ``lost``; ``doubled`` came again, of them ``unasked`` without a RESUME that asked for them.
    ``twice``: shards that were connected twice. ``gaps``: seconds from the last event in one
    process to the first in the next, of each shard each time. ``pauses``: of each shard the longest
    time without an event; ``overlap``: the longest time for which two processes had a shard.
    ``verdicts``: what the simulator's oracles say. ``seconds``: how long it took.
    """

    subject: str
    what: str
    times: int
    shards: int
    sent: int
    lost: int
    doubled: int
    unasked: int
    identifies: int
    resumes: int
    twice: int
    gaps: tuple[float, ...]
    pauses: tuple[float, ...] = ()
    overlap: float = 0.0
    verdicts: tuple[str, ...]
    seconds: float
    promise: Promise

    @property
    def gap_median(self) -> float | None:
        return median(self.gaps) if self.gaps else None

    @property
    def gap_worst(self) -> float | None:
        return max(self.gaps, default=None)

    @property
    def broken(self) -> list[str]:
        """What was promised and does not hold; empty is good."""
        return list(_broken(self))


def _broken(row: Row) -> Iterator[str]:
    promise = row.promise
    for what, found, most in (
        ("events lost", row.lost, promise.lost),
        ("identifies", row.identifies, promise.identifies),
        ("shards connected twice", row.twice, promise.twice),
        ("events twice", row.doubled, 0 if promise.doubles == "none" else None),
        ("events twice unasked", row.unasked, 0 if promise.doubles == "replayed" else None),
    ):
        if most is not None and found > most:
            yield f"{found} {what}"
    if promise.judged:
        yield from row.verdicts
        if row.overlap > 0:
            yield f"a shard was with two processes for {row.overlap:.3f} s"
        if not row.times or not row.sent:
            yield "nothing was done, or nothing was sent"


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of one run, with what they were measured on. ``versions``: of libraries of others,
    by title; ``absent``: why one was not measured.
    """

    rows: tuple[Row, ...]
    seed: int
    short: bool
    rate: float
    date: str
    commit: str
    machine: str
    versions: dict[str, str] = {}
    absent: dict[str, str] = {}


def save(results: Results, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results)))


def read(path: Path) -> Results:
    return msgspec.json.decode(path.read_bytes(), type=Results)
