# SPDX-License-Identifier: Apache-2.0
"""Runs parts of the tests side by side: those that compute beside those that mostly wait.

``python -m tests.streams tests/unit,tests/faults tests/scenario``: two streams, in each one part
after the other, each by its own pytest. What a part says is shown in one piece when it has ended.
After a failure no further part begins.
"""

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Sequence


async def run_streams(streams: Sequence[Sequence[str]]) -> bool:
    """Whether all parts passed. Parts that still run when this is cancelled are ended."""
    failed: list[str] = []
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(_run_stream(stream, failed))
    return not failed


async def _run_stream(parts: Sequence[str], failed: list[str]) -> None:
    for part in parts:
        if failed:
            _tell(f"{part}: not run, since {failed[0]} failed")
        elif not await _passes(part):
            failed.append(part)


async def _passes(part: str) -> bool:
    began = time.monotonic()
    _tell(f"{part}: begins")
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", part), stdout=said, stderr=said
        )
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)  # so that it ends what it started
                await process.wait()
            said.seek(0)
            _tell(said.read().decode(errors="replace").rstrip())
        took = time.monotonic() - began
        _tell(f"{part}: {'passed' if status == 0 else 'FAILED'} after {took:.0f} s")
        return status == 0


def _tell(text: str) -> None:
    print(text, flush=True)


def main(argv: Sequence[str]) -> int:
    return 0 if asyncio.run(run_streams([stream.split(",") for stream in argv])) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
