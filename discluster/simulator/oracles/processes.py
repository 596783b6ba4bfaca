# SPDX-License-Identifier: Apache-2.0
"""O-15: a client's memory, descriptors, threads and tasks stay flat over reconnects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import msgspec

from discluster.simulator.oracles.verdict import Verdict


class ProcessSample(msgspec.Struct, frozen=True, kw_only=True):
    """A process at one moment. rss in bytes; tasks only if the process tells."""

    rss: int
    fds: int
    threads: int
    tasks: int | None = None


def sample_process(pid: int, *, tasks: int | None = None) -> ProcessSample:
    """Look at a process of this machine. Raises OSError when it is gone."""
    place = Path("/proc") / str(pid)
    pages = int((place / "statm").read_text().split()[1])
    return ProcessSample(
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
        fds=len(list((place / "fd").iterdir())),
        threads=len(list((place / "task").iterdir())),
        tasks=tasks,
    )


def resources_are_flat(
    samples: Sequence[ProcessSample],
    *,
    warm_up: int = 0,
    growth: float = 0.05,
    slack: int = 4 << 20,
    handles: int = 3,
) -> Iterator[Verdict]:
    """O-15. `samples`: one after each of many reconnects; the first `warm_up` are left out.

    The median of the last third is compared with that of the first, so that neither a garbage
    collection nor a moment of two connections counts. Memory may grow by the share `growth` or by
    `slack` bytes, whichever is more; descriptors, threads and tasks by `handles`. Raises
    ValueError for fewer than nine samples: they say nothing.
    """
    series = samples[warm_up:]
    if len(series) < 9:
        raise ValueError(f"{len(series)} samples after the warm-up are too few, take at least 9")
    for name in ("rss", "fds", "threads", "tasks"):
        values = [value for one in series if (value := getattr(one, name)) is not None]
        if not values:
            continue
        third = len(values) // 3
        first, last = median(values[:third]), median(values[-third:])
        most = max(first * growth, slack) if name == "rss" else handles
        if last - first > most:
            text = f"{name} grew from {first:g} to {last:g} over {len(series)} reconnects"
            yield Verdict(oracle="O-15", text=text)
