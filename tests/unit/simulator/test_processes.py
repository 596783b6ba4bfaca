# SPDX-License-Identifier: Apache-2.0
"""O-15: what grows over reconnects is found, what only swings is not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from discluster.simulator.oracles import ProcessSample, resources_are_flat, sample_process

MEBI = 1 << 20


def series(
    size: int = 30,
    *,
    rss: Callable[[int], float] = lambda n: 100 * MEBI,
    fds: Callable[[int], int] = lambda n: 20,
    threads: Callable[[int], int] = lambda n: 4,
    tasks: Callable[[int], int | None] = lambda n: 12,
) -> list[ProcessSample]:
    return [
        ProcessSample(rss=int(rss(n)), fds=fds(n), threads=threads(n), tasks=tasks(n))
        for n in range(size)
    ]


def grew(samples: list[ProcessSample], warm_up: int = 0) -> list[str]:
    verdicts = list(resources_are_flat(samples, warm_up=warm_up))
    assert {verdict.oracle for verdict in verdicts} <= {"O-15"}
    return [verdict.text.split()[0] for verdict in verdicts]


GOOD = {
    "flat": series(),
    "swings": series(rss=lambda n: (100 + 20 * (n % 2)) * MEBI, fds=lambda n: 20 + n % 3 * 5),
    "grows a little": series(rss=lambda n: (100 + n / 10) * MEBI),
    "without tasks": series(tasks=lambda n: None),
    "shrinks": series(rss=lambda n: (100 - n) * MEBI, fds=lambda n: 60 - n),
}


@pytest.mark.parametrize("name", GOOD)
def test_flat_process_is_good(name: str) -> None:
    assert grew(GOOD[name]) == []


BAD = {
    "rss": series(rss=lambda n: (100 + n) * MEBI),
    "fds": series(fds=lambda n: 20 + n),
    "threads": series(threads=lambda n: 4 + n // 3),
    "tasks": series(tasks=lambda n: 12 + n),
}


@pytest.mark.parametrize("name", BAD)
def test_growth_is_found(name: str) -> None:
    assert grew(BAD[name]) == [name]


def test_warm_up_is_left_out() -> None:
    samples = series(rss=lambda n: (40 if n < 10 else 100) * MEBI)
    assert grew(samples) == ["rss"]
    assert grew(samples, warm_up=10) == []


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="take at least 9"):
        grew(series(12), warm_up=4)


async def test_own_process_is_sampled() -> None:
    before = sample_process(os.getpid(), tasks=len(asyncio.all_tasks()))
    reader, writer = os.pipe()
    try:
        after = sample_process(os.getpid())
    finally:
        os.close(reader)
        os.close(writer)
    assert after.fds == before.fds + 2
    assert before.tasks is not None
    assert after.tasks is None
    assert before.rss > MEBI
    assert before.threads >= 1


def test_process_that_is_gone_is_an_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        sample_process(2**22 + 1)
