# SPDX-License-Identifier: Apache-2.0
"""How MASTER's loops share its one processor with each other and with whoever sends a ping."""

from typing import Final

from discluster.clock import Clock

# Seconds. What only time changes is looked at so often.
TICK: Final = 1.0
_SHARE: Final = 4.0
_LONGEST: Final = 1.0


async def rest(began: float, *, clock: Clock) -> float:
    """Four times as long as the work took that ``began`` then (monotonic seconds), a second at
    most: what a thousand hosts say at once is looked at in few passes instead of in one for each.
    Returns how long.
    """
    pause = min(_LONGEST, _SHARE * max(0.0, clock.monotonic() - began))
    await clock.sleep(pause)
    return pause
