# SPDX-License-Identifier: Apache-2.0
"""How much of this process's time one peer may take. Pure; the caller passes the time.

A peer that says more than that is read later: its own connection fills up, and nobody else waits.
"""

from typing import Final

# Of the processor. A host with 16,000 shards that all change needs as much.
SHARE: Final = 0.25
# Seconds of work at a time; a fleet's start comes in such bursts.
CREDIT: Final = 1.0
# What a message costs at least, in seconds: reading it is not free, whatever it says.
LEAST: Final = 0.0002
# Seconds; pings must be answered in between.
LONGEST: Final = 1.0


class Pace:
    """Of one peer."""

    def __init__(self) -> None:
        self._debt = 0.0
        self._at = float("-inf")

    def spent(self, took: float, now: float) -> float:
        """A message took so many seconds; for how many to read nothing more from this peer."""
        left = max(0.0, self._debt - (now - self._at) * SHARE)
        self._debt = min(left + max(took, LEAST), CREDIT + LONGEST * SHARE)
        self._at = now
        return max(0.0, self._debt - CREDIT) / SHARE
