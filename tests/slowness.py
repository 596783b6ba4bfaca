# SPDX-License-Identifier: Apache-2.0
"""How slow the machine is just now. Virtual machines share theirs with others: what takes a second
in one hour takes three in the next.
"""

import statistics
import time
from typing import Final

_USUAL: Final = 0.05  # seconds that the work takes on the machine that limits were set on
_ROUNDS: Final = 5


def slowness() -> float:
    """What to multiply a limit by that was set on a machine of its own: 2 or more. Twice what is
    measured here, since memory is slow at such times as well, and is not measured.
    """
    return 2 * max(1.0, statistics.median(_taken() for _ in range(_ROUNDS)) / _USUAL)


def _taken() -> float:
    began = time.process_time()
    total = 0
    for number in range(1_000_000):
        total += number
    return time.process_time() - began
