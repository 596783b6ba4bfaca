# SPDX-License-Identifier: Apache-2.0
"""In which order a RESUME is answered. Pure."""

from __future__ import annotations

from itertools import chain, zip_longest

from discluster.simulator.deeds import Order


def replay_order(order: Order, missed: range, resumed: int | None) -> list[int] | None:
    """Sequences to send, in order; None for the usual course.

    `missed`: sequences that the client has not seen; `resumed`: RESUMED's own, if it is sent.
    "interleaved" deals the older and the newer half alternately: to the client, the newer look
    like live events.
    """
    last = [] if resumed is None else [resumed]
    events = list(missed)
    if order == "in-order":
        return None
    if order in ("nothing", "resumed-only"):
        return last
    if order == "resumed-first":
        return last + events
    if order == "doubled":
        return events + events + last
    if order == "reversed":
        return events[::-1] + last
    middle = (len(events) + 1) // 2
    pairs = zip_longest(events[:middle], events[middle:])
    return [seq for seq in chain.from_iterable(pairs) if seq is not None] + last
