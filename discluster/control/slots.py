# SPDX-License-Identifier: Apache-2.0
"""Identify slots: pacing by the wall clock while MASTER is away. Pure.

Time is cut into windows of twice the identify interval. Window k belongs to the host whose slot is
``k % slots``; it may identify once per bucket, in the first quarter of its window. The rest is the
margin for clocks that differ and networks that delay: as long as the clocks of two hosts differ by
no more than half the interval (2.5 s by default), their identifies of one bucket are an interval
apart or more. That no two hosts have the same windows is MASTER's care (master/identify/slots.py).
"""

import math

from discluster.plan import IdentifySlots


def window_length(interval: float) -> float:
    """Seconds of one window."""
    return 2 * interval


def current_window(now: float, slots: IdentifySlots, interval: float) -> int | None:
    """The number of the window in which this host may identify at ``now``, None if it may not."""
    if slots.slot is None:
        return None
    length = window_length(interval)
    window = math.floor(now / length)
    early = now - window * length <= length / 4
    return window if early and window % slots.slots == slots.slot else None


def ends_in(now: float, window: int, interval: float) -> float:
    """Seconds for which this host may still identify in ``window``."""
    length = window_length(interval)
    return window * length + length / 4 - now


def next_window_start(now: float, slots: IdentifySlots, interval: float) -> float:
    """When the next window of this host begins, strictly after ``now``; never if it has none."""
    if slots.slot is None:
        return math.inf
    length = window_length(interval)
    window = math.floor(now / length) + 1
    window += (slots.slot - window) % slots.slots
    return window * length
