# SPDX-License-Identifier: Apache-2.0
"""Ends what a fleet on loopback left running when its test, or the demo, was killed.

``python -m tests.scenario.guardian DIRECTORY`` waits for the end of its standard input, which its
parent holds open for as long as it lives. Every process of a fleet names its directory.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def processes_of(directory: Path) -> list[int]:
    """Processes with ``directory`` in their command line, but for this one."""
    wanted, found = os.fsencode(directory), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if wanted in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def main() -> int:
    directory = Path(sys.argv[1])
    sys.stdin.buffer.read()
    # CONTROL restarts clusters that end, so until nobody is left.
    while left := processes_of(directory):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
