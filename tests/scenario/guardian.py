# SPDX-License-Identifier: Apache-2.0
"""Ends what a fleet on loopback left running when its test, or the demo, was killed.

``python -m tests.scenario.guardian DIRECTORY`` waits for the end of its standard input, which its
parent holds open for as long as it lives. Every program of a fleet has its settings file there;
what else names the directory is somebody's who looks at the fleet, and is left alone.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def processes_of(directory: Path) -> list[int]:
    """All processes with ``directory`` in their command line."""
    return _processes_with(os.fsencode(directory))


def programs_of(directory: Path) -> list[int]:
    """The programs of the fleet in ``directory``."""
    return _processes_with(b"--config\0" + os.fsencode(directory) + b"/")


def _processes_with(words: bytes) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it just ended
                if words in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def main() -> int:
    directory = Path(sys.argv[1])
    sys.stdin.buffer.read()
    # CONTROL restarts clusters that end, so until nobody is left.
    while left := programs_of(directory):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
