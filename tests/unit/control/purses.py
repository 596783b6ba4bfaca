# SPDX-License-Identifier: Apache-2.0
"""A host that may identify as often as it likes, for tests of other things."""

from discluster.clock import Clock
from discluster.control.allowance import Purse, Share


def full_purse(clock: Clock, limit: int = 1000) -> Purse:
    """``limit``: identifies without MASTER, until a reset that does not come."""
    share = Share(serial=1, limit=limit, daily=limit, resets_at=clock.wall() + 1e6)
    return Purse(share, save=lambda _: None, clock=clock)
