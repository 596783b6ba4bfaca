# SPDX-License-Identifier: Apache-2.0
"""The daily budget of session starts. Pure; times are wall-clock seconds that never jump.

Discord counts every IDENTIFY of a token, refills the count 24 hours after the first one, and resets
the token when it is exceeded (Discord: Gateway, Session Start Limit Object). What Discord answers
may be older than an IDENTIFY that is on its way, so within one day nothing that it says makes the
count higher than our own; it makes it lower when somebody else identifies with the same token.
"""

import math
from typing import Final

import msgspec

from discluster.clock import DAY

# What Discord gives every bot at least, until it has said how many there are.
_LEAST_TOTAL: Final = 1000


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of ``total`` until ``resets_at``. ``confirmed``: Discord named that instant.

    It is the word of Discord's at which a day ends. Without one a new day of ours must not begin
    before Discord's may, so it ends 24 hours after the last IDENTIFY, not after the first.
    ``began``: when we refilled it; None if Discord told of this day first.
    """

    total: int
    remaining: int
    resets_at: float
    confirmed: bool = True
    began: float | None = None

    @property
    def latest_end(self) -> float:
        """When the day is over for certain; each IDENTIFY moves it until Discord has named it."""
        return self.resets_at if self.confirmed else math.inf

    def at(self, now: float) -> "Budget":
        """The same at ``now``: refilled, if its time has come."""
        if now < self.resets_at:
            return self
        days = math.floor((now - self.resets_at) / DAY) + 1
        return Budget(
            total=self.total,
            remaining=self.total,
            resets_at=self.resets_at + days * DAY,
            confirmed=False,
            began=self.resets_at + (days - 1) * DAY,
        )

    def spent(self, count: int, now: float) -> "Budget":
        """After ``count`` more identifies."""
        current = self.at(now)
        ends = current.resets_at if current.confirmed else max(current.resets_at, now + DAY)
        left = max(0, current.remaining - count)
        return msgspec.structs.replace(current, remaining=left, resets_at=ends)

    def returned(self, count: int) -> "Budget":
        """``count`` permits came back unused."""
        left = min(self.total, self.remaining + count)
        return msgspec.structs.replace(self, remaining=left)

    def reserve(self, fraction: float) -> int:
        """How many are kept, of the total."""
        return math.ceil(self.total * fraction)


def assumed(now: float) -> Budget:
    """While Discord cannot be asked and never was."""
    return Budget(total=_LEAST_TOTAL, remaining=_LEAST_TOTAL, resets_at=now + DAY, confirmed=False)


def refreshed(
    own: Budget | None, *, total: int, remaining: int, reset_after: float, now: float
) -> Budget:
    """Our count and Discord's answer in one. ``reset_after``: seconds; 0 if nothing was used."""
    confirmed = reset_after > 0
    resets_at = now + (reset_after if confirmed else DAY)
    theirs = Budget(
        total=total,
        remaining=min(remaining, total),
        resets_at=resets_at,
        confirmed=confirmed,
    )
    if own is None:
        return theirs
    own = own.at(now)
    used = own.total - own.remaining
    left = max(0, min(total - used, theirs.remaining))
    before_its_day = own.began is not None and resets_at < own.began + DAY
    if used and (not confirmed or before_its_day):
        # Asked before the first IDENTIFY arrived, or even before the reset.
        return msgspec.structs.replace(own, total=total, remaining=left)
    if own.confirmed:
        # An answer that was on its way names a later instant than the true one, never an earlier.
        resets_at = min(resets_at, own.resets_at)
    return msgspec.structs.replace(theirs, remaining=left, resets_at=resets_at)
