# SPDX-License-Identifier: Apache-2.0
"""What this process uses of the machine."""

import os
import time
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds() -> float:
    """CPU time since the process began, of all its threads."""
    return time.process_time()


def resident() -> int | None:
    """Bytes in memory; None where the kernel does not tell (proc_pid_statm(5))."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None
