# SPDX-License-Identifier: Apache-2.0
"""A MASTER on a clock that stands still, for one input, with its files in memory."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.clock import ManualClock
from tests.unit.master.fakes import Discord, Running, answer, settings

HOSTS = ("alpha", "beta", "gamma")


@cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


def run(scene: Coroutine[Any, Any, None]) -> None:
    """In one loop for all inputs: to make one takes longer than most of them."""
    _runner().run(scene)


def loop() -> asyncio.AbstractEventLoop:
    """The one that :func:`run` uses."""
    return _runner().get_loop()


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory in memory, where there is one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as directory:
        yield Path(directory)


@contextmanager
def quiet() -> Iterator[None]:
    """What is logged of hostile input is right and much; faults are not logged but raised."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@asynccontextmanager
async def master(directory: Path, *, shards: int = 4) -> AsyncIterator[Running]:
    chosen = settings(*HOSTS, start_wait=0.0, hosts={})
    async with Running(directory, chosen, Discord(answer(shards)), ManualClock()) as running:
        yield running
