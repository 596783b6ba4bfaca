# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next attempt, as bounds; the caller draws within them.

The lower bounds keep a shard below ten dials a minute whatever happens to it, the spread keeps a
thousand shards from dialing in step.
"""

import random
from typing import Final

import msgspec

RESUME_CAP: Final = 30.0
DIAL_CAP: Final = 60.0
# A shard that identifies in vain for a whole day spends less than 200 of the daily budget.
IDENTIFY_CAP: Final = 600.0


class Delay(msgspec.Struct, frozen=True):
    """Bounds in seconds."""

    low: float
    high: float

    def draw(self, rng: random.Random) -> float:
        """A delay within the bounds, in seconds."""
        return rng.uniform(self.low, self.high)


AT_ONCE: Final = Delay(0.0, 1.0)
INVALID: Final = Delay(1.0, 5.0)  # Discord asks for it after op 9: it staggers the clients


def before_resume(losses: int) -> Delay:
    """Before a RESUME; ``losses``: connections lost before this one since the last good minute.

    The first is as good as immediate, since the replay buffer at Discord is short.
    """
    return AT_ONCE if losses == 0 else _doubling(1.0, losses, RESUME_CAP)


def before_dial(losses: int) -> Delay:
    """After a dial that failed, or a socket that died before HELLO."""
    return _doubling(1.0, losses, DIAL_CAP)


def before_identify(identifies: int) -> Delay:
    """Before an IDENTIFY; ``identifies``: those spent since the last good minute."""
    return INVALID if identifies <= 1 else _doubling(5.0, identifies - 1, IDENTIFY_CAP)


def _doubling(base: float, times: int, cap: float) -> Delay:
    high = min(cap, base * 2.0 ** min(times, 32))
    return Delay(high / 2, high)
