# SPDX-License-Identifier: Apache-2.0
"""Identify slots: pacing by the wall clock while MASTER is away. Pure.

Time is cut into windows of twice the identify interval. Window k belongs to the host whose slot is
``k % slots``; it may identify once per bucket, in the first quarter of its window. The rest is the
margin for clocks that differ and networks that delay: as long as the clocks of two hosts differ by
no more than half the interval (2.6 s by default), their identifies of one bucket are an interval
apart or more. The hosts must agree on ``slots``, which are the same in all plans of a generation.
"""

import math

from discluster.plan import IdentifySlots


def window_length(interval: float) -> float:
    """Seconds of one window."""
    return 2 * interval


def current_window(now: float, slots: IdentifySlots, interval: float) -> int | None:
    """The number of the window in which this host may identify at ``now``, None if it may not."""
    length = window_length(interval)
    window = math.floor(now / length)
    early = now - window * length <= length / 4
    return window if early and window % slots.slots == slots.slot else None


def next_window_start(now: float, slots: IdentifySlots, interval: float) -> float:
    """When the next window of this host begins, strictly after ``now``."""
    length = window_length(interval)
    window = math.floor(now / length) + 1
    window += (slots.slot - window) % slots.slots
    return window * length
