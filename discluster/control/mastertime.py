# SPDX-License-Identifier: Apache-2.0
"""MASTER's monotonic clock as seen from this machine's. Pure.

MASTER says by its own clock from when until when a permit may be used. A question with its answer,
in which MASTER says what its clock shows, bounds how far apart the two are: MASTER read its clock
between the question and the answer. Where in between is not known. The middle is right if the ways
there and back take the same; it is trusted so far and no further, since either end of an exchange
may have stood still.
"""

from collections import deque
from typing import Final

import msgspec

# As old as the oldest may be, two clocks have drifted by a few milliseconds.
_KEPT: Final = 8
# Seconds; from two hosts that err in opposite ways it is the margin of the default interval.
TRUST: Final = 0.025


class _Sample(msgspec.Struct, frozen=True):
    """Here ``asked`` and ``heard``, at MASTER ``told``; seconds."""

    asked: float
    told: float
    heard: float


class MasterTime:
    """Of one connection: another MASTER, or the same on another day, has another clock."""

    def __init__(self, *, asked: float, told: float, heard: float) -> None:
        """A first exchange; see :meth:`learn`."""
        self._samples: deque[_Sample] = deque(maxlen=_KEPT)
        self.learn(asked=asked, told=told, heard=heard)

    def learn(self, *, asked: float, told: float, heard: float) -> None:
        """MASTER's clock showed ``told`` between the instants ``asked`` and ``heard`` of ours."""
        self._samples.append(_Sample(asked, told, heard))

    def not_before(self, instant: float) -> float:
        """When it is ``instant`` at MASTER, by our clock: rather too late, and too early by
        :data:`TRUST` at most.
        """
        latest = min(sample.heard - sample.told for sample in self._samples)
        return instant + max(self._middle(), latest - TRUST)

    def there(self, instant: float) -> float:
        """What MASTER's clock shows at ``instant`` of ours: rather too late, and too early by
        :data:`TRUST` at most.
        """
        return instant - min(self._middle(), self._earliest() + TRUST)

    def surely_before(self, instant: float) -> float:
        """An instant of ours at which it is not later than ``instant`` at MASTER, for certain."""
        return instant + self._earliest()

    def _earliest(self) -> float:
        return max(sample.asked - sample.told for sample in self._samples)

    def _middle(self) -> float:
        quickest = min(self._samples, key=lambda sample: sample.heard - sample.asked)
        return (quickest.asked + quickest.heard) / 2 - quickest.told
