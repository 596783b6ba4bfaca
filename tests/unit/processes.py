# SPDX-License-Identifier: Apache-2.0
"""The programs as an operator runs them: real processes, in an environment that the test makes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How a program ended. ``error``: its standard error."""

    status: int | None
    error: str
    output: str


async def run(
    module: str,
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    standard_input: bytes | None = None,
) -> Ended:
    """Runs ``python -m module`` to its end, 20 seconds at most."""
    stdin = asyncio.subprocess.DEVNULL if standard_input is None else asyncio.subprocess.PIPE
    async with started(module, *arguments, environment=environment, stdin=stdin) as process:
        async with asyncio.timeout(20):
            output, error = await process.communicate(standard_input)
    return Ended(process.returncode, error.decode(), output.decode())


@asynccontextmanager
async def started(
    module: str,
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python -m module`` while it runs; killed at the end if need be."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *map(str, arguments)),
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONWARNINGS": "error",
            **(environment or {}),
        },
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
